//! Goaway and SIGTERM: who comes back, who does not, and with which exit code.

use std::time::Duration;

use parallax_proto::v1::goaway::Reason;
use parallax_testkit::conformance::{Lab, Link, Ruling, Setup, Stage, check, check_eq};
use serde_json::json;
use tokio::time::Instant;
use tonic::Status;

pub(super) async fn superseded_ends_the_process_with_an_error(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    link.goaway(Reason::Superseded, 0).await?;
    link.close();
    let wanted = "after Goaway{superseded}: no new session, and run() ends with an error";
    let status = stage.gone(wanted).await?;
    check(!status.success(), wanted, || format!("ended with {status}"))?;
    let output = stage.process.output();
    check(
        output.to_lowercase().contains("supersede"),
        "the error says that a newer session superseded this one",
        || format!("printed {output:?}"),
    )?;
    Ok(())
}

pub(super) async fn sigterm_drains_and_exits_well(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected_with(with_grace("4000")).await?;
    stage.process.ready().await?;
    stage.process.terminate()?;
    let drain = link.drain().await?;
    check_eq(
        "Drain.deadline_ms, PARALLAX_STOP_GRACE_MS,",
        drain.deadline_ms,
        4_000,
    )?;
    drained(&mut stage, link).await
}

pub(super) async fn sigint_drains_and_exits_well(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    stage.process.ready().await?;
    stage.process.interrupt()?;
    link.drain().await?;
    drained(&mut stage, link).await
}

pub(super) async fn sigterm_lets_a_running_task_finish(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    stage.process.ready().await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    stage.process.terminate()?;
    let drain = link.drain().await?;
    check_eq(
        "Drain.deadline_ms, when no grace is set,",
        drain.deadline_ms,
        10_000,
    )?;
    link.input(&task, &json!("last")).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": "last"}),
    )?;
    drained(&mut stage, link).await
}

pub(super) async fn a_task_that_crosses_the_drain_is_answered(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    stage.process.ready().await?;
    // Keeps the agent from ending before the second task arrives.
    let running = link.ask("ask", json!({})).await?;
    link.accepted(&running).await?;
    stage.process.terminate()?;
    link.drain().await?;
    // The server had sent it before it read the Drain.
    let crossed = link.ask("echo", json!(1)).await?;
    let end = link.end_of(
        &crossed,
        "a result or a failure of a task that crossed the Drain",
    );
    match end.await? {
        Ok(_) => {}
        Err(failed) => check(
            failed.retryable,
            "an agent that refuses a task because it stops says that another may run it",
            || format!("sent {failed:?}"),
        )?,
    }
    link.acknowledge(&crossed).await?;
    link.input(&running, &json!("last")).await?;
    check_eq(
        "the value",
        link.value_of(&running).await?,
        json!({"answer": "last"}),
    )?;
    drained(&mut stage, link).await
}

pub(super) async fn a_drain_survives_a_lost_connection(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    stage.process.ready().await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    stage.process.terminate()?;
    link.drain().await?;
    link.cut();
    let arrival = stage.arrival().await?;
    check_eq(
        "Hello.credit of an agent that stops",
        arrival.hello.credit,
        0,
    )?;
    check_eq(
        "InventoryItem.ref",
        arrival.only_item()?.r#ref.as_ref(),
        Some(&task),
    )?;
    let mut link = arrival.welcome(&[Ruling::Keep(0)]).await?;
    link.input(&task, &json!("last")).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": "last"}),
    )?;
    leaves(&mut stage, link).await
}

pub(super) async fn sigterm_without_an_answer_ends_at_the_grace(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected_with(with_grace("500")).await?;
    stage.process.ready().await?;
    stage.process.terminate()?;
    link.drain().await?;
    // The server never says Goaway; there is nothing to finish.
    let wanted = "after Drain and its deadline the agent ends by itself";
    let status = stage.gone(wanted).await?;
    check(status.success(), "an agent without work exits 0", || {
        format!("ended with {status}")
    })?;
    Ok(())
}

pub(super) async fn sigterm_without_a_server_ends_the_process_well(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (mut stage, link) = lab.connected_with(with_grace("1000")).await?;
    stage.process.ready().await?;
    stage.server.die().await?;
    drop(link);
    stage.process.terminate()?;
    let wanted = "an agent without work and without a server ends within its grace, with 0";
    let status = stage.gone(wanted).await?;
    check(status.success(), wanted, || format!("ended with {status}"))?;
    Ok(())
}

pub(super) async fn removed_ends_the_process_well(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    stage.process.ready().await?;
    link.goaway(Reason::Removed, 0).await?;
    leaves(&mut stage, link).await
}

pub(super) async fn removed_lets_a_running_task_finish(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    link.goaway(Reason::Removed, 0).await?;
    link.round_trip().await?;
    link.input(&task, &json!("last")).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": "last"}),
    )?;
    leaves(&mut stage, link).await
}

pub(super) async fn shutdown_is_obeyed_after_its_delay(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let told = Instant::now();
    link.goaway(Reason::Shutdown, 1_500).await?;
    link.close();
    let mut link = stage.connect(&[]).await?;
    let waited = told.elapsed();
    check(
        waited >= Duration::from_millis(1_500),
        "after Goaway{reconnect_after_ms: 1500}, no new session for that long",
        || format!("came back after {waited:?}"),
    )?;
    link.round_trip().await
}

pub(super) async fn an_expired_lease_is_renewed_with_the_inventory(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    link.goaway(Reason::LeaseExpired, 0).await?;
    link.close();
    let arrival = stage.arrival().await?;
    check_eq(
        "InventoryItem.ref",
        arrival.only_item()?.r#ref.as_ref(),
        Some(&task),
    )?;
    let mut link = arrival.welcome(&[Ruling::Keep(0)]).await?;
    link.input(&task, &json!(1)).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": 1}),
    )?;
    Ok(())
}

pub(super) async fn a_new_token_is_read_after_goaway_unauthenticated(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    stage.renew_token("plx_conformance_token_two")?;
    link.goaway(Reason::Unauthenticated, 0).await?;
    link.close();
    // `connect` checks the token of each session against the file's.
    let mut link = stage.connect(&[]).await?;
    link.round_trip().await
}

pub(super) async fn a_new_token_is_read_after_a_refusal(lab: &Lab) -> anyhow::Result<()> {
    let mut stage = lab.stage(Setup::default()).await?;
    let arrival = stage.arrival().await?;
    stage.renew_token("plx_conformance_token_two")?;
    arrival.refuse(Status::unauthenticated("the credential has expired"));
    let mut link = stage.connect(&[]).await?;
    link.round_trip().await
}

/// Tells the agent that its drain is complete, and sees it off.
async fn drained(stage: &mut Stage, link: Link) -> anyhow::Result<()> {
    say_drained(link).await;
    let wanted = "after Goaway{drained}: no new session, and exit code 0";
    let status = stage.gone(wanted).await?;
    check(status.success(), wanted, || format!("ended with {status}"))?;
    Ok(())
}

/// Sees off an agent that was removed: it may say Drain first, or close the session itself.
async fn leaves(stage: &mut Stage, mut link: Link) -> anyhow::Result<()> {
    let wanted = "after Goaway{removed}: finish, drain, no new session, and exit code 0";
    if link.drain_or_end(wanted).await? {
        say_drained(link).await;
    }
    let status = stage.gone(wanted).await?;
    check(status.success(), wanted, || format!("ended with {status}"))?;
    Ok(())
}

async fn say_drained(mut link: Link) {
    // An agent without work may have left without waiting for the answer.
    let _ = link.goaway(Reason::Drained, 0).await;
    link.close();
}

fn with_grace(ms: &str) -> Setup {
    Setup {
        env: vec![("PARALLAX_STOP_GRACE_MS".to_owned(), ms.to_owned())],
        ..Setup::default()
    }
}
