//! How a separate host is let in, once.

use anyhow::{Context, Result, ensure};
use parallax_testkit::world::{Call, Fixture, Serve, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_join_token_lets_one_host_in_and_no_second() -> Result<()> {
    let world = World::start_with(Serve::without_host()).await?;
    let token = world.join_token().await?;
    let first = world.start_host("first", &token, None).await?;
    world.until_host("first").await?;
    let (status, said) = world.refused_host("second", &token).await?;
    ensure!(!status.success(), "{said}");
    for words in ["was used before", "parallax hosts token"] {
        ensure!(said.contains(words), "{said}");
    }
    let hosts = world.hosts().await?;
    ensure!(hosts.len() == 1 && hosts[0].name == "first", "{hosts:#?}");

    // The first has its own credential by now, and works.
    world.deploy_ready(&Fixture::named("parrot")).await?;
    world.invoke(&Call::echo("parrot")).await?.value()?;
    world.end_host(first).await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_with_a_wrong_token_ends_and_says_what_to_do() -> Result<()> {
    let world = World::start_with(Serve::without_host()).await?;
    let other_use = world.admin_key();
    for token in ["plx_nonsense", &other_use] {
        let (status, said) = world.refused_host("stranger", token).await?;
        ensure!(!status.success(), "{said}");
        ensure!(said.contains("refuses the join token"), "{said}");
        ensure!(said.contains("parallax hosts token"), "{said}");
        ensure!(!said.contains(token), "the token is shown: {said}");
    }
    ensure!(world.hosts().await?.is_empty());
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hosts_with_one_credential_the_older_one_ends_and_says_what_to_do() -> Result<()> {
    let world = World::start_with(Serve::without_host()).await?;
    let first = world.separate_host("one").await?;
    let before = world.deploy_ready(&Fixture::named("parrot")).await?;
    let first_pid = before.replica_details[0].pid.context("it runs")?;
    let mut second = world.copied_host("one", "copy")?;
    second.says(&world, "works for").await?;
    let (status, said) = first.ended().await?;
    ensure!(status.code() == Some(4), "{status}: {said}");
    for words in [
        "another host uses the credential",
        "parallax hosts token",
        "goes on without a host",
    ] {
        ensure!(said.contains(words), "{said}");
    }
    ensure!(is_alive(first_pid), "the older one stopped what ran");
    // The newer one has nothing of what ran, and is asked for it.
    let after = world
        .until_status("the newer host runs the agent", "parrot", |status| {
            let mut replicas = status.replica_details.iter();
            replicas.any(|it| it.ready && it.pid.is_some_and(|pid| pid != first_pid))
        })
        .await?;
    let ready = after.replica_details.iter().find(|it| it.ready);
    let pid = ready.and_then(|it| it.pid).context("it runs")?;
    world.invoke(&Call::echo("parrot")).await?.value()?;
    let events: serde_json::Value = world.get("events?limit=500").await?;
    let items = events["items"].as_array().context("a list of events")?;
    let of_hosts = |kind: &str| {
        let of_hosts = items.iter().filter(|it| it["subject"] == "host");
        of_hosts.filter(|it| it["kind"] == kind).count()
    };
    ensure!(of_hosts("connected") == 2, "{events:#}");
    ensure!(of_hosts("superseded") == 1, "{events:#}");
    ensure!(is_alive(pid), "the newer one's replica was stopped");
    world.end_host(second).await?;
    // What the older one left behind is stopped as it has said.
    world.down_of_host("one").await?;
    ensure!(!is_alive(first_pid));
    world.end().await
}

fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
