//! How a separate host is let in, once.

use anyhow::{Result, ensure};
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
