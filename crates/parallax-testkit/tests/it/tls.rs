//! A server that speaks TLS, with a certificate that no machine trusts by itself.

use std::path::Path;
use std::process::Output;

use anyhow::{Result, ensure};
use parallax_core::key::Scope;
use parallax_testkit::conformance::{Language, fixtures};
use parallax_testkit::world::{Call, Fixture, PATIENCE, Serve, World};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_deploys_and_invokes_over_tls() -> Result<()> {
    let world = World::start_with(Serve::with_tls()).await?;
    ensure!(world.url()?.starts_with("https://"), "{}", world.url()?);
    let source = world.dir().join("source");
    Fixture::named("parrot").write_to(&source)?;
    let folder = source.display().to_string();
    succeeded(&world.cli(["deploy", &folder], PATIENCE).await?)?;
    let args = ["invoke", "parrot", "echo", r#"{"n":1}"#];
    let said = succeeded(&world.cli(args, PATIENCE).await?)?;
    ensure!(said.contains(r#""n""#), "{said}");
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_names_what_to_set_for_an_authority_that_it_does_not_know() -> Result<()> {
    let world = World::start_with(Serve::with_tls().only()).await?;
    for authority in [world.another_authority()?, Path::new("").to_owned()] {
        let mut args = vec!["agents".to_owned()];
        if !authority.as_os_str().is_empty() {
            args.extend(["--ca-file".to_owned(), authority.display().to_string()]);
        }
        let output = world
            .cli_as_stranger(args.iter().map(String::as_str))
            .await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            !output.status.success() && said.contains("PARALLAX_CA_FILE"),
            "{said}"
        );
    }
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_separate_host_runs_agents_over_tls() -> Result<()> {
    let world = World::start_with(Serve::with_tls().only()).await?;
    let host = world.separate_host("far").await?;
    world.deploy_ready(&Fixture::named("parrot")).await?;
    let value = world
        .invoke(&Call::echo("parrot").input(json!({"n": 2})))
        .await?;
    let value = value.value()?;
    ensure!(value["echo"] == json!({"n": 2}), "{value}");
    world.end_host(host).await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_know_the_authority_says_what_to_set() -> Result<()> {
    let world = World::start_with(Serve::with_tls().only()).await?;
    let other = world.another_authority()?;
    let token = world.join_token().await?;
    let mut host = world.start_host("far", &token, Some(&other)).await?;
    host.says(&world, "PARALLAX_CA_FILE").await?;
    ensure!(world.hosts().await?.is_empty(), "it joined all the same");
    world.end_host(host).await?;
    // The token was not shown to anybody, and still does.
    let host = world
        .start_host("near", &token, world.ca_file().as_deref())
        .await?;
    world.until_host("near").await?;
    world.end_host(host).await?;
    world.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_agent_and_client_speak_tls() -> Result<()> {
    if let Some(missing) = fixtures::missing(Language::TypeScript) {
        parallax_testkit::skip!("{missing}");
    }
    sdk(Language::TypeScript).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_agent_and_client_speak_tls() -> Result<()> {
    if let Some(missing) = fixtures::missing(Language::Python) {
        parallax_testkit::skip!("{missing}");
    }
    sdk(Language::Python).await
}

async fn sdk(language: Language) -> Result<()> {
    let world = World::start_with(Serve::with_tls().only()).await?;
    let other = world.another_authority()?;
    let wrong = [("PARALLAX_CA_FILE", other.as_path())];
    let key = world.key_file("outside", &[Scope::Agent]).await?;
    let mut stranger = world.start_sdk_agent(language, &key, &wrong).await?;
    stranger.says(&world, "PARALLAX_CA_FILE").await?;
    stranger.stop().await?;
    let unknown = world
        .sdk_client(language, "call", &["echo"], &wrong)
        .await?;
    let failed = unknown.failure().await?;
    ensure!(failed.contains("PARALLAX_CA_FILE"), "{failed}");

    let agent = world.sdk_agent(language).await?;
    let client = world.sdk_client(language, "call", &["echo"], &[]).await?;
    ensure!(client.documents().await? == [json!({"value": "echo"})]);
    agent.stop().await?;
    world.end().await
}

fn succeeded(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}\n{complained}");
    Ok(said)
}
