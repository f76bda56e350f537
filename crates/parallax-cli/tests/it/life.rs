//! A server's start and end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Home, Serving};

#[test]
fn a_server_says_where_it_is_and_shows_its_key_once() {
    let home = Home::new();
    let mut server = home.serve(&[]);
    let text = fs::read(home.data().join("server.json")).expect("it is ready");
    let file: Value = serde_json::from_slice(&text).expect("it is JSON");
    assert_eq!(file["url"], server.url());
    assert_eq!(file["pid"], server.pid());
    assert_eq!(file["version"], env!("CARGO_PKG_VERSION"));
    assert!(file["started_at"].is_string());
    for (name, mode) in [("", 0o700), ("admin.key", 0o600), ("server.json", 0o600)] {
        let meta = fs::metadata(home.data().join(name)).expect("it is there");
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{name}");
    }
    let key = fs::read_to_string(home.data().join("admin.key")).expect("it is kept");
    assert!(server.welcome[1].ends_with(key.trim()), "{server:#?}");
    server.signal(Signal::INT);
    assert!(server.ended().success());
    assert!(!home.data().join("server.json").exists());
    let again = home.serve(&[]);
    assert!(
        !again.welcome.iter().any(|line| line.contains(key.trim())),
        "shown twice"
    );
    assert_eq!(home.json(&["hosts", "token"])["expires_in_s"], 3600);
}

#[test]
fn a_server_says_what_comes_next() {
    let home = Home::new();
    let last = "Ctrl-C stops the server";
    let server = home.stay(&["serve", "--listen", "127.0.0.1:0"], last);
    let next = format!("parallax --data-dir {} deploy DIR", home.data().display());
    assert!(
        server.welcome.iter().any(|line| line.ends_with(&next)),
        "{server:#?}"
    );
    assert!(
        server
            .welcome
            .iter()
            .any(|line| line.starts_with("Agents on this machine are ")
                || line.starts_with("No agent runs on this machine")),
        "{server:#?}"
    );
    home.answer(&["down"]);
}

#[test]
fn a_server_goes_on_when_nobody_reads_what_it_prints() {
    let home = Home::new();
    let mut server = home.serve_unread();
    home.until("the server is ready", || {
        home.data().join("server.json").exists()
    });
    home.answer(&["agents"]);
    server.signal(Signal::TERM);
    assert!(server.ended().success());
}

#[test]
fn a_second_server_is_refused_and_the_first_goes_on() {
    let home = Home::new();
    let server = home.serve(&[]);
    let said = home.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    let first = format!("already at {} (process {})", server.url(), server.pid());
    assert!(said.err.contains(&first), "{said:#?}");
    home.answer(&["agents"]);
}

#[test]
fn a_port_in_use_is_named_with_a_way_out() {
    let (home, other) = (Home::new(), Home::new());
    let server = home.serve(&[]);
    let address = server.url().trim_start_matches("http://");
    let said = other.run(&["serve", "--listen", address]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.err.contains("the port is in use"), "{said:#?}");
}

#[test]
fn nothing_listens_for_others_without_tls() {
    let said = Home::new().run(&["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    for way in ["--tls-cert", "--behind-proxy", "--insecure-plaintext"] {
        assert!(said.err.contains(way), "{said:#?}");
    }
}

#[test]
fn down_stops_the_server_and_says_so() {
    let home = Home::new();
    let mut server = home.serve(&[]);
    let said = home.run(&["down"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    assert!(
        said.err
            .contains(&format!("stopped the server at {}", server.url())),
        "{said:#?}"
    );
    assert!(server.ended().success());
    let again = home.run(&["down"]);
    assert_eq!(again.code, Some(0), "{again:#?}");
    assert!(again.out.starts_with("Nothing ran in "), "{again:#?}");
}

#[test]
fn tls_is_served_and_only_to_those_who_trust_it() {
    let home = Home::new();
    let issued =
        rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let write = |name: &str, text: String| {
        let path = home.path().join(name);
        fs::write(&path, text).expect("the home is writable");
        path.display().to_string()
    };
    let cert = write("cert.pem", issued.cert.pem());
    let key = write("key.pem", issued.signing_key.serialize_pem());
    let server = home.serve(&["--tls-cert", &cert, "--tls-key", &key]);
    assert!(
        server.url().starts_with("https://127.0.0.1:"),
        "{}",
        server.url()
    );
    home.answer(&["agents", "--ca-file", &cert]);
    let said = home.run(&["agents"]);
    assert_eq!(said.code, Some(5), "{said:#?}");
}

#[test]
fn logs_are_json_when_asked() {
    let home = Home::new();
    let mut command = home.command(&[
        "serve",
        "--listen",
        "127.0.0.1:0",
        "--no-local-host",
        "--log-format",
        "json",
        "--log-level",
        "debug",
    ]);
    let log = home.path().join("log");
    let file = fs::File::create(&log).expect("the home is writable");
    let mut server = Serving::of(command.stdout(Stdio::null()).stderr(file));
    home.until("the server is ready", || {
        home.data().join("server.json").exists()
    });
    home.answer(&["agents"]);
    server.signal(Signal::TERM);
    assert!(server.ended().success());
    let log = fs::read_to_string(log).expect("it is text");
    assert!(log.contains("Stopping; replicas go on"), "{log}");
    for line in log.lines() {
        let entry: Value = serde_json::from_str(line).expect("each line is JSON");
        for field in ["timestamp", "level", "target"] {
            assert!(entry[field].is_string(), "{field}: {line}");
        }
    }
}

#[test]
fn a_log_level_that_is_none_is_refused() {
    let home = Home::new();
    let mut command = home.command(&["serve", "--listen", "127.0.0.1:0", "--log-level", "loud"]);
    let said = crate::harness::said(command.output().expect("the binary starts"));
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.err.contains("`loud` is no log level"), "{said:#?}");
}

#[test]
fn a_host_joins_with_a_token_and_goes_down() {
    let (home, machine) = (Home::new(), Home::new());
    let server = home.serve(&[]);
    let token = home.answer(&["hosts", "token"]);
    fs::write(machine.path().join("token"), token).expect("the home is writable");
    let args = [
        "--server",
        server.url(),
        "--token-file",
        "token",
        "--name",
        "edge",
    ];
    let mut host = machine.host(&args);
    assert_eq!(
        host.welcome,
        [format!("Host `edge` works for {}", server.url())]
    );
    home.until("the host is connected", || {
        home.answer(&["--json", "hosts"])
            .contains(r#""connected":true"#)
    });
    let said = machine.run(&["down"]);
    assert_eq!(said.code, Some(0), "{said:#?}");
    let stopped = format!("stopped the host that works for {}", server.url());
    assert!(said.err.contains(&stopped), "{said:#?}");
    assert!(host.ended().success());
    home.until("the server notices", || {
        home.answer(&["--json", "hosts"])
            .contains(r#""connected":false"#)
    });
}

#[test]
fn a_host_that_never_joined_asks_for_a_token() {
    let said = Home::new().run(&["host", "--server", "http://127.0.0.1:1"]);
    assert_eq!(said.code, Some(2), "{said:#?}");
    assert!(said.err.contains("parallax hosts token"), "{said:#?}");
}
