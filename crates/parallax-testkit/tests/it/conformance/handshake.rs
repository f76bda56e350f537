//! Who the agent is, and whom it trusts.

use std::collections::BTreeMap;

use parallax_proto::v1::Capability;
use parallax_testkit::conformance::{CONNECT_PATIENCE, Lab, Setup, check, check_eq};
use serde_json::json;

/// Every capability of the fixture, sorted.
const CAPABILITIES: [&str; 13] = [
    "ask", "context", "crash", "deadline", "echo", "fail", "large", "schema", "serial", "size",
    "slow", "stream", "stubborn",
];

pub(super) async fn hello_tells_who_the_agent_is_and_what_it_can(lab: &Lab) -> anyhow::Result<()> {
    let mut stage = lab.stage(Setup::default()).await?;
    // `arrival` has checked the token in the metadata.
    let hello = stage.arrival().await?.hello;
    check_eq(
        "Hello.agent_name",
        hello.agent_name.as_str(),
        "conformance-fixture",
    )?;
    check_eq("Hello.credit, the concurrency", hello.credit, 4)?;
    check_eq("Hello.inventory of a new process", hello.inventory.len(), 0)?;
    check(
        hello.proto_versions.contains(&1),
        "Hello.proto_versions has 1",
        || format!("sent {:?}", hello.proto_versions),
    )?;
    check(
        is_uuid(&hello.instance_uuid),
        "Hello.instance_uuid is a UUID",
        || format!("sent {:?}", hello.instance_uuid),
    )?;
    let sdk = hello.sdk.clone().unwrap_or_default();
    check(
        !sdk.name.is_empty() && !sdk.version.is_empty() && !sdk.language.is_empty(),
        "Hello.sdk has a name, a version and a language",
        || format!("sent {:?}", hello.sdk),
    )?;

    let declared: BTreeMap<&str, &Capability> = hello
        .capabilities
        .iter()
        .map(|capability| (capability.name.as_str(), capability))
        .collect();
    let names: Vec<&str> = declared.keys().copied().collect();
    check_eq(
        "the names of Hello.capabilities",
        names,
        CAPABILITIES.to_vec(),
    )?;
    check_eq("echo.idempotent", declared["echo"].idempotent, true)?;
    check_eq(
        "slow.idempotent, undeclared",
        declared["slow"].idempotent,
        false,
    )?;
    check_eq(
        "serial.max_concurrency",
        declared["serial"].max_concurrency,
        1,
    )?;
    check_eq(
        "echo.max_concurrency, undeclared",
        declared["echo"].max_concurrency,
        0,
    )?;
    let schema: serde_json::Value =
        serde_json::from_slice(&declared["schema"].input_schema_json).unwrap_or_default();
    check_eq(
        "schema.input_schema_json's `required`",
        &schema["required"],
        &json!(["n"]),
    )?;
    check(
        declared["echo"].input_schema_json.is_empty(),
        "Capability.input_schema_json is empty when undeclared",
        || format!("sent {:?}", declared["echo"].input_schema_json),
    )?;
    Ok(())
}

pub(super) async fn ready_is_printed_after_the_first_welcome(lab: &Lab) -> anyhow::Result<()> {
    let mut stage = lab.stage(Setup::default()).await?;
    let arrival = stage.arrival().await?;
    check(
        !stage.process.is_ready(),
        "`ready` follows the first Welcome",
        || "printed it before the Welcome",
    )?;
    let _link = arrival.welcome(&[]).await?;
    stage.process.ready().await?;
    Ok(())
}

pub(super) async fn tls_trusts_the_private_ca_of_the_ca_file(lab: &Lab) -> anyhow::Result<()> {
    let setup = Setup {
        tls: true,
        ..Setup::default()
    };
    let (_stage, mut link) = lab.connected_with(setup).await?;
    let task = link.ask("echo", json!("over TLS")).await?;
    check_eq("the value", link.value_of(&task).await?, json!("over TLS"))?;
    Ok(())
}

pub(super) async fn tls_sends_no_token_to_a_server_of_another_ca(lab: &Lab) -> anyhow::Result<()> {
    let setup = Setup {
        tls: true,
        wrong_ca: true,
        ..Setup::default()
    };
    let stage = lab.stage(setup).await?;
    // The second attempt shows that the first has failed and that the agent goes on.
    stage.server.connections_reach(2, CONNECT_PATIENCE).await?;
    check(
        !stage.server.has_caller(),
        "a server whose certificate is not of PARALLAX_CA_FILE gets no session",
        || "opened a session and showed its token",
    )?;
    Ok(())
}

pub(super) async fn a_missing_welcome_makes_it_dial_again(lab: &Lab) -> anyhow::Result<()> {
    let mut stage = lab.stage(Setup::default()).await?;
    let ignored = stage.arrival().await?;
    let second = stage.arrival().await?;
    check_eq(
        "Hello.instance_uuid at the second attempt",
        second.hello.instance_uuid.as_str(),
        ignored.hello.instance_uuid.as_str(),
    )?;
    Ok(())
}

pub(super) async fn two_processes_have_two_uuids(lab: &Lab) -> anyhow::Result<()> {
    let mut first = lab.stage(Setup::default()).await?;
    let mut second = lab.stage(Setup::default()).await?;
    let one = first.arrival().await?.hello.instance_uuid;
    let other = second.arrival().await?.hello.instance_uuid;
    check(
        one != other,
        "Hello.instance_uuid is chosen at process start",
        || format!("sent {one} from two processes"),
    )?;
    Ok(())
}

fn is_uuid(text: &str) -> bool {
    let groups: Vec<usize> = text.split('-').map(str::len).collect();
    let hex = text
        .bytes()
        .all(|byte| byte == b'-' || byte.is_ascii_hexdigit());
    groups == [8, 4, 4, 4, 12] && hex
}
