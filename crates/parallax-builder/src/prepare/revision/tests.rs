use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::plan::{PackageManager, Resolved, Runtime, Start};
use crate::prepare::cache_key;
use crate::toolchain::Toolchain;
use crate::tree::SourceTree;

fn sample() -> Plan {
    Plan {
        version: 1,
        language: parallax_core::manifest::Language::Python,
        language_why: "test".to_owned(),
        package_manager: PackageManager {
            name: "pip".to_owned(),
            version: None,
            why: "test".to_owned(),
        },
        runtime: Runtime {
            name: "python".to_owned(),
            requirement: None,
            resolved: Resolved {
                version: "3.11.7".to_owned(),
                path: PathBuf::from("/usr/bin/python3"),
            },
            why: "test".to_owned(),
        },
        start: Start {
            argv: vec![".venv/bin/python".to_owned(), "a.py".to_owned()],
            env: std::collections::BTreeMap::new(),
            path: vec![".venv/bin".to_owned()],
            why: "test".to_owned(),
        },
        steps: Vec::new(),
        root_dir: ".".to_owned(),
        context_dir: ".".to_owned(),
        cache_inputs: vec!["requirements.txt".to_owned(), "vendor".to_owned()],
        dependency_dirs: vec![".venv".to_owned()],
        losers: Vec::new(),
        warnings: Vec::new(),
    }
}

#[test]
fn a_revision_is_there_as_a_whole_or_not_at_all() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = folder.path().join("builds");
    let begun = Revision::begin(&base, "bld_1").expect("begun");
    let mode = std::fs::metadata(begun.folder())
        .expect("made")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    std::fs::write(begun.tree().join("half"), "x").expect("writable");
    assert_eq!(Revision::finished(&base, "bld_1").expect("a name"), None);
    // As after a crash: the next build starts from nothing.
    let again = Revision::begin(&base, "bld_1").expect("begun again");
    assert!(!again.tree().join("half").exists());
    again.commit(&sample()).expect("committed");
    let finished = Revision::finished(&base, "bld_1")
        .expect("a name")
        .expect("finished");
    assert_eq!(finished.plan().expect("readable"), sample());
    assert!(matches!(
        Revision::begin(&base, "bld_1"),
        Err(RevisionError::Exists(_))
    ));
    finished.remove().expect("removed");
    finished.remove().expect("removing nothing is success");
    assert_eq!(Revision::finished(&base, "bld_1").expect("a name"), None);
}

#[test]
fn ids_are_plain_names() {
    for bad in ["", "..", "a/b", "a b", "a\0"] {
        assert!(matches!(
            Revision::begin(Path::new("/nonexistent"), bad),
            Err(RevisionError::BadId(_))
        ));
    }
}

#[test]
fn dependencies_are_keyed_by_their_inputs_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
        std::fs::write(path, text).expect("writable");
    };
    write("requirements.txt", "./vendor/sdk\n");
    write("vendor/sdk/sdk.py", "1");
    write("agent.py", "1");
    let key = |plan: &Plan| {
        let tree = SourceTree::open(root).expect("a folder");
        cache_key(plan, &Toolchain::default(), &tree).expect("readable")
    };
    let first = key(&sample()).expect("cacheable");
    write("agent.py", "2");
    assert_eq!(
        key(&sample()).as_ref(),
        Some(&first),
        "the agent's own code does not count"
    );
    let mut other = sample();
    other.runtime.resolved.version = "3.11.8".to_owned();
    assert_ne!(
        key(&other).as_ref(),
        Some(&first),
        "another interpreter counts"
    );
    write("vendor/sdk/sdk.py", "2");
    assert_ne!(
        key(&sample()).as_ref(),
        Some(&first),
        "vendored code counts"
    );
    let mut uncacheable = sample();
    uncacheable.cache_inputs.clear();
    assert_eq!(key(&uncacheable), None);
}
