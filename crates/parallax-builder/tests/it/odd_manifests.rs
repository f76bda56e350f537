//! Manifests that nobody would write: planning refuses them or copes, and never panics.

use parallax_builder::{SourceTree, Toolchain, plan};
use parallax_core::manifest::AgentSpec;
use proptest::prelude::*;

const FILES: [&str; 12] = [
    "package.json",
    "package-lock.json",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    ".yarnrc.yml",
    ".nvmrc",
    "pyproject.toml",
    "requirements.txt",
    "Pipfile",
    "uv.lock",
    ".python-version",
    "Procfile",
];

const TEXTS: [&str; 20] = [
    "",
    "{}",
    "[]",
    r#"{"main":"../x","scripts":{"start":""}}"#,
    r#"{"scripts":{"start":"node"},"packageManager":"@"}"#,
    r#"{"scripts":{"start":"node .","build":"x"},"workspaces":["**","!"]}"#,
    r#"{"engines":{"node":"é"},"devEngines":{"runtime":[]}}"#,
    r#"{"dependencies":{"a":"file:../../.."},"main":"/etc/passwd"}"#,
    "lockfileVersion:\npackages:\n -\n",
    "yarnPath: ../../x",
    "v\n",
    "lts/*",
    "[project]\nname = \"é\"\ndependencies = [\"@\", \"x @ file:///\"]\n[project.scripts]\na = \"b\"\n",
    "[project.scripts]\né = \":\"\n[tool.uv.sources]\na = { path = \"/\" }\n",
    "[tool.poetry.dependencies]\npython = \"^é\"\n",
    "-r\n-r requirements.txt\n-e\n-e ..\n@ file:\n==\n\\",
    "[requires]\npython_version = \"\"\n",
    "3.é.1",
    "a:\n:b\nweb: \"\nagent: $X",
    "99999999999999999999.1.1",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn odd_manifests_never_make_planning_panic(
        files in prop::collection::vec(
            (
                prop::sample::select(FILES.to_vec()),
                prop_oneof![
                    prop::sample::select(TEXTS.to_vec()).prop_map(str::to_owned),
                    "\\PC{0,80}",
                ],
            ),
            1..5,
        )
    ) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in &files {
            std::fs::write(folder.path().join(name), text).expect("writable");
        }
        std::fs::write(folder.path().join("main.py"), "").expect("writable");
        let toolchain = std::fs::read_to_string(super::corpus::folder().join("toolchain.json"));
        let toolchain: Toolchain =
            serde_json::from_str(&toolchain.expect("a toolchain")).expect("a toolchain");
        let spec = AgentSpec::named("odd".parse().expect("a name"));
        let tree = SourceTree::open(folder.path()).expect("a folder");
        if let Err(error) = plan(&tree, &spec.build(), &toolchain) {
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
