mod limits;

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tar::{EntryType, Header};

use super::*;

/// One raw entry; nothing about it is checked, as in an archive that somebody forged.
#[derive(Debug, Clone)]
struct Raw {
    path: Vec<u8>,
    kind: EntryType,
    target: Vec<u8>,
    content: Vec<u8>,
    mode: u32,
}

fn raw(path: &str, kind: EntryType, target: &str, content: &str) -> Raw {
    Raw {
        path: path.into(),
        kind,
        target: target.into(),
        content: content.into(),
        mode: 0o644,
    }
}

fn file(path: &str, content: &str) -> Raw {
    raw(path, EntryType::Regular, "", content)
}

fn link(path: &str, target: &str) -> Raw {
    raw(path, EntryType::Symlink, target, "")
}

fn forge(entries: &[Raw]) -> Vec<u8> {
    let mut tar = Vec::new();
    for entry in entries {
        let mut header = Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_size(entry.content.len() as u64);
        let gnu = header.as_gnu_mut().expect("made as GNU");
        let length = entry.path.len().min(100);
        gnu.name[..length].copy_from_slice(&entry.path[..length]);
        let length = entry.target.len().min(100);
        gnu.linkname[..length].copy_from_slice(&entry.target[..length]);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(&entry.content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    gzip(&tar)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory is writable");
    encoder.finish().expect("memory is writable")
}

fn temporary() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn unpacked(archive: &[u8]) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
    let folder = temporary();
    let result = unpack(archive, &folder.path().join("tree"), &Limits::default());
    (folder, result)
}

fn refusal(entries: &[Raw]) -> Refusal {
    let archive = forge(entries);
    let (_folder, result) = unpacked(&archive);
    let inspected = inspect(archive.as_slice(), &Limits::default());
    match (result, inspected) {
        (
            Err(UnpackError::Entry { refusal, .. }),
            Err(UnpackError::Entry { refusal: other, .. }),
        ) => {
            assert_eq!(refusal, other, "unpacking and inspecting agree");
            refusal
        }
        (result, _) => panic!("not refused: {result:?}"),
    }
}

#[test]
fn hostile_entries_are_refused_each_for_its_reason() {
    let cases = [
        (vec![file("/etc/passwd", "x")], Refusal::Absolute),
        (vec![file("../x", "x")], Refusal::Climbs),
        (vec![file("a/../../x", "x")], Refusal::Climbs),
        (vec![file("", "x")], Refusal::BadPath),
        (vec![link("l", "/etc")], Refusal::LinkEscapes("/etc".into())),
        (vec![link("l", "..")], Refusal::LinkEscapes("..".into())),
        (
            vec![link("a/l", "../../x")],
            Refusal::LinkEscapes("../../x".into()),
        ),
        // `up` is the root; only by following it does `l` climb out.
        (
            vec![link("a/b/up", "../.."), link("l", "a/b/up/..")],
            Refusal::LinkEscapes("a/b/up/..".into()),
        ),
        (
            vec![link("d", "sub"), file("d/x", "x")],
            Refusal::ThroughNonFolder("d".into()),
        ),
        (
            vec![file("f", ""), file("f/x", "")],
            Refusal::ThroughNonFolder("f".into()),
        ),
        (vec![file("f", "1"), link("f", "g")], Refusal::Duplicate),
        (vec![file("f", "1"), file("./f", "2")], Refusal::Duplicate),
        (vec![link("f", "g"), file("f", "2")], Refusal::Duplicate),
        (
            vec![raw("h", EntryType::Link, "/etc/shadow", "")],
            Refusal::Absolute,
        ),
        (
            vec![raw("h", EntryType::Link, "later", ""), file("later", "")],
            Refusal::LinkDangles("later".into()),
        ),
        (
            vec![link("l", "f"), raw("h", EntryType::Link, "l", "")],
            Refusal::LinkDangles("l".into()),
        ),
        (
            vec![raw("d", EntryType::Char, "", "")],
            Refusal::Special("device"),
        ),
        (
            vec![raw("d", EntryType::Block, "", "")],
            Refusal::Special("device"),
        ),
        (
            vec![raw("d", EntryType::Fifo, "", "")],
            Refusal::Special("FIFO"),
        ),
    ];
    for (entries, expected) in cases {
        assert_eq!(refusal(&entries), expected, "{entries:?}");
    }
    let bad = Raw {
        path: vec![0xff, 0xfe],
        ..file("", "x")
    };
    assert_eq!(refusal(&[bad]), Refusal::BadPath);
    let deep = "a/".repeat(45) + "x";
    assert_eq!(refusal(&[file(&deep, "")]), Refusal::PathTooLong);
}

#[test]
fn long_names_and_pax_records_are_held_to_the_same_rules() {
    let long_name = raw("././@LongLink", EntryType::GNULongName, "", "../escape\0");
    assert_eq!(
        refusal(&[long_name, file("harmless", "x")]),
        Refusal::Climbs
    );
    let pax = raw("pax", EntryType::XHeader, "", "18 path=../escape\n");
    assert_eq!(refusal(&[pax, file("harmless", "x")]), Refusal::Climbs);
    let pax = raw("pax", EntryType::XHeader, "", "23 linkpath=/etc/shadow\n");
    let pax = Raw {
        content: b"24 linkpath=/etc/shadow\n".to_vec(),
        ..pax
    };
    assert_eq!(
        refusal(&[pax, link("l", "x")]),
        Refusal::LinkEscapes("/etc/shadow".into())
    );
    for content in [
        "99 path=x\n",
        "x",
        "9 nothing\n",
        "11 size=99\n",
        "0 path=x\n",
    ] {
        let pax = raw("pax", EntryType::XHeader, "", content);
        let (_folder, result) = unpacked(&forge(&[pax, file("f", "")]));
        assert!(
            matches!(result, Err(UnpackError::BadHeader(_))),
            "{content}: {result:?}"
        );
    }
}

#[test]
fn modes_keep_only_whether_a_file_runs() {
    let mut suid = file("bin/tool", "#!/bin/sh\n");
    suid.mode = 0o6777;
    let (folder, result) = unpacked(&forge(&[suid, file("plain", "x")]));
    result.expect("safe");
    let mode = |path: &str| {
        let meta = std::fs::metadata(folder.path().join("tree").join(path)).expect("unpacked");
        meta.permissions().mode() & 0o7777
    };
    // The umask may take away more.
    assert_eq!(mode("bin/tool") & !0o755, 0);
    assert_eq!(mode("bin/tool") & 0o700, 0o700);
    assert_eq!(mode("plain") & !0o644, 0);
}

#[test]
fn inner_links_and_hard_links_work_and_hard_links_become_copies() {
    let entries = [
        file("a/real", "content"),
        link("a/near", "real"),
        link("top", "a/real"),
        link("a/up", "../a/real"),
        raw("copy", EntryType::Link, "a/real", ""),
    ];
    let (folder, result) = unpacked(&forge(&entries));
    result.expect("safe");
    let tree = folder.path().join("tree");
    for path in ["a/near", "top", "a/up", "copy"] {
        let text = std::fs::read_to_string(tree.join(path)).expect("readable");
        assert_eq!(text, "content", "{path}");
    }
    std::fs::write(tree.join("copy"), "changed").expect("writable");
    let text = std::fs::read_to_string(tree.join("a/real")).expect("readable");
    assert_eq!(text, "content");
}

#[test]
fn damage_is_an_error_and_never_a_shorter_tree() {
    let whole = forge(&[file("a", "content"), file("b", "content")]);
    let (_folder, result) = unpacked(b"this is no archive");
    assert!(
        matches!(result, Err(UnpackError::Malformed(_))),
        "{result:?}"
    );
    for length in [0, 5, whole.len() / 2, whole.len() - 4] {
        let (_folder, result) = unpacked(&whole[..length]);
        assert!(result.is_err(), "{length} of {} bytes", whole.len());
    }
}

#[test]
fn the_destination_must_be_empty() {
    let folder = temporary();
    std::fs::write(folder.path().join("old"), "").expect("writable");
    let result = unpack(forge(&[]).as_slice(), folder.path(), &Limits::default());
    assert!(matches!(result, Err(UnpackError::NotEmpty(_))));
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().expect("has a parent")).expect("writable");
    std::fs::write(path, text).expect("writable");
}

fn packed(root: &Path) -> (Packed, Vec<u8>) {
    let excludes = Excludes::of(root).expect("valid patterns");
    let mut archive = Vec::new();
    let packed = pack(root, &excludes, &Limits::default(), &mut archive).expect("packable");
    (packed, archive)
}

#[test]
fn a_tree_survives_packing_and_unpacking_with_one_digest() {
    let folder = temporary();
    let root = folder.path();
    write(root, "src/main.py", "print(1)\n");
    write(root, &format!("deep/{}/x", "n".repeat(200)), "long name");
    write(root, "ünïcode 🦀.txt", "text");
    std::fs::create_dir(root.join("empty")).expect("writable");
    symlink("src/main.py", root.join("link")).expect("writable");
    let run = root.join("run.sh");
    write(root, "run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o755)).expect("mine");
    let (first, archive) = packed(root);
    let (second, again) = packed(root);
    assert_eq!(
        (&first, &archive),
        (&second, &again),
        "equal folders give equal bytes"
    );
    let (copy, result) = unpacked(&archive);
    let result = result.expect("our own archives are safe");
    assert_eq!(result.entries, first.entries);
    let tree = copy.path().join("tree");
    let excludes = Excludes::none(&tree).expect("no patterns");
    let digest = digest_folder(&tree, &excludes, &Limits::default()).expect("readable");
    assert_eq!(digest, first.digest);
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o644)).expect("mine");
    assert_ne!(
        packed(root).0.digest,
        first.digest,
        "whether a file runs counts"
    );
}

#[test]
fn defaults_leave_out_what_is_fetched_or_secret_and_keep_vendor() {
    let folder = temporary();
    let root = folder.path();
    for path in [
        ".git/HEAD",
        "node_modules/x/i.js",
        "sub/node_modules/y",
        ".venv/bin/python",
        ".env",
        ".env.local",
        "__pycache__/a.pyc",
        "target/debug/x",
    ] {
        write(root, path, "left out");
    }
    write(root, ".gitignore", "vendor/\n");
    for path in [
        ".env.example",
        "vendor/sdk/index.js",
        "dist/a.js",
        "src/target/x",
    ] {
        write(root, path, "kept");
    }
    let (packed_tree, archive) = packed(root);
    let (copy, result) = unpacked(&archive);
    result.expect("safe");
    let tree = copy.path().join("tree");
    for path in [
        ".env.example",
        "vendor/sdk/index.js",
        "dist/a.js",
        "src/target/x",
        ".gitignore",
    ] {
        assert!(tree.join(path).is_file(), "{path}");
    }
    for path in [
        ".git",
        "node_modules",
        "sub/node_modules",
        ".venv",
        ".env",
        ".env.local",
        "target",
    ] {
        assert!(!tree.join(path).exists(), "{path}");
    }
    write(root, IGNORE_FILE, "*.js\n!dist/a.js\n");
    let (with_file, archive) = packed(root);
    assert_ne!(with_file.digest, packed_tree.digest);
    let (copy, result) = unpacked(&archive);
    result.expect("safe");
    let tree = copy.path().join("tree");
    assert!(tree.join("dist/a.js").is_file() && tree.join("target/debug/x").is_file());
    assert!(!tree.join("vendor/sdk/index.js").exists() && !tree.join(".git").exists());
}

#[test]
fn links_out_of_the_folder_and_sockets_are_not_packed() {
    let folder = temporary();
    symlink("/etc/passwd", folder.path().join("out")).expect("writable");
    let excludes = Excludes::of(folder.path()).expect("valid patterns");
    let result = pack(
        folder.path(),
        &excludes,
        &Limits::default(),
        std::io::sink(),
    );
    assert!(
        matches!(result, Err(PackError::LinkEscapes { .. })),
        "{result:?}"
    );
    let folder = temporary();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).expect("bound");
    let result = pack(
        folder.path(),
        &excludes,
        &Limits::default(),
        std::io::sink(),
    );
    assert!(matches!(result, Err(PackError::Special(_))), "{result:?}");
}

#[test]
fn a_moved_environment_names_its_new_place() {
    let folder = temporary();
    let (old, new) = (Path::new("/old/rev/.venv"), folder.path().join(".venv"));
    write(
        &new,
        "bin/uvicorn",
        "#!/old/rev/.venv/bin/python\nimport x\n",
    );
    write(
        &new,
        "pyvenv.cfg",
        "command = python -m venv /old/rev/.venv\n",
    );
    symlink("/usr/bin/python3", new.join("bin/python")).expect("writable");
    relocate_venv(&new, old).expect("mended");
    let text = std::fs::read_to_string(new.join("bin/uvicorn")).expect("readable");
    assert_eq!(text, format!("#!{}/bin/python\nimport x\n", new.display()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_archive_escapes_its_destination(
        entries in prop::collection::vec(
            (
                prop::sample::select(vec!["a", "b", "a/b", "a/b/c", "../x", "a/../../x", "/x", "./a", "b/../c", "a/b/../../../y"]),
                prop::sample::select(vec![EntryType::Regular, EntryType::Directory, EntryType::Symlink, EntryType::Link, EntryType::GNULongName, EntryType::XHeader]),
                prop::sample::select(vec!["a", "..", "../..", "b/..", "a/b/..", "../a", "/", ".", "b", "a/b/c"]),
                "[a-z]{0,5}",
            ),
            0..8,
        )
    ) {
        let folder = temporary();
        let outer = folder.path().canonicalize().expect("exists");
        let tree = outer.join("in/tree");
        let entries: Vec<Raw> = entries.iter().map(|(p, k, t, c)| raw(p, *k, t, c)).collect();
        // Refused or not: what counts is what is on disk afterwards.
        let _ = unpack(forge(&entries).as_slice(), &tree, &Limits::default());
        let listed = |at: &Path| -> Vec<_> {
            std::fs::read_dir(at).expect("exists").map(|e| e.expect("readable").file_name()).collect()
        };
        prop_assert_eq!(listed(&outer), ["in"]);
        prop_assert_eq!(listed(&outer.join("in")), ["tree"]);
        let mut folders = vec![tree.clone()];
        while let Some(at) = folders.pop() {
            for entry in std::fs::read_dir(&at).expect("exists") {
                let entry = entry.expect("readable");
                if entry.file_type().expect("readable").is_dir() {
                    folders.push(entry.path());
                }
                if let Ok(real) = entry.path().canonicalize() {
                    prop_assert!(real.starts_with(&tree), "{:?}", real);
                }
            }
        }
    }

    #[test]
    fn random_bytes_never_make_the_unpacker_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        // Only that both return matters here.
        let _ = inspect(bytes.as_slice(), &Limits::default());
        let _ = inspect(gzip(&bytes).as_slice(), &Limits::default());
    }
}
