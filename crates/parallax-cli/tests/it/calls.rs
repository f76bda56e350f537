//! Calling an agent that is connected from elsewhere.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use parallax_testkit::scripted_agent::{Behaviour, Pace, Reply, Say, ScriptedAgent};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::runtime::Handle;

use crate::harness::{Home, Serving, said};

async fn agent(home: &Home, server: &Serving, behaviour: Behaviour) -> ScriptedAgent {
    let key = home.json(&["keys", "create", "byoa", "--scope", "agent"]);
    let key = key["secret"].as_str().expect("it is shown this once");
    let connected = ScriptedAgent::connect(server.url(), key, "parrot", &["echo"], behaviour);
    connected.await.expect("the server welcomes it")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_the_value_and_nothing_else() {
    let home = Home::new();
    let server = home.serve(&[]);
    let _agent = agent(&home, &server, Behaviour::default()).await;
    let input = r#"{"n": 1.0, "big": 12345678901234567890.5}"#;
    assert_eq!(
        home.answer(&["invoke", "parrot", "echo", input]),
        format!("{input}\n")
    );
    assert_eq!(home.answer(&["invoke", "parrot", "echo"]), "null\n");
    fs::write(home.path().join("in.json"), "[1]").expect("the home is writable");
    assert_eq!(
        home.answer(&["invoke", "parrot", "echo", "@in.json"]),
        "[1]\n"
    );
    let mut child = home
        .command(&["invoke", "parrot", "echo", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(b"[2]").expect("it reads");
    drop(stdin);
    let said = said(child.wait_with_output().expect("it ends"));
    assert_eq!(said.out, "[2]\n", "{said:#?}");
    let listed = home.json(&["registry"]);
    assert_eq!(listed["agent_name"], "parrot");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_agent_has_an_exit_code_of_its_own() {
    let home = Home::new();
    let server = home.serve(&[]);
    let reply = Reply::Failure {
        code: "out_of_crackers".to_owned(),
        message: "there are no crackers".to_owned(),
        retryable: false,
    };
    let behaviour = Behaviour {
        reply,
        ..Behaviour::default()
    };
    let _agent = agent(&home, &server, behaviour).await;
    for more in [&[][..], &["--idempotency-key", "k"]] {
        let said = home.run(&[&["invoke", "parrot", "echo", "1"], more].concat());
        assert_eq!(said.code, Some(7), "{said:#?}");
        assert_eq!(said.out, "");
        assert!(said.err.contains("there are no crackers"), "{said:#?}");
        assert!(said.err.contains("out_of_crackers"), "{said:#?}");
    }
    let said = home.run(&["invoke", "parrot", "sing", "1"]);
    assert_eq!(said.code, Some(3), "{said:#?}");
    assert!(said.err.contains("it offers: echo"), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_that_runs_out_has_one_too() {
    let home = Home::new();
    let server = home.serve(&[]);
    let behaviour = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let _agent = agent(&home, &server, behaviour).await;
    let said = home.run(&["invoke", "parrot", "echo", "1", "--deadline", "200ms"]);
    assert_eq!(said.code, Some(6), "{said:#?}");
    assert!(said.err.contains("[deadline_exceeded"), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_task_is_followed_to_its_end() {
    let home = Home::new();
    let server = home.serve(&[]);
    let behaviour = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let agent = agent(&home, &server, behaviour).await;
    let id = home.answer(&["invoke", "parrot", "echo", "[1]", "--async"]);
    let id = id.trim();
    let listed = home.json(&["tasks", "list", "-n", "1"]);
    assert_eq!(listed["id"], *id);
    let watch = home
        .command(&["tasks", "watch", id])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    agent.release().await.expect("it is there");
    let said = said(watch.wait_with_output().expect("it ends"));
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "[1]\n"),
        "{said:#?}"
    );
    assert_eq!(home.answer(&["tasks", "show", id]), "[1]\n");
    let task = home.json(&["tasks", "show", id]);
    assert_eq!(task["state"], "succeeded");
    assert_eq!(task["outcome"]["answer"]["value"], json!([1]));
    let late = home.run(&["tasks", "cancel", id]);
    assert_eq!(late.code, Some(1), "{late:#?}");
    assert!(late.err.contains("has ended already"), "{late:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_a_durable_task_sees_what_its_agent_says() {
    let home = Home::new();
    let server = home.serve(&[]);
    let behaviour = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let agent = agent(&home, &server, behaviour).await;
    let id = home.answer(&["invoke", "parrot", "echo", "[1]", "--async"]);
    let shown = home.path().join("shown");
    let watch = home
        .command(&["tasks", "watch", id.trim()])
        .stdout(Stdio::piped())
        .stderr(fs::File::create(&shown).expect("the home is writable"))
        .spawn()
        .expect("the binary starts");
    let shown = || fs::read_to_string(&shown).expect("it is there");
    let speak = |says: Vec<Say>| {
        let said = Handle::current().block_on(agent.speak(says));
        said.expect("it is there");
    };
    tokio::task::block_in_place(|| {
        // Heard by those who watch by then.
        home.until("progress is shown", || {
            speak(vec![Say::Progress(Some(500_000), "half".to_owned())]);
            shown().contains("\n50 %: half\n")
        });
        let pieces = ["one\ntw", "o"].map(|piece| Say::Partial(piece.to_owned()));
        speak(pieces.to_vec());
    });
    agent.release().await.expect("it is there");
    let said = said(watch.wait_with_output().expect("it ends"));
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "[1]\n"),
        "{said:#?}"
    );
    assert!(shown().contains("  | one\n  | two\n"), "{}", shown());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_of_a_durable_task_is_said_once() {
    let home = Home::new();
    let server = home.serve(&[]);
    let behaviour = Behaviour {
        pace: Pace::After(std::time::Duration::from_millis(100)),
        ..Behaviour::default()
    };
    let _agent = agent(&home, &server, behaviour).await;
    let said = home.run(&["invoke", "parrot", "echo", "[2]", "--idempotency-key", "k"]);
    assert_eq!(said.out, "[2]\n", "{said:#?}");
    let mut states: Vec<&str> = said.err.lines().collect();
    let count = states.len();
    states.dedup();
    assert_eq!(states.len(), count, "{said:#?}");
    assert!(count > 0, "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_waiting_and_says_what_goes_on() {
    let home = Home::new();
    let server = home.serve(&[]);
    let behaviour = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let agent = agent(&home, &server, behaviour).await;
    let id = home.answer(&["invoke", "parrot", "echo", "[1]", "--async"]);
    let id = id.trim();
    let mut watch = home
        .command(&["tasks", "watch", id])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut said = String::new();
    // It says what it waits for once it does.
    let mut first = std::io::BufReader::new(watch.stderr.take().expect("it is piped"));
    std::io::BufRead::read_line(&mut first, &mut said).expect("it speaks");
    let pid = i32::try_from(watch.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), Signal::INT).expect("the command is ours");
    std::io::Read::read_to_string(&mut first, &mut said).expect("it ends");
    assert_eq!(watch.wait().expect("it ends").code(), Some(130), "{said}");
    assert!(said.contains(&format!("{id} goes on")), "{said}");
    agent.release().await.expect("it is there");
    assert_eq!(home.answer(&["tasks", "watch", id]), "[1]\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ctrl_c_ends_does_not_say_that_the_agent_knows() {
    let home = Home::new();
    let server = home.serve(&[]);
    let behaviour = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let agent = agent(&home, &server, behaviour).await;
    let call = home
        .command(&["invoke", "parrot", "echo", "[1]"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    home.until("the agent has the call", || agent.tally().started() == 1);
    // It hears nothing any more, and so tells nobody.
    server.signal(Signal::STOP);
    let pid = i32::try_from(call.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process id"), Signal::INT).expect("the command is ours");
    let said = said(call.wait_with_output().expect("it ends"));
    server.signal(Signal::CONT);
    assert_eq!(said.code, Some(130), "{said:#?}");
    let expected = "the call is given up: the server asks `parrot` to stop once it notices";
    assert!(said.err.starts_with(expected), "{said:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_is_cancelled_says_so() {
    let home = Home::new();
    let server = home.serve(&[]);
    let behaviour = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let _agent = agent(&home, &server, behaviour).await;
    let id = home.answer(&["invoke", "parrot", "echo", "1", "--async"]);
    home.answer(&["tasks", "cancel", id.trim()]);
    let said = home.run(&["tasks", "watch", id.trim()]);
    assert_eq!(said.code, Some(1), "{said:#?}");
    assert!(said.err.contains("[cancelled"), "{said:#?}");
}
