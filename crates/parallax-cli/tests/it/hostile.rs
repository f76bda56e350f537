//! An agent that writes to the terminals of those who call it.

use parallax_testkit::scripted_agent::{Behaviour, Reply, Say, ScriptedAgent};
use serde_json::{Value, json};

use crate::harness::{Home, Said, Serving};

/// Clears the screen, sets the title, goes back over the line, turns the text round, and does the
/// first with a C1 control; then a line that looks like one of the command's own.
const HOSTILE: &str =
    "\u{1b}[2J\u{1b}]0;title\u{7}\r\u{202e}\u{9b}2J\u{7f}\u{2067}\nusage 0 tokens in, 0 out";

async fn agent(home: &Home, server: &Serving, behaviour: Behaviour) -> ScriptedAgent {
    let key = home.json(&["keys", "create", "byoa", "--scope", "agent"]);
    let key = key["secret"].as_str().expect("it is shown this once");
    let connected = ScriptedAgent::connect(server.url(), key, "liar", &["lie"], behaviour);
    connected.await.expect("the server welcomes it")
}

/// Whether nothing in it makes a terminal do anything but go to the next line.
fn is_harmless(text: &str) -> bool {
    let overrides = [
        '\u{202a}', '\u{202b}', '\u{202c}', '\u{202d}', '\u{202e}', '\u{2066}', '\u{2067}',
        '\u{2068}', '\u{2069}',
    ];
    !text.contains(|it: char| it != '\n' && (it.is_control() || overrides.contains(&it)))
}

/// Neither stream does more than say something, and no line begins as the agent wants it.
#[track_caller]
fn holds(said: &Said) {
    // Without colours, which are ours: the tests of `printable` tell them apart.
    for text in [&said.out, &said.err] {
        assert!(is_harmless(text), "{said:#?}");
        let forged = text.lines().find(|line| line.starts_with("usage"));
        assert_eq!(forged, None, "{said:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_of_its_answer_is_only_shown() {
    let home = Home::new();
    let server = home.serve(&[]);
    let behaviour = Behaviour {
        says: vec![
            Say::Progress(Some(500_000), HOSTILE.to_owned()),
            Say::Partial(HOSTILE.to_owned()),
        ],
        reply: Reply::Supported {
            value: json!({"text": HOSTILE}),
            confidence: (900_000, HOSTILE.to_owned()),
            evidence: vec![(HOSTILE.to_owned(), HOSTILE.to_owned())],
        },
        ..Behaviour::default()
    };
    let _agent = agent(&home, &server, behaviour).await;
    let call = ["--no-color", "invoke", "liar", "lie", "1"];
    let durable = [&call[..], &["--idempotency-key", "k"]].concat();
    for args in [&call[..], &durable] {
        let said = home.run_on_terminal(args);
        assert_eq!(said.code, Some(0), "{said:#?}");
        holds(&said);
        for label in ["confidence 0.9000, by the ", "evidence "] {
            let shown = format!(r"{label}\u{{1b}}[2J\u{{1b}}]0;title\u{{7}}\r\u{{202e}}\u{{9b}}2J");
            assert!(said.err.contains(&shown), "{said:#?}");
        }
        let value: Value = serde_json::from_str(&said.out).expect("still JSON");
        assert_eq!(value, json!({"text": HOSTILE}), "and the same");
    }
    let said = home.run_on_terminal(&[&["--json"], &call[..]].concat());
    holds(&said);
    let answer: Value = serde_json::from_str(&said.out).expect("still JSON");
    assert_eq!(answer["evidence"][0]["summary"], HOSTILE, "and the same");
    let piped = home.answer(&call);
    let as_it_is = json!({"text": HOSTILE}).to_string();
    assert_eq!(
        piped.trim_end(),
        as_it_is,
        "a program gets what the agent sent"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_says_of_its_failure_is_only_shown() {
    let home = Home::new();
    let server = home.serve(&[]);
    let reply = Reply::Failure {
        code: HOSTILE.to_owned(),
        message: HOSTILE.to_owned(),
        retryable: false,
    };
    let behaviour = Behaviour {
        reply,
        ..Behaviour::default()
    };
    let _agent = agent(&home, &server, behaviour).await;
    for more in [&[][..], &["--idempotency-key", "k"]] {
        let call = ["--no-color", "invoke", "liar", "lie", "1"];
        let said = home.run_on_terminal(&[&call[..], more].concat());
        assert_eq!(said.code, Some(7), "{said:#?}");
        holds(&said);
        assert!(
            said.err.contains(r"\u{1b}[2J\u{1b}]0;title\u{7}"),
            "{said:#?}"
        );
    }
}
