//! Keys and tenants, end to end. That every route and rpc asks for a credential is shown in
//! parallax-server.

mod renewal;
mod tenants;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parallax_api::keys::{CreateKey, CreatedKey};
use parallax_core::key::Scope;
use parallax_testkit::scripted_agent::{AgentError, Behaviour, End, ScriptedAgent};
use parallax_testkit::world::{Fixture, World};
use reqwest::{Method, StatusCode};
use serde_json::json;

/// What a revoked credential has open is closed within 5 seconds; the rest is for a busy machine.
const CLOSED_WITHIN: Duration = Duration::from_secs(8);

async fn key(
    world: &World,
    name: &str,
    scope: Scope,
    expires_in_s: Option<u64>,
) -> Result<CreatedKey> {
    let key = CreateKey {
        name: name.to_owned(),
        scopes: vec![scope],
        groups: Vec::new(),
        expires_in_s,
    };
    world.create_key(&key).await
}

async fn ask(world: &World, key: &str, method: Method, path: &str) -> Result<(StatusCode, String)> {
    let mut request = world.request_as(key, method.clone(), path);
    if method != Method::GET {
        request = request.json(&json!({"replicas": 1}));
    }
    let response = request.send().await?;
    let status = response.status();
    let body: serde_json::Value = response.json().await.unwrap_or_default();
    Ok((status, body["code"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_does_what_its_scopes_say_and_nothing_else() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    let reader = key(&world, "reader", Scope::Read, None).await?.secret;
    let (status, _) = ask(&world, &reader, Method::GET, "agents/parrot/status").await?;
    ensure!(status == StatusCode::OK, "{status}");
    for (method, path) in [
        (Method::PUT, "agents/parrot/scale"),
        (Method::DELETE, "agents/parrot"),
        (Method::GET, "keys"),
    ] {
        let refused = ask(&world, &reader, method.clone(), path).await?;
        let forbidden = (StatusCode::FORBIDDEN, "forbidden".to_owned());
        ensure!(refused == forbidden, "{method} {path}: {refused:?}");
    }
    let refused = world.deploy_as(&reader, &Fixture::named("other")).await;
    ensure!(refused.is_err_and(|error| format!("{error:#}").contains("forbidden")));
    let refused = ask(&world, "plx_nonsense", Method::GET, "agents").await?;
    ensure!(
        refused == (StatusCode::UNAUTHORIZED, "unauthenticated".to_owned()),
        "{refused:?}"
    );
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_key_is_refused_with_that_reason() -> Result<()> {
    let world = World::start().await?;
    let brief = key(&world, "brief", Scope::Read, Some(1)).await?.secret;
    world
        .until("the key has expired", async || {
            let refused = ask(&world, &brief, Method::GET, "agents").await?;
            let expired = (StatusCode::UNAUTHORIZED, "credential_expired".to_owned());
            Ok((refused == expired).then_some(()))
        })
        .await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_loses_what_it_has_open() -> Result<()> {
    let world = World::start().await?;
    let reader = key(&world, "reader", Scope::Read, None).await?;
    let outsider = key(&world, "outsider", Scope::Agent, None).await?;
    let behaviour = Behaviour::default();
    let url = world.url()?;
    let agent = ScriptedAgent::connect(
        &url,
        &outsider.secret,
        "outsider",
        &["echo"],
        behaviour.clone(),
    )
    .await?;
    let mut events = world
        .request_as(&reader.secret, Method::GET, "registry/watch")
        .header("accept", "text/event-stream")
        .send()
        .await?
        .error_for_status()?;
    for revoked in [&reader, &outsider] {
        let path = format!("keys/{}", revoked.key.id);
        let response = world.request(Method::DELETE, &path).send().await?;
        ensure!(response.status().is_success(), "{}", response.status());
    }
    let closed = async {
        // How a stream ends is the server's choice; that it does is what counts.
        while let Ok(Some(_)) = events.chunk().await {}
        agent.ended().await
    };
    let end = tokio::time::timeout(CLOSED_WITHIN, closed).await;
    let end = end.context("a revoked key's streams stay open")??;
    ensure!(
        matches!(end, End::Goaway { .. } | End::Status { .. }),
        "{end:?}"
    );
    let again =
        ScriptedAgent::connect(&url, &outsider.secret, "outsider", &["echo"], behaviour).await;
    let Err(AgentError::Refused { source, .. }) = again else {
        anyhow::bail!("a revoked key opens a session: {again:?}");
    };
    ensure!(source.code() == tonic::Code::Unauthenticated, "{source}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_external_key_cannot_claim_a_hosted_name() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    let outsider = key(&world, "outsider", Scope::Agent, None).await?.secret;
    let behaviour = Behaviour::default();
    let claimed =
        ScriptedAgent::connect(&world.url()?, &outsider, "parrot", &["echo"], behaviour).await;
    let Err(AgentError::Refused { source, .. }) = claimed else {
        anyhow::bail!("an external key has a hosted name: {claimed:?}");
    };
    ensure!(source.code() == tonic::Code::PermissionDenied, "{source}");
    ensure!(world.registry().await?.len() == 1);
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosted_agents_credential_lies_in_a_file_and_nowhere_else() -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start().await?;
    let status = world.deploy_ready(&Fixture::named("parrot")).await?;
    let replica = status.replica_details.first().context("a replica")?;
    let environ = std::fs::read(format!("/proc/{}/environ", replica.pid.context("it runs")?))?;
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let file = environ
        .split('\0')
        .find_map(|entry| entry.strip_prefix("PARALLAX_TOKEN_FILE="))
        .context("the agent is told where its credential is")?;
    let mode = std::fs::metadata(file)?.permissions().mode() & 0o777;
    ensure!(mode == 0o400, "{mode:o}");
    let token = std::fs::read_to_string(file)?;
    ensure!(!token.trim().is_empty() && !environ.contains(token.trim()));
    let refused = ask(&world, token.trim(), Method::GET, "agents").await?;
    ensure!(refused.0 == StatusCode::FORBIDDEN, "{refused:?}");
    world.end().await
}
