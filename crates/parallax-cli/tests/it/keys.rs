//! API keys, and what a key may not do.

use std::fs;

use crate::harness::Home;

#[test]
fn a_key_does_what_its_scopes_say_until_it_is_revoked() {
    let home = Home::new();
    let _server = home.serve(&[]);
    let created = home.json(&[
        "keys",
        "create",
        "reader",
        "--scope",
        "read",
        "--expires",
        "1h",
    ]);
    let secret = created["secret"].as_str().expect("it is shown this once");
    fs::write(home.path().join("reader.key"), secret).expect("the home is writable");
    let with_key = |args: &[&str]| home.run(&[&["--api-key-file", "reader.key"], args].concat());
    assert_eq!(with_key(&["agents"]).code, Some(0));
    let denied = with_key(&["keys"]);
    assert_eq!(denied.code, Some(4), "{denied:#?}");
    assert!(
        denied.err.contains("[forbidden, request req_"),
        "{denied:#?}"
    );
    let id = created["key"]["id"].as_str().expect("an id");
    home.answer(&["keys", "revoke", id]);
    let revoked = with_key(&["agents"]);
    assert_eq!(revoked.code, Some(4), "{revoked:#?}");
    let listed = home.answer(&["keys", "list", "--all"]);
    assert!(
        listed
            .lines()
            .any(|line| line.contains("reader") && line.contains("revoked")),
        "{listed}"
    );
    assert!(!listed.contains(secret));
    let good = home.answer(&["keys"]);
    assert!(!good.contains("reader") && good.contains("admin"), "{good}");
}

#[test]
fn a_key_that_is_not_known_is_named_by_its_file() {
    let home = Home::new();
    let _server = home.serve(&[]);
    fs::write(home.path().join("old.key"), "plx_key_of_another_server").expect("the home is ours");
    let said = home.run(&["agents", "--api-key-file", "old.key"]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    assert!(said.err.contains("the one in old.key"), "{said:#?}");
    assert!(!said.err.contains("plx_key_of_another"), "{said:#?}");
}

#[test]
fn what_is_not_there_exits_with_3() {
    let home = Home::new();
    let _server = home.serve(&[]);
    for args in [
        vec!["status", "nobody"],
        vec!["logs", "nobody"],
        vec!["scale", "nobody", "2"],
        vec!["redeploy", "nobody"],
        vec!["delete", "nobody", "--yes"],
        vec!["invoke", "nobody", "greet"],
        vec!["tasks", "show", "tsk_01m827453av134er6b511ct0b2"],
    ] {
        let said = home.run(&args);
        assert_eq!(said.code, Some(3), "{args:?}: {said:#?}");
        assert!(
            said.err.contains("[not_found, request req_"),
            "{args:?}: {said:#?}"
        );
        assert!(said.err.contains("lists "), "what to do: {said:#?}");
    }
    let said = home.run(&["tasks", "show", "seventeen"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
}

#[test]
fn what_is_empty_says_what_to_do_next() {
    let home = Home::new();
    let _server = home.serve(&[]);
    for (args, next) in [
        (vec!["agents"], "parallax deploy DIR"),
        (vec!["agents", "--phase", "ready"], "parallax agents"),
        (vec!["registry"], "parallax keys create"),
        (
            vec!["registry", "--capability", "sing"],
            "parallax registry",
        ),
        (vec!["hosts"], "parallax hosts token"),
        (vec!["tasks"], "parallax invoke"),
        (vec!["tasks", "list", "--agent", "nobody"], "parallax tasks"),
    ] {
        let said = home.run(&args);
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(0), ""),
            "{args:?}: {said:#?}"
        );
        assert!(said.err.contains(next), "{args:?}: {said:#?}");
    }
}

#[test]
fn a_deletion_is_not_guessed() {
    let home = Home::new();
    let _server = home.serve(&[]);
    let said = home.run(&["delete", "nobody"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("--yes"), "{said:#?}");
}
