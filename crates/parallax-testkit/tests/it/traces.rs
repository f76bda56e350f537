//! The context of a trace, from the caller through the server to the agent.

#[cfg(feature = "otel")]
mod collector;

use anyhow::{Context, Result, ensure};
use parallax_proto::v1;
use parallax_proto::v1::task_service_client::TaskServiceClient;
use parallax_testkit::conformance::{Language, fixtures};
use parallax_testkit::world::World;
use reqwest::Method;
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

#[cfg(feature = "otel")]
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const AGENT: &str = "conformance-fixture";

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_a_callers_trace_passes_unchanged_and_none_is_invented() -> Result<()> {
    if let Some(missing) = fixtures::missing(Language::Python) {
        parallax_testkit::skip!("{missing}");
    }
    let world = World::start().await?;
    let agent = world.sdk_agent(Language::Python).await?;
    for (sent, durable) in [(PARENT, false), (PARENT, true), ("", false), ("", true)] {
        let seen = over_http(&world, sent, durable).await?;
        ensure!(
            seen == json!([sent, sent_state(sent)]),
            "sent {sent:?}, durable {durable}: {seen}"
        );
        let seen = over_grpc(&world, sent, durable).await?;
        ensure!(
            seen == json!([sent, sent_state(sent)]),
            "sent {sent:?} by gRPC: {seen}"
        );
    }
    agent.stop().await?;
    world.end().await
}

fn sent_state(parent: &str) -> &'static str {
    if parent.is_empty() { "" } else { "a=b" }
}

/// What the agent saw: `[traceparent, tracestate]`.
async fn over_http(world: &World, parent: &str, durable: bool) -> Result<Value> {
    let path = format!("agents/{AGENT}/invoke");
    let mut request = world.request(Method::POST, &path);
    if !parent.is_empty() {
        request = request
            .header("traceparent", parent)
            .header("tracestate", sent_state(parent));
    }
    if durable {
        request = request.header("prefer", "respond-async");
    }
    let call = json!({"capability": "context", "input": null});
    let answer: Value = request
        .json(&call)
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    match durable {
        false => Ok(seen(&answer["value"])),
        true => of_task(world, answer["id"].as_str().context("a task's id")?).await,
    }
}

/// The same over gRPC: in the metadata for durable tasks, in the call's context for attached ones.
async fn over_grpc(world: &World, parent: &str, durable: bool) -> Result<Value> {
    let channel = Channel::from_shared(world.url()?)?.connect().await?;
    let mut client = TaskServiceClient::new(channel);
    let input = v1::Payload {
        content: Some(v1::payload::Content::Json("null".into())),
    };
    let key: MetadataValue<_> = format!("Bearer {}", world.admin_key()).parse()?;
    if durable {
        let mut request = tonic::Request::new(v1::SubmitTaskRequest {
            agent: AGENT.to_owned(),
            capability: "context".to_owned(),
            input: Some(input),
            ..v1::SubmitTaskRequest::default()
        });
        request.metadata_mut().insert("authorization", key);
        if !parent.is_empty() {
            request
                .metadata_mut()
                .insert("traceparent", parent.parse()?);
            request
                .metadata_mut()
                .insert("tracestate", sent_state(parent).parse()?);
        }
        let task = client.submit(request).await?.into_inner();
        return of_task(world, &task.task_id).await;
    }
    let call = v1::InvokeCall {
        call_id: 1,
        agent: AGENT.to_owned(),
        capability: "context".to_owned(),
        input: Some(input),
        context: Some(v1::TaskContext {
            traceparent: parent.to_owned(),
            tracestate: sent_state(parent).to_owned(),
            ..v1::TaskContext::default()
        }),
        ..v1::InvokeCall::default()
    };
    let frame = v1::InvokeUp {
        frame: Some(v1::invoke_up::Frame::Call(call)),
    };
    let mut request = tonic::Request::new(tokio_stream::iter([frame]));
    request.metadata_mut().insert("authorization", key);
    let mut answers = client.invoke(request).await?.into_inner();
    let answer = answers.message().await?.context("an answer")?;
    let Some(v1::invoke_down::Event::Outcome(outcome)) = answer.event else {
        anyhow::bail!("no outcome: {answer:?}");
    };
    let Some(v1::task_outcome::Outcome::Success(success)) = outcome.outcome else {
        anyhow::bail!("no success: {outcome:?}");
    };
    let Some(v1::payload::Content::Json(json)) = success.value.and_then(|it| it.content) else {
        anyhow::bail!("no inline value");
    };
    Ok(seen(&serde_json::from_slice(&json)?))
}

async fn of_task(world: &World, id: &str) -> Result<Value> {
    let task = world.task_ended(id).await?;
    let answer = task.outcome.and_then(|outcome| outcome.answer);
    let value = answer
        .and_then(|answer| answer.value)
        .context("an answer")?;
    Ok(seen(&serde_json::from_str(value.get())?))
}

fn seen(value: &Value) -> Value {
    json!([value["traceparent"], value["tracestate"]])
}

#[cfg(feature = "otel")]
#[tokio::test(flavor = "multi_thread")]
async fn with_a_collector_the_agent_goes_on_with_the_servers_span() -> Result<()> {
    use parallax_testkit::world::Serve;

    if let Some(missing) = fixtures::missing(Language::Python) {
        parallax_testkit::skip!("{missing}");
    }
    let collector = collector::Collector::start().await?;
    let traced = env!("CARGO_BIN_EXE_parallax-traced");
    let serve = Serve::default().by(traced, &["--otlp-endpoint", &collector.url]);
    let world = World::start_with(serve).await?;
    let agent = world.sdk_agent(Language::Python).await?;
    for durable in [false, true] {
        for seen in [
            over_http(&world, PARENT, durable).await?,
            over_grpc(&world, PARENT, durable).await?,
        ] {
            let parent = seen[0].as_str().context("a trace")?.to_owned();
            ensure!(parent != PARENT && parent.contains(TRACE), "{parent}");
            ensure!(seen[1] == "a=b", "{seen}");
            let span = parent.split('-').nth(2).context("a span's id")?.to_owned();
            let span = world
                .until("the collector has the span", async || {
                    Ok(collector.span(&span))
                })
                .await?;
            ensure!(
                span.trace == TRACE && span.parent == "00f067aa0ba902b7",
                "{span:?}"
            );
            ensure!(span.name == format!("invoke {AGENT}/context"), "{span:?}");
            ensure!(span.is_server && span.service == "parallax", "{span:?}");
        }
        // Whoever brings no trace gets a fresh one.
        let fresh = over_http(&world, "", durable).await?;
        ensure!(
            fresh[0].as_str().is_some_and(|it| it.len() == PARENT.len()),
            "{fresh}"
        );
    }
    let foreign = collector
        .names()
        .into_iter()
        .find(|name| !name.starts_with("invoke "));
    ensure!(
        foreign.is_none(),
        "a span that nobody asked for: {foreign:?}"
    );
    agent.stop().await?;
    world.end().await
}
