//! What needs only a folder: manifests, plans, packing.

use std::fs;

use crate::harness::Home;

fn agent(home: &Home, manifest: &str) {
    let dir = home.path().join("agent");
    fs::create_dir(&dir).expect("the home is writable");
    fs::write(dir.join("parallax.toml"), manifest).expect("the folder is writable");
    fs::write(dir.join("main.py"), "print('hello')\n").expect("the folder is writable");
    fs::write(dir.join("requirements.txt"), "").expect("the folder is writable");
}

#[test]
fn every_mistake_of_a_manifest_is_shown_with_its_place() {
    let home = Home::new();
    agent(&home, "nme = \"a\"\nreplicas = \"two\"\n");
    for command in ["deploy", "plan"] {
        let said = home.run(&[command, "agent"]);
        assert_eq!(said.code, Some(2), "{said:#?}");
        assert!(
            said.err
                .contains("agent/parallax.toml:1:1: unknown key `nme`"),
            "{said:#?}"
        );
        assert!(said.err.contains("agent/parallax.toml:2:12: "), "{said:#?}");
    }
}

#[test]
fn a_folder_without_a_manifest_is_no_agent() {
    let home = Home::new();
    let said = home.run(&["deploy", "."]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(
        said.err.contains("parallax.toml does not exist"),
        "{said:#?}"
    );
    let said = home.run(&["deploy", "nowhere"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("there is no folder nowhere"), "{said:#?}");
}

#[test]
fn a_plan_is_data() {
    let home = Home::new();
    agent(&home, "name = \"planned\"\nstart = \"python main.py\"\n");
    let doctor = home.json(&["doctor"]);
    let builders = doctor["builders"].as_array().expect("a list of languages");
    if !builders.iter().any(|language| language == "python") {
        parallax_testkit::skip!("no Python here: install python3 with venv");
    }
    let plan = home.json(&["plan", "agent"]);
    assert_eq!(plan["version"], 1);
    assert_eq!(plan["language"], "python");
    assert_eq!(
        plan["start"]["argv"],
        serde_json::json!([".venv/bin/python", "main.py"])
    );
    let shown = home.answer(&["plan", "agent"]);
    assert!(
        shown.contains("start            .venv/bin/python main.py"),
        "{shown}"
    );
}

#[test]
fn a_plan_that_cannot_be_made_says_what_would_settle_it() {
    let home = Home::new();
    fs::create_dir(home.path().join("empty")).expect("the home is writable");
    fs::write(
        home.path().join("empty/parallax.toml"),
        "name = \"empty\"\n",
    )
    .expect("the folder is writable");
    let said = home.run(&["plan", "empty"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.err.contains("`empty` cannot be built: "), "{said:#?}");
    assert!(said.err.contains("is it the agent's folder?"), "{said:#?}");
}

#[test]
fn a_link_out_of_the_folder_is_not_sent() {
    let home = Home::new();
    agent(&home, "name = \"a\"\n");
    std::os::unix::fs::symlink("/etc/passwd", home.path().join("agent/secrets"))
        .expect("the folder is writable");
    let _server = home.serve(&[]);
    let said = home.run(&["deploy", "agent"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.err.contains("leads out of the folder"), "{said:#?}");
    assert_eq!(home.answer(&["--json", "agents"]), "");
}
