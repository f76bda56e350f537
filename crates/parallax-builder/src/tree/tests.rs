use super::*;

#[test]
fn paths_are_joined_without_leaving_the_source() {
    assert_eq!(join(".", "a/./b").as_deref(), Some("a/b"));
    assert_eq!(join("a/b", "../c").as_deref(), Some("a/c"));
    assert_eq!(join("a", "..").as_deref(), Some("."));
    assert_eq!(join("a", "../.."), None);
    assert_eq!(join(".", "/etc/passwd"), None);
    assert_eq!(relative(".", "."), ".");
    assert_eq!(relative("apps/bot", "."), "../..");
    assert_eq!(relative("apps/bot", "packages/lib"), "../../packages/lib");
    assert_eq!(relative(".", "a"), "a");
}

#[test]
fn links_out_of_the_source_are_refused_and_links_inside_are_followed() {
    let outside = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(outside.path().join("secret"), "s").expect("writable");
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("real"), "r").expect("writable");
    let link = |target: &Path, name: &str| {
        std::os::unix::fs::symlink(target, folder.path().join(name)).expect("writable");
    };
    link(&outside.path().join("secret"), "out");
    link(Path::new("real"), "in");
    link(Path::new("nowhere"), "dangling");
    let tree = SourceTree::open(folder.path()).expect("a folder");
    assert!(matches!(tree.read("out"), Err(TreeError::Escapes { .. })));
    assert!(!tree.is_file("out"));
    assert_eq!(tree.read("in").expect("inside").as_deref(), Some("r"));
    assert_eq!(tree.read("dangling").expect("not there"), None);
    assert!(matches!(tree.read("../x"), Err(TreeError::Escapes { .. })));
}

#[test]
fn large_and_binary_files_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let big = std::fs::File::create(folder.path().join("big")).expect("writable");
    big.set_len(MAX_FILE_BYTES + 1).expect("sparse");
    std::fs::write(folder.path().join("binary"), [0xff, 0xfe]).expect("writable");
    let tree = SourceTree::open(folder.path()).expect("a folder");
    assert!(matches!(tree.read("big"), Err(TreeError::TooLarge { .. })));
    assert!(matches!(
        tree.read("binary"),
        Err(TreeError::NotText { .. })
    ));
}
