//! Streams: cursors, formats, and what ends them.

use parallax_core::key::Scope;
use serde_json::{Value, json};

use super::world::World;

const NDJSON: &str = "application/x-ndjson";

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))
}

#[tokio::test]
async fn a_reader_goes_on_after_its_cursor() {
    let world = World::start().await;
    world.register("one").await;
    world.register("two").await;
    let key = json!({ "name": "third", "scopes": ["read"] });
    world.ours.post("/api/keys", &key).await;
    let mut all = world.ours.stream("/api/events", "text/event-stream").await;
    let id = all.until("id: ").await;
    let cursor = id.trim_start_matches("id: ").to_owned();
    let first = parsed(all.until("data: ").await.trim_start_matches("data: "));
    assert_eq!(first["cursor"].to_string(), cursor);
    let mut rest = world
        .ours
        .stream(&format!("/api/events?after={cursor}"), NDJSON)
        .await;
    let next = parsed(&rest.next().await.expect("there is more"));
    assert!(next["cursor"].as_u64() > first["cursor"].as_u64(), "{next}");
    // As a browser asks after its connection broke: the header counts, not the old address.
    let mut again = world
        .ours
        .stream_after("/api/events?after=0", NDJSON, &cursor)
        .await;
    assert_eq!(parsed(&again.next().await.expect("there is more")), next);
}

#[tokio::test]
async fn a_reader_of_now_sees_only_what_comes() {
    let world = World::start().await;
    let key = |name: &str| json!({ "name": name, "scopes": ["read"] });
    world.ours.post("/api/keys", &key("before")).await;
    let path = "/api/events?after=now&subject=key";
    let mut news = world.ours.stream(path, NDJSON).await;
    let made = world.ours.post("/api/keys", &key("later")).await.json();
    let event = parsed(&news.next().await.expect("it comes"));
    assert_eq!(event["subject_id"], made["key"]["id"], "{event}");
}

#[tokio::test]
async fn a_cursor_from_elsewhere_is_refused_and_not_waited_for() {
    let world = World::start().await;
    for after in ["999999999", "soon"] {
        let page = world.ours.get(&format!("/api/events?after={after}")).await;
        assert_eq!(page.code(), "invalid_request", "{}", page.text);
        assert!(page.text.contains(after), "{}", page.text);
    }
}

#[tokio::test]
async fn a_revoked_key_ends_what_it_has_open() {
    let world = World::start().await;
    let (id, reader) = world
        .key(world.server.tenant, "reader", &[Scope::Read])
        .await;
    let mut stream = reader.stream("/api/registry/watch", NDJSON).await;
    stream.until("synced").await;
    let revoked = world.ours.delete(&format!("/api/keys/{id}")).await;
    assert!(revoked.status.is_success(), "{}", revoked.text);
    let last = parsed(&stream.next().await.expect("the reason is told"));
    assert_eq!(last["problem"]["code"], "unauthenticated", "{last}");
    assert_eq!(stream.next().await, None);
    assert_eq!(reader.get("/api/agents").await.code(), "unauthenticated");
}

#[tokio::test]
async fn a_stop_of_the_server_ends_streams_and_says_so() {
    let world = World::start().await;
    let mut stream = world.ours.stream("/api/events?after=now", NDJSON).await;
    world.app().shutdown.cancel();
    let last = parsed(&stream.until("problem").await);
    assert_eq!(last["problem"]["code"], "shutting_down", "{last}");
    assert_eq!(stream.next().await, None);
}

#[tokio::test]
async fn logs_of_an_agent_that_never_ran_are_empty_and_not_missing() {
    let world = World::start().await;
    world.register("quiet").await;
    let mut logs = world
        .ours
        .stream("/api/agents/quiet/logs", "text/plain")
        .await;
    assert_eq!(logs.next().await, None);
    let wrong = world.ours.get("/api/agents/quiet/logs?since=soon").await;
    assert_eq!(wrong.code(), "invalid_request");
}
