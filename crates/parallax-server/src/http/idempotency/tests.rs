use parallax_core::manifest::AgentSpec;

use super::*;
use crate::testing::{World, name};

/// Scales `scorer` to `wanted` under the key `k`; `and_then` is what the handler does after it.
async fn scale<W>(
    world: &World,
    wanted: u32,
    and_then: impl FnOnce(Reply) -> W + Send + 'static,
) -> Result<Response, Failure>
where
    W: Future<Output = Result<Reply, Failure>> + Send + 'static,
{
    let state = HandlerState::new(&world.app);
    let once = Idempotency {
        key: Some("k".to_owned()),
        route: "PUT /api/agents/scorer/scale".to_owned(),
    };
    let (app, caller) = (Arc::clone(&world.app), world.admin.clone());
    let kept = Kept::Answer(|scaled: &crate::app::agents::AgentSummary| {
        Reply::json(StatusCode::ACCEPTED, &scaled.agent.generation)
    });
    let work = async move |receipt| {
        let scaled = app.scale_agent(&caller, "scorer", wanted, receipt).await?;
        let reply = Reply::json(StatusCode::ACCEPTED, &scaled.agent.generation);
        and_then(reply).await
    };
    let request = wanted.to_be_bytes();
    once.run(&state, &world.admin, &[&request], kept, work)
        .await
}

#[tokio::test]
async fn a_server_that_dies_before_it_answers_does_not_do_the_work_again() {
    let world = World::new().await;
    let spec = AgentSpec::named(name("scorer"));
    let agent = world.deploy_as(spec, None, true).await;
    // Whoever waits for the answer hangs up once the change is committed, and the server dies.
    let (committed, done) = tokio::sync::oneshot::channel();
    let dying = scale(&world, 3, |_| {
        committed.send(()).expect("the test waits");
        std::future::pending()
    });
    tokio::select! {
        _ = dying => unreachable!("it never answers"),
        heard = done => heard.expect("the change was made"),
    }
    let before = world.agent(&agent).await.expect("it is there");
    assert_eq!(
        (before.replicas, before.generation),
        (3, agent.generation + 1)
    );
    let world = world.restart().await;
    let again = scale(&world, 3, async |reply| Ok(reply)).await;
    let again = again.expect("it is answered");
    assert_eq!(again.status(), StatusCode::ACCEPTED);
    assert_eq!(again.headers()[REPLAYED], "true");
    let body = axum::body::to_bytes(again.into_body(), 100).await;
    assert_eq!(body.expect("it is short"), before.generation.to_string());
    let after = world.agent(&agent).await.expect("it is there");
    assert_eq!(after.generation, before.generation);
    let other = scale(&world, 4, async |reply| Ok(reply)).await;
    let code = other.expect_err("it is another request").code();
    assert_eq!(code, Code::IdempotencyMismatch);
}

#[tokio::test]
async fn work_that_is_refused_is_not_answered_for() {
    let world = World::new().await;
    let refused = scale(&world, 3, async |reply| Ok(reply)).await;
    assert_eq!(refused.expect_err("nobody is there").code(), Code::NotFound);
    let spec = AgentSpec::named(name("scorer"));
    world.deploy_as(spec, None, true).await;
    let done = scale(&world, 3, async |reply| Ok(reply)).await;
    let done = done.expect("now it is there");
    assert!(!done.headers().contains_key(REPLAYED));
}

#[test]
fn parts_of_a_request_do_not_run_into_each_other() {
    assert_ne!(hash(&[b"ab", b"c"]), hash(&[b"a", b"bc"]));
    assert_eq!(hash(&[b"ab", b"c"]), hash(&[b"ab", b"c"]));
}

#[test]
fn a_reply_that_names_its_status_has_a_location() {
    assert_eq!(
        location(br#"{"status_url":"/api/x"}"#).expect("there is one"),
        "/api/x"
    );
    assert_eq!(location(b"{}"), None);
}
