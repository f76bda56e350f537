//! Small projects, one per rule, each with the plan (or the error) that it must yield.

use std::path::{Path, PathBuf};

use parallax_builder::{SourceTree, Toolchain, plan};
use parallax_core::manifest::{self, AgentSpec};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// The cases' folders, sorted.
pub(crate) fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder())
        .expect("the corpus exists")
        .map(|entry| entry.expect("the corpus is readable").path())
        .filter(|path| path.join("source").is_dir())
        .collect();
    cases.sort();
    cases
}

/// The plan as pretty JSON, or the error's text, as `expected.json` holds it.
pub(crate) fn outcome(case: &Path) -> String {
    let source = case.join("source");
    let spec = match std::fs::read_to_string(source.join(manifest::FILE_NAME)) {
        Ok(text) => manifest::parse(&text).expect("the case's manifest is valid"),
        Err(_) => AgentSpec::named("case".parse().expect("a name")),
    };
    let own = case.join("toolchain.json");
    let toolchain = if own.exists() {
        own
    } else {
        folder().join("toolchain.json")
    };
    let toolchain = std::fs::read_to_string(toolchain).expect("a toolchain");
    let toolchain: Toolchain = serde_json::from_str(&toolchain).expect("a toolchain");
    let tree = SourceTree::open(&source).expect("a source folder");
    let text = match plan(&tree, &spec.build(), &toolchain) {
        Ok(plan) => serde_json::to_string_pretty(&plan),
        Err(error) => serde_json::to_string_pretty(&serde_json::json!({
            "error": error.to_string()
        })),
    };
    text.expect("a plan serialises") + "\n"
}

#[test]
fn every_project_of_the_corpus_yields_its_plan() {
    let cases = cases();
    assert!(cases.len() >= 60, "the corpus has {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let expected = std::fs::read_to_string(case.join("expected.json"));
        let outcome = outcome(&case);
        if expected.ok().as_deref() != Some(&outcome) {
            wrong.push(format!("{}:\n{outcome}", case.display()));
        }
    }
    assert!(
        wrong.is_empty(),
        "these differ; after reading them, run the example `bless` of this crate:\n{}",
        wrong.join("\n")
    );
}
