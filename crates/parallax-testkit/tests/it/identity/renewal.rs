//! Credentials of agents and hosts: renewed in place, and missed when they are not.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use parallax_api::agents::StatusView;
use parallax_core::status::Phase;
use parallax_testkit::world::{Call, Fixture, Serve, World};
use reqwest::{Method, StatusCode};

use super::ask;

/// Renewals that are waited for: three, at half a life each, outlast every first credential.
const RENEWALS: usize = 3;

fn serve(args: &[&str]) -> Serve {
    Serve {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        ..Serve::default()
    }
}

fn pid(status: &StatusView) -> Result<u32> {
    let replica = status.replica_details.first().context("a replica")?;
    replica.pid.context("it runs")
}

/// The file that a process was told to read its credential from.
fn token_file(pid: u32) -> Result<PathBuf> {
    let environ = fs::read(format!("/proc/{pid}/environ"))?;
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let file = environ
        .split('\0')
        .find_map(|entry| entry.strip_prefix("PARALLAX_TOKEN_FILE="));
    Ok(file.context("it was told where")?.into())
}

/// Waits until a credential is another one than before.
async fn renewed(world: &World, file: &Path, before: &str) -> Result<String> {
    world
        .until("the credential is renewed", async || {
            let now = fs::read_to_string(file)?;
            Ok((now != before).then_some(now))
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_serves_on_while_its_credential_is_renewed_again_and_again() -> Result<()> {
    let world = World::start_with(serve(&["--credential-ttl", "4s"])).await?;
    let before = world.deploy_ready(&Fixture::named("parrot")).await?;
    let file = token_file(pid(&before)?)?;
    let first = fs::read_to_string(&file)?;
    let mut token = first.clone();
    for _ in 0..RENEWALS {
        token = world
            .until("the credential is renewed", async || {
                // There is no moment at which nobody answers.
                world.invoke(&Call::echo("parrot")).await?.value()?;
                let now = fs::read_to_string(&file)?;
                Ok((now != token).then_some(now))
            })
            .await?;
    }
    let refused = ask(&world, first.trim(), Method::GET, "agents").await?;
    let expired = (StatusCode::UNAUTHORIZED, "credential_expired".to_owned());
    ensure!(refused == expired, "the first one is over: {refused:?}");
    let after = world.until_ready("parrot").await?;
    ensure!(pid(&after)? == pid(&before)?, "{before:#?}\n{after:#?}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_credential_is_not_renewed_is_let_go_and_taken_back() -> Result<()> {
    let world = World::start_with(serve(&["--no-local-host", "--credential-ttl", "4s"])).await?;
    let host = world.separate_host("away").await?;
    let before = world.deploy_ready(&Fixture::named("parrot")).await?;
    let file = token_file(pid(&before)?)?;
    // Nobody is left to bring the next one.
    host.kill9().await?;
    let token = fs::read_to_string(&file)?;
    world
        .until("the agent is let go", async || {
            let nobody = world.registry().await?.is_empty();
            let status = world.status("parrot").await?;
            let unready = status.status.phase != Phase::Ready && status.status.replicas.ready == 0;
            let explained = status.status.reason.is_some() && !status.status.message.is_empty();
            Ok((nobody && unready && explained).then_some(()))
        })
        .await?;
    let refused = ask(&world, token.trim(), Method::GET, "agents").await?;
    ensure!(refused.1 == "credential_expired", "{refused:?}");
    let host = world.restart_host("away").await?;
    let after = world.until_ready("parrot").await?;
    ensure!(pid(&after)? == pid(&before)?, "{before:#?}\n{after:#?}");
    world.invoke(&Call::echo("parrot")).await?.value()?;
    let log = world.logs("parrot").await?;
    let told = log.iter().any(|line| line.line.contains("has expired"));
    ensure!(told, "the agent was told why: {log:#?}");
    world.end_host(host).await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_own_credential_is_renewed_and_one_that_expired_is_bought_anew() -> Result<()> {
    let args = ["--no-local-host", "--host-credential-ttl", "4s"];
    let world = World::start_with(serve(&args)).await?;
    let host = world.separate_host("near").await?;
    let before = world.deploy_ready(&Fixture::named("parrot")).await?;
    let file = world.host_dir("near").join("host.key");
    let mut credential = fs::read_to_string(&file)?;
    for _ in 0..RENEWALS {
        credential = renewed(&world, &file, &credential).await?;
        world.invoke(&Call::echo("parrot")).await?.value()?;
    }
    world.until_host("near").await?;
    host.kill9().await?;
    world
        .until("the last one has expired", async || {
            let refused = ask(&world, credential.trim(), Method::GET, "agents").await?;
            Ok((refused.1 == "credential_expired").then_some(()))
        })
        .await?;
    let host = world.separate_host("near").await?;
    let after = world.until_ready("parrot").await?;
    ensure!(pid(&after)? == pid(&before)?, "{before:#?}\n{after:#?}");
    ensure!(
        fs::read_to_string(&file)? != credential,
        "it has another one"
    );
    world.end_host(host).await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_of_a_server_that_was_away_too_long_is_let_in_again() -> Result<()> {
    let world = World::start_with(serve(&["--host-credential-ttl", "2s"])).await?;
    let before = world.deploy_ready(&Fixture::named("parrot")).await?;
    let file = world.data_dir().join("host.key");
    world.kill9_server().await?;
    let credential = fs::read_to_string(&file)?;
    let written = fs::metadata(&file)?.modified()?;
    world
        .until("the credential has expired", async || {
            let age = written.elapsed().unwrap_or_default();
            Ok((age > std::time::Duration::from_secs(3)).then_some(()))
        })
        .await?;
    world.start_server().await?;
    let after = world.until_ready("parrot").await?;
    ensure!(pid(&after)? == pid(&before)?, "{before:#?}\n{after:#?}");
    ensure!(
        fs::read_to_string(&file)? != credential,
        "it has another one"
    );
    world.end().await
}
