//! Agents that answer with what is no answer, and say of themselves what nobody should have to see.

use parallax_core::error::Code;
use parallax_core::json::Json;
use parallax_core::task::{Outcome, Payload, Success, TaskContext};
use v1::agent_down::Frame as Down;
use v1::agent_up::Frame as Up;
use v1::payload::Content;

use super::*;
use crate::app::invoke::Invocation;

fn json(bytes: &'static [u8]) -> Option<v1::Payload> {
    Some(v1::Payload {
        content: Some(Content::Json(bytes.into())),
    })
}

fn blob(digest: &str) -> v1::BlobRef {
    v1::BlobRef {
        digest: digest.to_owned(),
        size_bytes: 5,
        media_type: String::new(),
    }
}

fn value(value: Option<v1::Payload>) -> v1::TaskResult {
    v1::TaskResult {
        value,
        ..v1::TaskResult::default()
    }
}

/// Each with what its caller is told.
fn bad_answers() -> Vec<(v1::TaskResult, &'static str)> {
    let evidence = |detail: &'static [u8], blob| v1::TaskResult {
        evidence: vec![v1::Evidence {
            kind: "page".to_owned(),
            detail_json: detail.into(),
            blob,
            ..v1::Evidence::default()
        }],
        ..v1::TaskResult::default()
    };
    let blob_value = |digest: &str| v1::Payload {
        content: Some(Content::Blob(blob(digest))),
    };
    let nobodys = format!("sha256:{:064}", 1);
    let sure = v1::Confidence {
        ppm: 7_000_000,
        source: "self".to_owned(),
    };
    let text = format!("\"{}\"", "x".repeat(300_000));
    let large = v1::Payload {
        content: Some(Content::Json(text.into())),
    };
    vec![
        (value(json(b"{\"a\":")), "bad value: not JSON: EOF"),
        (value(json(b"1 2")), "bad value: not JSON: trailing"),
        (value(json(b"")), "bad value: not JSON: EOF"),
        (
            value(json(b"\"\xff\"")),
            "bad value: not JSON: invalid unicode",
        ),
        (value(Some(large)), "must go through BlobService"),
        (
            value(Some(blob_value("../../etc/passwd"))),
            "bad value: a digest is `sha256:`",
        ),
        (value(Some(blob_value(&nobodys))), "which nobody put"),
        (evidence(b"{{", None), "bad evidence `page`: not JSON"),
        (evidence(b"", Some(blob(&nobodys))), "which nobody put"),
        (
            v1::TaskResult {
                confidence: Some(sure),
                ..v1::TaskResult::default()
            },
            "bad confidence: 7000000 parts per million",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_none_fails_its_task_and_not_the_session() {
    let running = running().await;
    let (_, secret) = running.key(Scope::Agent).await;
    let (up, mut down) = running.agent(&secret).await;
    let app = &running.server.app;
    let admin = app.auth.authenticate(running.admin.reveal()).await;
    let admin = admin.expect("it is good");
    let mut answer = async |result: v1::TaskResult| {
        let invocation = Invocation {
            agent: "scorer".to_owned(),
            capability: "score".to_owned(),
            input: Payload::default(),
            deadline: None,
            context: TaskContext::default(),
        };
        let call = app
            .invoke(&admin, invocation)
            .await
            .expect("it is taken on");
        let task = loop {
            match next(&mut down).await {
                Some(Down::Task(task)) => break task,
                Some(Down::ResultAck(_)) => {}
                other => panic!("the session goes on, and not with {other:?}"),
            }
        };
        let wild = v1::Progress {
            r#ref: task.r#ref.clone(),
            ppm: Some(9_000_000),
            message: String::new(),
        };
        let result = v1::TaskResult {
            r#ref: task.r#ref,
            credit: 1,
            ..result
        };
        for frame in [Up::Progress(wild), Up::Result(result)] {
            let frame = v1::AgentUp { frame: Some(frame) };
            up.send(frame).await.expect("it is read");
        }
        tokio::time::timeout(PATIENCE, call.outcome())
            .await
            .expect("the caller is told at once")
    };
    for (result, why) in bad_answers() {
        let Outcome::Problem(problem) = answer(result).await else {
            panic!("no success: {why}")
        };
        assert_eq!(problem.code, Code::AgentFailed, "{problem:?}");
        assert!(
            problem
                .message
                .starts_with("the agent's answer was refused: "),
            "{problem:?}"
        );
        assert!(problem.message.contains(why), "{problem:?} {why}");
    }
    let good = Json::parse(b"[1.0]".as_slice().into()).expect("well-formed");
    let good = Outcome::Success(Success::of(Payload::Json(good)));
    assert_eq!(answer(value(json(b" [1.0]\n"))).await, good);
    running.server.shutdown(PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partials_with_a_hole_or_beyond_their_window_end_the_session() {
    let running = running().await;
    let (_, secret) = running.key(Scope::Agent).await;
    for (seq, bytes, why) in [(2, 1, "without holes"), (1, 300_000, "its window had")] {
        let (up, mut down) = running.agent(&secret).await;
        let mut client = TaskServiceClient::new(running.channel().await);
        let submit = v1::SubmitTaskRequest {
            agent: "scorer".to_owned(),
            capability: "score".to_owned(),
            ..v1::SubmitTaskRequest::default()
        };
        let submitted = client.submit(with(&running.admin, submit)).await;
        submitted.expect("it is taken on");
        let Some(Down::Task(task)) = next(&mut down).await else {
            panic!("the agent has credit")
        };
        let partial = Up::Partial(v1::Partial {
            r#ref: task.r#ref,
            seq,
            chunk: vec![b'x'; bytes].into(),
        });
        let frame = v1::AgentUp {
            frame: Some(partial),
        };
        up.send(frame).await.expect("it is read");
        let Some(Down::Goaway(goaway)) = next(&mut down).await else {
            panic!("the session ends with a goodbye")
        };
        assert_eq!(goaway.reason(), v1::goaway::Reason::ProtocolError);
        assert!(goaway.message.contains(why), "{}", goaway.message);
    }
    running.server.shutdown(PATIENCE).await;
}
