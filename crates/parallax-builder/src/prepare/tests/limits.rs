//! What an archive may hold at most.

use super::*;

#[test]
fn limits_hold_for_entries_bytes_and_bombs() {
    let limits = Limits {
        entries: 3,
        expanded_bytes: 1000,
        ..Limits::default()
    };
    let check = |entries: &[Raw]| inspect(forge(entries).as_slice(), &limits);
    let many: Vec<Raw> = (0..4).map(|i| file(&format!("f{i}"), "")).collect();
    assert!(matches!(check(&many), Err(UnpackError::TooManyEntries(3))));
    assert!(matches!(
        check(&[file("a/b/c/d", "")]),
        Err(UnpackError::TooManyEntries(3))
    ));
    let half = "x".repeat(501);
    let two = [file("a", &half), file("b", &half)];
    assert!(matches!(check(&two), Err(UnpackError::TooLarge(1000))));
    let linked = [file("a", &half), raw("b", EntryType::Link, "a", "")];
    assert!(matches!(check(&linked), Err(UnpackError::TooLarge(1000))));
    let huge_header = raw("pax", EntryType::XHeader, "", &"x".repeat(100_000));
    assert!(matches!(
        check(&[huge_header]),
        Err(UnpackError::BadHeader(_))
    ));
}

#[test]
fn the_lengths_of_all_paths_together_are_bounded() {
    let limits = Limits {
        paths_bytes: 100,
        ..Limits::default()
    };
    let check = |entries: &[Raw]| inspect(forge(entries).as_slice(), &limits);
    let long = "n".repeat(50);
    let other = "m".repeat(50);
    assert!(check(&[file(&long, ""), file(&other, "")]).is_ok());
    let refused = |entries: &[Raw]| matches!(check(entries), Err(UnpackError::PathsTooLong(100)));
    assert!(refused(&[file(&long, ""), file(&other, ""), file("x", "")]));
    assert!(refused(&[file(&long, ""), link("l", &other)]));
    // The folders on the way: `nnn` and `nnn/mmm`.
    let implied = format!("{}/{}/x", &long[..30], &other[..30]);
    assert!(refused(&[file(&implied, "")]));
    let folder = temporary();
    write(folder.path(), &format!("{long}/{other}"), "");
    let excludes = Excludes::of(folder.path()).expect("valid patterns");
    let packed = pack(folder.path(), &excludes, &limits, std::io::sink());
    assert!(
        matches!(
            packed,
            Err(PackError::TooLarge {
                paths_bytes: 100,
                ..
            })
        ),
        "{packed:?}"
    );
    let target = raw("", EntryType::GNULongLink, "", &"t".repeat(4096));
    assert_eq!(refusal(&[target, link("l", "")]), Refusal::TargetTooLong);
}
