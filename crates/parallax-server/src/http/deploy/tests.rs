use std::collections::BTreeMap;

use parallax_builder::plan::{
    Loser, LoserKind, PackageManager, Phase, Resolved, Runtime, Start, Step,
};
use parallax_core::manifest::Language;

use super::*;

fn text(text: &str) -> String {
    text.to_owned()
}

fn pairs() -> BTreeMap<String, String> {
    [(text("A"), text("b"))].into_iter().collect()
}

#[test]
fn a_plan_is_shown_as_the_planner_prints_it() {
    let plan = Plan {
        version: 1,
        language: Language::Python,
        language_why: text("main.py"),
        package_manager: PackageManager {
            name: text("uv"),
            version: Some(text("0.9")),
            why: text("uv.lock"),
        },
        runtime: Runtime {
            name: text("python"),
            requirement: Some(text(">=3.11")),
            resolved: Resolved {
                version: text("3.13.1"),
                path: "/usr/bin/python3".into(),
            },
            why: text("the first"),
        },
        start: Start {
            argv: vec![text("python"), text("main.py")],
            env: pairs(),
            path: vec![text(".venv/bin")],
            why: text("main.py"),
        },
        steps: vec![Step {
            phase: Phase::Install,
            name: text("install dependencies"),
            argv: vec![text("uv"), text("sync")],
            env: pairs(),
            cwd: text("."),
            network: true,
            why: text("uv.lock"),
        }],
        root_dir: text("."),
        context_dir: text("."),
        cache_inputs: vec![text("uv.lock")],
        dependency_dirs: vec![text(".venv")],
        losers: vec![Loser {
            kind: LoserKind::PackageManager,
            what: text("pip"),
            why: text("uv.lock wins"),
        }],
        warnings: vec![text("no tests")],
    };
    let shown = serde_json::to_string(&plan_view(&plan)).expect("it has only string keys");
    let printed = serde_json::to_string(&plan).expect("it has only string keys");
    assert_eq!(shown, printed);
}
