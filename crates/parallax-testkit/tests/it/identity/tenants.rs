//! Two tenants on one server.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result, ensure};
use parallax_core::id::{KeyId, TenantId};
use parallax_core::key::{ApiKey, Scope};
use parallax_core::time::Timestamp;
use parallax_server::auth::bootstrap;
use parallax_server::auth::token::{KEY_PURPOSE, mint_key, secret_part};
use parallax_server::clock::{Clock, random};
use parallax_store::tenants::{self, Tenant};
use parallax_store::{Config, Store, keys};
use parallax_testkit::scripted_agent::{Behaviour, ScriptedAgent};
use parallax_testkit::world::{Call, CallEnd, Fixture, World};
use reqwest::{Method, StatusCode};
use rustix::process::Signal;

use super::ask;

/// Adds a tenant to the database of a server that does not run; answers its administration key.
async fn second_tenant(data_dir: &Path) -> Result<String> {
    let url = format!("sqlite:{}", data_dir.join("parallax.db").display());
    let store = Store::open(&Config::new(url)).await?;
    let pepper = bootstrap::run(&store, data_dir, &Clock::default())
        .await?
        .pepper;
    let now = now()?;
    let tenant = Tenant {
        id: TenantId::new(now, random()),
        name: "other".parse().context("a name")?,
        created_at: now,
    };
    let tenant_id = tenant.id;
    store
        .system_write(tenant, |tx, tenant| {
            Box::pin(async move { tenants::insert(tx, tenant).await })
        })
        .await?;
    let id = KeyId::new(now, random());
    let secret = mint_key(id, random());
    let key = ApiKey {
        tenant: tenant_id,
        id,
        name: "admin".parse().context("a name")?,
        hash: pepper.hash(KEY_PURPOSE, &secret_part(&secret)),
        scopes: [Scope::Admin, Scope::Agent].into_iter().collect(),
        groups: Vec::new(),
        host: None,
        single_use: false,
        created_at: now,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    };
    store
        .write(tenant_id, key, |tx, key| {
            Box::pin(async move { keys::insert(tx, key).await })
        })
        .await?;
    store.close().await;
    Ok(secret.reveal().to_owned())
}

#[expect(
    clippy::disallowed_methods,
    reason = "ids in the database of a real server bear the real time"
)]
fn now() -> Result<Timestamp> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    Ok(Timestamp::from_unix_millis(i64::try_from(
        since.as_millis(),
    )?))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_tenants_use_the_same_name_and_never_meet() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    let task = world.submit(&Call::echo("parrot")).await?;
    world.signal_server(Signal::TERM).await?;
    let theirs = second_tenant(&world.data_dir()).await?;
    world.start_server().await?;
    world.until_ready("parrot").await?;

    let paths = [
        "agents/parrot".to_owned(),
        "agents/parrot/status".to_owned(),
        "agents/parrot/logs".to_owned(),
        format!("tasks/{}", task.id),
    ];
    for path in paths {
        let (status, code) = ask(&world, &theirs, Method::GET, &path).await?;
        ensure!(
            (status, code.as_str()) == (StatusCode::NOT_FOUND, "not_found"),
            "{path}: {status} {code}"
        );
    }
    for list in ["agents", "tasks", "registry", "hosts"] {
        let page = world.request_as(&theirs, Method::GET, list).send().await?;
        let page: serde_json::Value = page.error_for_status()?.json().await?;
        ensure!(page["items"] == serde_json::json!([]), "{list}: {page}");
    }
    let behaviour = Behaviour::default();
    let tally = behaviour.tally.clone();
    let _agent =
        ScriptedAgent::connect(&world.url()?, &theirs, "parrot", &["echo"], behaviour).await?;
    let CallEnd::Answer(answer) = world.invoke(&Call::echo("parrot")).await? else {
        anyhow::bail!("our own agent does not answer");
    };
    let value = answer.value.context("a value")?;
    ensure!(
        value.get().contains("replica"),
        "another tenant's agent answered: {value}"
    );
    ensure!(tally.started() == 0);
    world.end().await
}
