//! Help, usage, and what is said where no server runs.

use std::fs;

use crate::harness::Home;

#[test]
fn help_lists_every_command_and_the_exit_codes() {
    let help = Home::new().answer(&["--help"]);
    for word in [
        "serve",
        "host",
        "deploy",
        "plan",
        "agents",
        "status",
        "scale",
        "logs",
        "invoke",
        "tasks",
        "redeploy",
        "delete",
        "registry",
        "hosts",
        "keys",
        "doctor",
        "down",
        "completions",
    ] {
        let listed = help
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{word} ")));
        assert!(listed, "{word} is missing:\n{help}");
    }
    assert!(
        help.contains("  7    the agent was called and failed"),
        "{help}"
    );
    assert!(
        !help.contains("openapi") && !help.contains("shim"),
        "{help}"
    );
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let home = Home::new();
    for args in [
        vec!["deply"],
        vec!["scale", "a", "many"],
        vec!["serve", "--tls-cert", "a.pem"],
        vec!["keys", "create", "ci", "--scope", "root"],
        vec![
            "invoke",
            "a",
            "b",
            "hello",
            "--server",
            "http://127.0.0.1:1",
        ],
        vec!["agents", "--server", "localhost"],
        vec![
            "logs",
            "a",
            "--since",
            "yesterday",
            "--server",
            "http://127.0.0.1:1",
        ],
    ] {
        let said = home.run(&args);
        assert_eq!(said.code, Some(2), "{args:?}: {said:#?}");
        assert_eq!(said.out, "", "{args:?}");
    }
}

#[test]
fn without_a_server_a_client_says_how_to_start_one() {
    let home = Home::new();
    let said = home.run(&["agents"]);
    assert_eq!(said.code, Some(5), "{said:#?}");
    assert_eq!(said.out, "");
    let data = home.data();
    let expected = format!(
        "error: no server runs in {}; start one with `parallax serve`, or name another with --server URL\n",
        data.display()
    );
    assert_eq!(said.err, expected);
}

#[test]
fn what_a_killed_server_has_left_is_recognised() {
    let home = Home::new();
    fs::create_dir(home.data()).expect("the home is writable");
    // The process exists: it is this test.
    let left = format!(
        r#"{{"url":"http://127.0.0.1:1","pid":{},"version":"0.1.0","started_at":"2026-01-01T00:00:00.000000Z"}}"#,
        std::process::id()
    );
    fs::write(home.data().join("server.json"), left).expect("the folder is writable");
    let said = home.run(&["agents"]);
    assert_eq!(said.code, Some(5), "{said:#?}");
    assert!(said.err.contains("ended without cleaning up"), "{said:#?}");
}

#[test]
fn a_server_that_is_not_there_is_unavailable() {
    let home = Home::new();
    fs::write(home.path().join("key"), "plx_key").expect("the home is writable");
    // Port 1 needs privileges that no test server has.
    let said = home.run(&[
        "agents",
        "--server",
        "http://127.0.0.1:1",
        "--api-key-file",
        "key",
    ]);
    assert_eq!(said.code, Some(5), "{said:#?}");
    assert!(
        said.err.contains("cannot connect to http://127.0.0.1:1/"),
        "{said:#?}"
    );
}

#[test]
fn a_key_file_that_is_missing_is_named() {
    let said = Home::new().run(&[
        "agents",
        "--server",
        "http://127.0.0.1:1",
        "--api-key-file",
        "nope",
    ]);
    assert_eq!(said.code, Some(4), "{said:#?}");
    assert!(said.err.contains("nope does not exist"), "{said:#?}");
}

#[test]
fn without_a_home_data_lies_where_the_command_was_started() {
    let home = Home::new();
    let mut command = home.command(&["agents"]);
    command.env_remove("HOME").env_remove("PARALLAX_DATA_DIR");
    let said = crate::harness::said(command.output().expect("the binary starts"));
    let expected = home.path().join(".parallax");
    assert!(
        said.err.contains(&expected.display().to_string()),
        "{said:#?}"
    );
}

#[test]
fn completions_are_scripts_of_their_shell() {
    let script = Home::new().answer(&["completions", "bash"]);
    assert!(script.contains("complete -F _parallax"), "{script}");
    let home = Home::new();
    let bin = env!("CARGO_BIN_EXE_parallax");
    let ask = format!(
        "source <('{bin}' completions bash); COMP_WORDS=(parallax sta); COMP_CWORD=1; \
         _parallax parallax sta parallax; echo \"${{COMPREPLY[*]}}\""
    );
    let mut bash = home.command(&[]);
    bash = {
        let mut shell = std::process::Command::new("bash");
        shell
            .args(["--norc", "-c", &ask])
            .current_dir(bash.get_current_dir().expect("it is set"));
        shell
    };
    let said = crate::harness::said(bash.output().expect("bash starts"));
    assert_eq!(said.out, "status\n", "{said:#?}");
}

#[test]
fn doctor_says_what_it_found_as_data() {
    let report = Home::new().json(&["doctor"]);
    assert_eq!(report["os"], "linux");
    assert!(report["probe"]["landlock_abi"].is_u64(), "{report:#}");
    assert!(report["isolation_words"].is_string(), "{report:#}");
}

#[test]
fn the_openapi_document_and_the_reference_are_printed() {
    let home = Home::new();
    let document: serde_json::Value =
        serde_json::from_str(&home.answer(&["openapi"])).expect("it is JSON");
    assert!(document["paths"]["/api/agents/deploy"]["post"].is_object());
    let dir = home.path().join("pages");
    fs::create_dir(&dir).expect("the home is writable");
    home.answer(&["docs-reference", "pages"]);
    for page in ["cli.md", "errors.md", "http.md"] {
        let text = fs::read_to_string(dir.join(page)).expect("it was written");
        assert!(text.starts_with("# "), "{page}: {text}");
    }
}
