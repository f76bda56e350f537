use super::*;

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
    std::fs::write(path, text).expect("writable");
}

#[test]
fn pnpm_lists_are_read_in_both_notations() {
    let expected = ["apps/*", "!apps/x"];
    assert_eq!(
        pnpm_packages("packages:\n  - 'apps/*' # a\n\n  - \"!apps/x\"\nother: 1\n"),
        expected
    );
    assert_eq!(pnpm_packages("packages: ['apps/*', '!apps/x']\n"), expected);
    assert_eq!(pnpm_packages("catalog:\n  a: 1\n"), Vec::<String>::new());
    let globs = expected.map(str::to_owned);
    assert!(matches(&globs, "apps/bot"));
    assert!(!matches(&globs, "apps/x"));
    assert!(!matches(&globs, "apps/bot/deep"));
}

#[test]
fn a_member_is_uploaded_with_its_workspace_and_a_stranger_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path().canonicalize().expect("exists");
    write(&at, "mono/package.json", r#"{"workspaces":["apps/*"]}"#);
    write(&at, "mono/apps/bot/package.json", "{}");
    write(&at, "mono/tools/x/package.json", "{}");
    let spec = AgentSpec::named("bot".parse().expect("a name"));
    let located = locate(&at.join("mono/apps/bot"), &spec).expect("located");
    assert_eq!(located.context, at.join("mono"));
    assert_eq!(located.root_dir, "apps/bot");
    assert_eq!(located.spec(&spec).root_dir, "apps/bot");
    let located = locate(&at.join("mono/tools/x"), &spec).expect("located");
    assert_eq!(
        (located.context, located.root_dir.as_str()),
        (at.join("mono/tools/x"), ".")
    );
}

#[test]
fn the_search_stops_at_the_repository() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path().canonicalize().expect("exists");
    write(&at, "package.json", r#"{"workspaces":["**"]}"#);
    write(&at, "repo/.git/HEAD", "");
    let spec = AgentSpec::named("bot".parse().expect("a name"));
    let located = locate(&at.join("repo"), &spec).expect("located");
    assert_eq!(located.context, at.join("repo"));
}

#[test]
fn a_named_context_must_hold_the_agent() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let at = folder.path();
    write(at, "a/x.py", "");
    write(at, "b/x.py", "");
    let mut spec = AgentSpec::named("bot".parse().expect("a name"));
    spec.context_dir = Some("..".to_owned());
    let located = locate(&at.join("a"), &spec).expect("located");
    assert_eq!(located.root_dir, "a");
    spec.context_dir = Some("../b".to_owned());
    assert!(matches!(
        locate(&at.join("a"), &spec),
        Err(PlanError::RootOutsideContext { .. })
    ));
}
