//! How a server ends, and what of it goes on.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use parallax_api::agents::StatusView;
use parallax_testkit::world::{Call, Fixture, Serve, World, processes_of};
use rustix::process::Signal;

fn pids(status: &StatusView) -> BTreeSet<Option<u32>> {
    let replicas = status.replica_details.iter();
    replicas.map(|replica| replica.pid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_server_stops_its_replicas_and_starts_them_again() -> Result<()> {
    let world = World::start().await?;
    let before = world
        .deploy_ready(&Fixture::named("parrot").replicas(2))
        .await?;
    let status = world.signal_server(Signal::INT).await?;
    ensure!(status.success(), "{status}");
    world.nothing_runs().await?;
    world.start_server().await?;
    let after = world.until_ready("parrot").await?;
    ensure!(pids(&before).is_disjoint(&pids(&after)));
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_server_leaves_its_replicas_to_the_next_one() -> Result<()> {
    let world = World::start().await?;
    let before = world
        .deploy_ready(&Fixture::named("parrot").replicas(2).ticking(20))
        .await?;
    let status = world.signal_server(Signal::TERM).await?;
    ensure!(status.success(), "{status}");
    world.start_server().await?;
    let after = world.until_ready("parrot").await?;
    ensure!(pids(&before) == pids(&after), "{before:#?}\n{after:#?}");
    world.invoke(&Call::echo("parrot")).await?.value()?;
    world.no_log_byte_is_lost("parrot").await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn down_ends_what_a_terminated_server_has_left() -> Result<()> {
    let world = World::start().await?;
    world
        .deploy_ready(&Fixture::named("parrot").replicas(2))
        .await?;
    world.signal_server(Signal::TERM).await?;
    ensure!(!processes_of(world.dir()).is_empty());
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn down_ends_what_a_killed_server_has_left() -> Result<()> {
    let world = World::start().await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    world.kill9_server().await?;
    ensure!(!processes_of(world.dir()).is_empty());
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_any_port_comes_back_where_its_agents_look_for_it() -> Result<()> {
    comes_back(World::start().await?).await
}

/// Its own agents dial a second listener then, which has a port of its own to come back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_tls_comes_back_where_its_agents_look_for_it() -> Result<()> {
    comes_back(World::start_with(Serve::with_tls()).await?).await
}

async fn comes_back(world: World) -> Result<()> {
    let before = world
        .deploy_ready(&Fixture::named("parrot").replicas(2))
        .await?;
    let url = world.url()?;
    world.kill9_and_restart_server().await?;
    ensure!(world.url()? == url, "{} instead of {url}", world.url()?);
    let after = world.until_ready("parrot").await?;
    ensure!(pids(&before) == pids(&after), "{before:#?}\n{after:#?}");
    world.invoke(&Call::echo("parrot")).await?.value()?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_whose_server_has_lost_its_port_find_it_all_the_same() -> Result<()> {
    let world = World::start().await?;
    let before = world
        .deploy_ready(&Fixture::named("parrot").replicas(3))
        .await?;
    let url = world.url()?;
    let address = url.trim_start_matches("http://");
    world.kill9_server().await?;
    let thief = std::net::TcpListener::bind(address)?;
    world.start_server().await?;
    ensure!(world.url()? != url, "the port was taken");
    let status = world
        .until("every replica is replaced", async || {
            let status = world.status("parrot").await?;
            let fresh = pids(&status).is_disjoint(&pids(&before));
            let ready = status.status.replicas.ready == 3;
            Ok((fresh && ready).then_some(status))
        })
        .await?;
    let details = status.replica_details.iter();
    let restarts: Vec<u32> = details.map(|replica| replica.restarts).collect();
    ensure!(restarts == [1, 1, 1], "{status:#?}");
    world.invoke(&Call::echo("parrot")).await?.value()?;
    drop(thief);
    world.end().await
}
