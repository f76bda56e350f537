use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::check_root;
use super::finding::Rule;

/// A small repository on disk; `Cargo.toml` of the root lists `crates/*`.
struct Fixture {
    dir: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let fixture = Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        };
        fixture.with("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n")
    }

    fn with(self, path: &str, text: &str) -> Self {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("folders");
        fs::write(path, text).expect("a file of the fixture");
        self
    }

    /// A package with an empty library and these lines after `[package]`.
    fn package(self, name: &str, rest: &str) -> Self {
        let manifest = format!("[package]\nname = \"{name}\"\n{rest}");
        self.with(&format!("crates/{name}/Cargo.toml"), &manifest)
            .with(&format!("crates/{name}/src/lib.rs"), "")
    }

    fn root(&self) -> &Path {
        self.dir.path()
    }

    #[track_caller]
    fn finds(&self, expected: &[&str]) {
        let findings = check_root(self.root()).expect("the fixture can be read");
        let found: Vec<_> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[track_caller]
    fn breaks(&self, expected: &[Rule]) {
        let findings = check_root(self.root()).expect("the fixture can be read");
        let rules: Vec<_> = findings.iter().map(|finding| finding.rule).collect();
        assert_eq!(rules, expected, "{findings:#?}");
    }
}

#[test]
fn a_tree_that_follows_the_rules_has_no_findings() {
    Fixture::new()
        .package("parallax-core", "[dependencies]\nserde.workspace = true\n")
        .package(
            "parallax-store",
            "[dependencies]\nparallax-core.workspace = true\n",
        )
        .finds(&[]);
}

#[test]
fn a_module_of_the_server_may_not_name_one_above_it() {
    let tasks = "use crate::auth::require;\nuse crate::jobs::reconcile::Dirty;\n";
    let call = "fn f() {\n    // As crate::app::App says.\n    crate::app::g();\n}\n";
    Fixture::new()
        .package("parallax-server", "")
        .with("crates/parallax-server/src/lib.rs", "mod app;\nmod dispatch;\nmod jobs;\n")
        .with("crates/parallax-server/src/app.rs", tasks)
        .with("crates/parallax-server/src/dispatch.rs", &format!("{call}mod tests;\n"))
        .with("crates/parallax-server/src/dispatch/tests.rs", "use crate::app::App;\n")
        .with("crates/parallax-server/src/jobs.rs", "use crate::app::App;\n")
        .finds(&[
            "crates/parallax-server/src/app.rs:2: module-arrow: `app` may not name `jobs`, which stands above it; move what both need down",
            "crates/parallax-server/src/dispatch.rs:3: module-arrow: `dispatch` may not name `app`, which stands above it; move what both need down",
        ]);
}

#[test]
fn a_crate_may_not_point_against_the_arrows() {
    Fixture::new()
        .package("parallax-core", "[dependencies]\nparallax-store.workspace = true\n")
        .finds(&[
            "crates/parallax-core/Cargo.toml:4: crate-arrow: parallax-core may depend on no crate of the workspace, found parallax-store; remove it",
        ]);
}

#[test]
fn only_dev_dependencies_point_at_the_testkit() {
    let dev = "[dev-dependencies]\nparallax-testkit.workspace = true\n";
    Fixture::new().package("parallax-store", dev).finds(&[]);
    let normal = "[dependencies]\nparallax-testkit.workspace = true\n";
    Fixture::new()
        .package("parallax-cli", normal)
        .breaks(&[Rule::CrateArrow]);
}

#[test]
fn arrows_behind_a_target_condition_count() {
    let rest = "[target.'cfg(unix)'.dependencies]\nparallax-server.workspace = true\n";
    Fixture::new()
        .package("parallax-runtime", rest)
        .breaks(&[Rule::CrateArrow]);
}

#[test]
fn a_crate_without_a_row_needs_one_before_its_first_arrow() {
    Fixture::new()
        .package(
            "parallax-new",
            "[dependencies]\nparallax-core.workspace = true\n",
        )
        .breaks(&[Rule::CrateArrow]);
}

#[test]
fn versions_come_from_the_workspace() {
    Fixture::new()
        .package(
            "parallax-api",
            "[dependencies]\nserde = \"1\"\nbytes = { version = \"1\" }\n",
        )
        .breaks(&[Rule::WorkspaceDependency, Rule::WorkspaceDependency]);
}

#[test]
fn tokio_may_not_reach_the_shim_even_through_another_crate() {
    let lock =
        "[[package]]\nname = \"helper\"\nversion = \"1.0.0\"\ndependencies = [\"tokio 1.0.0\"]\n";
    Fixture::new()
        .with("Cargo.lock", lock)
        .package("parallax-shim", "[dependencies]\nhelper.workspace = true\n")
        .finds(&[
            "crates/parallax-shim/Cargo.toml:4: forbidden-dependency: parallax-shim must stay free of tokio, found helper → tokio; use std, or move the code",
        ]);
}

#[test]
fn sqlx_and_sql_belong_to_the_store() {
    Fixture::new()
        .package("parallax-server", "[dependencies]\nsqlx.workspace = true\n")
        .with(
            "crates/parallax-server/src/lib.rs",
            "pub const Q: &str = \"SELECT 1\";\npub const S: &str = \"Selected\";\n",
        )
        .breaks(&[Rule::ForbiddenDependency, Rule::SqlOutsideStore]);
}

#[test]
fn long_functions_are_found_and_generated_code_is_not() {
    let long = format!("pub fn long() {{\n{}}}\n", "    ();\n".repeat(70));
    Fixture::new()
        .package("parallax-core", "")
        .with("crates/parallax-core/src/lib.rs", &format!("mod generated;\n{long}"))
        .with("crates/parallax-core/src/generated.rs", "mod code;\n")
        .with("crates/parallax-core/src/generated/code.rs", &long)
        .finds(&[
            "crates/parallax-core/src/lib.rs:2: function-budget: long has 72 lines, the budget is 70; split it",
        ]);
}

#[test]
fn long_files_of_every_language_are_found() {
    Fixture::new()
        .with("sdks/python/src/agent.py", &"x = 1\n".repeat(501))
        .with(
            "sdks/python/src/_generated/agent.py",
            &"x = 1\n".repeat(501),
        )
        .breaks(&[Rule::FileBudget]);
}

#[test]
fn the_allow_list_lets_what_it_names_stay_but_not_grow() {
    let file = |lines: usize| {
        Fixture::new()
            .with("xtask/tidy-allow.toml", "[files]\n\"sdks/a.py\" = 510\n")
            .with("sdks/a.py", &"x = 1\n".repeat(lines))
    };
    file(510).finds(&[]);
    file(511).breaks(&[Rule::FileBudget]);
    file(505).finds(&[
        "xtask/tidy-allow.toml:2: allow-list: `sdks/a.py` shrank to 505 lines; lower the entry to 505",
    ]);
    file(500).finds(&[
        "xtask/tidy-allow.toml:2: allow-list: `sdks/a.py` is within the budget now; remove the entry",
    ]);
}

#[test]
fn files_outside_the_module_tree_are_orphans() {
    Fixture::new()
        .package("parallax-core", "")
        .with(
            "crates/parallax-core/src/lib.rs",
            "mod a;\nmod b { mod inner; }\n#[path = \"other/place.rs\"]\nmod c;\n",
        )
        .with("crates/parallax-core/src/a.rs", "mod below;\n")
        .with("crates/parallax-core/src/a/below.rs", "")
        .with("crates/parallax-core/src/b/inner.rs", "")
        .with("crates/parallax-core/src/other/place.rs", "")
        .with("crates/parallax-core/src/lost.rs", "")
        .with("crates/parallax-core/tests/it/main.rs", "mod case;\n")
        .with("crates/parallax-core/tests/it/case.rs", "")
        .with("crates/parallax-core/tests/fixtures/app/main.rs", "not rust")
        .finds(&[
            "crates/parallax-core/src/lost.rs:1: orphan-file: no `mod` declaration of parallax-core reaches this file; declare it or delete it",
        ]);
}

#[test]
fn modules_are_named_after_their_folder() {
    Fixture::new()
        .package("parallax-core", "")
        .with("crates/parallax-core/src/lib.rs", "mod a;\n")
        .with("crates/parallax-core/src/a/mod.rs", "")
        .breaks(&[Rule::ModRs]);
}

#[test]
fn the_environment_is_read_in_config_modules_only() {
    let read =
        "use std::env::{self, var_os};\npub fn f() { println!(\"{:?}\", std::env::var(\"A\")); }\n";
    Fixture::new()
        .package("parallax-cli", "")
        .with(
            "crates/parallax-cli/src/lib.rs",
            "mod config;\nmod other;\n",
        )
        .with("crates/parallax-cli/src/config.rs", read)
        .with("crates/parallax-cli/src/other.rs", read)
        .breaks(&[Rule::EnvRead, Rule::EnvRead]);
}

#[test]
fn nobody_writes_the_environment() {
    Fixture::new()
        .package("parallax-testkit", "")
        .with(
            "crates/parallax-testkit/src/lib.rs",
            "fn f() { unsafe { std::env::set_var(\"A\", \"b\") } }\n",
        )
        .breaks(&[Rule::EnvWrite]);
}

#[test]
fn a_skip_that_would_not_be_counted_is_found() {
    let print = concat!("fn f() { eprintln!(\"SKIP", "PED it: no database\"); }\n");
    Fixture::new()
        .package("parallax-store", "")
        .with("crates/parallax-store/src/lib.rs", print)
        .breaks(&[Rule::SkipUncounted]);
}

#[test]
fn unfinished_markers_are_found_as_whole_words() {
    let marker = concat!("TO", "DO");
    Fixture::new()
        .with(
            "docs/a.md",
            &format!("mktemp X{marker}X\n\n{marker}: write this\n"),
        )
        .breaks(&[Rule::UnfinishedMarker]);
}

#[test]
fn documents_name_no_path_of_one_machine() {
    let text = "see ../work/notes, target/tmp/x and https://example.com/tmp/x\ncd /tmp/demo\n";
    Fixture::new().with("README.md", text).finds(&[
        "README.md:2: machine-path: /tmp exists on one machine only; use a relative path",
    ]);
}

#[test]
fn what_git_ignores_is_not_checked() {
    Fixture::new()
        .with(".gitignore", "vendor/\n")
        .with("examples/a/vendor/big.py", &"x = 1\n".repeat(600))
        .finds(&[]);
}
