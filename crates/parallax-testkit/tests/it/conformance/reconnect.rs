//! Lost connections: the same instance, the same work, each result once.

use std::time::Duration;

use anyhow::Context;
use parallax_proto::v1::inventory_item::State;
use parallax_proto::v1::{TaskFailed, TaskRef, TaskResult};
use parallax_testkit::conformance::{
    Arrival, Lab, Link, Order, Ruling, Setup, Stage, check, check_eq, unavailable_for,
};
use serde_json::json;
use tokio::time::Instant;
use tonic::Status;

pub(super) async fn a_running_task_survives_a_lost_connection(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    let uuid = link.hello.instance_uuid.clone();
    link.cut();
    let arrival = stage.arrival().await?;
    check_eq(
        "Hello.instance_uuid",
        arrival.hello.instance_uuid.as_str(),
        uuid.as_str(),
    )?;
    check_eq(
        "Hello.credit with one task running",
        arrival.hello.credit,
        3,
    )?;
    check_item(&arrival, &task, State::Running)?;
    let mut link = arrival.welcome(&[Ruling::Keep(0)]).await?;
    link.input(&task, &json!("again")).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": "again"}),
    )?;
    link.credit_reaches(4).await
}

pub(super) async fn a_result_of_the_outage_is_kept(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("slow", json!({"ms": 300})).await?;
    link.accepted(&task).await?;
    link.cut();
    // Longer than the task takes: it ends while nobody listens.
    stage
        .refuse_next(unavailable_for(Duration::from_millis(1_500)))
        .await?;
    let arrival = stage.arrival().await?;
    let ruling = match arrival.only_item()?.state() {
        State::Finished => Ruling::SendResult,
        State::Running | State::Unspecified => Ruling::Keep(0),
    };
    let mut link = arrival.welcome(&[ruling]).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"slept": 300}),
    )?;
    link.credit_reaches(4).await?;
    link.round_trip().await?;
    link.cut();
    nothing_is_left(&mut stage).await
}

pub(super) async fn a_deadline_counts_during_an_outage(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let order = Order::of("slow", &json!({"ms": 600_000})).due(500, 0);
    let task = link.give(order).await?;
    link.accepted(&task).await?;
    link.cut();
    stage
        .refuse_next(unavailable_for(Duration::from_millis(1_500)))
        .await?;
    let arrival = stage.arrival().await?;
    check_item(&arrival, &task, State::Finished)?;
    let mut link = arrival.welcome(&[Ruling::SendResult]).await?;
    let failed = link.failure_of(&task).await?;
    check_eq("TaskFailed.code", failed.code.as_str(), "deadline_exceeded")?;
    Ok(())
}

pub(super) async fn an_unacknowledged_result_is_sent_again(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("echo", json!({"keep": "me"})).await?;
    let first = link.result_of(&task).await?;
    link.cut();
    let arrival = stage.arrival().await?;
    check_eq("Hello.credit with nothing running", arrival.hello.credit, 4)?;
    check_item(&arrival, &task, State::Finished)?;
    let mut link = arrival.welcome(&[Ruling::SendResult]).await?;
    let second = link.result_of(&task).await?;
    let expected = TaskResult { credit: 0, ..first };
    check_eq(
        "the resent result, which grants no credit,",
        &second,
        &expected,
    )?;
    link.acknowledge(&task).await?;
    link.round_trip().await?;
    link.cut();
    nothing_is_left(&mut stage).await
}

pub(super) async fn a_forgotten_result_is_dropped(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("echo", json!(1)).await?;
    link.result_of(&task).await?;
    link.cut();
    let arrival = stage.arrival().await?;
    check_item(&arrival, &task, State::Finished)?;
    let mut link = arrival.welcome(&[Ruling::Forget]).await?;
    link.round_trip().await?;
    link.nothing_of(&task, "a forgotten result is dropped and not sent")?;
    link.cut();
    nothing_is_left(&mut stage).await
}

pub(super) async fn an_unacknowledged_failure_is_sent_again(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("crash", json!({})).await?;
    let first = link.failure_of(&task).await?;
    link.cut();
    let arrival = stage.arrival().await?;
    check_item(&arrival, &task, State::Finished)?;
    let mut link = arrival.welcome(&[Ruling::SendResult]).await?;
    let second = link.failure_of(&task).await?;
    let expected = TaskFailed { credit: 0, ..first };
    check_eq(
        "the resent failure, which grants no credit,",
        second,
        expected,
    )?;
    Ok(())
}

pub(super) async fn verdicts_follow_the_order_of_the_inventory(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let running = link.ask("ask", json!({})).await?;
    let forgotten = link.ask("echo", json!("forgotten")).await?;
    let resent = link.ask("echo", json!("resent")).await?;
    link.accepted(&running).await?;
    link.result_of(&forgotten).await?;
    link.result_of(&resent).await?;
    link.cut();
    let arrival = stage.arrival().await?;
    let named = |task: &TaskRef, of: &Option<TaskRef>| of.as_ref() == Some(task);
    let rulings: Vec<Ruling> = arrival
        .hello
        .inventory
        .iter()
        .map(|item| match item.state() {
            State::Finished if named(&forgotten, &item.r#ref) => Ruling::Forget,
            State::Finished => Ruling::SendResult,
            State::Running | State::Unspecified => Ruling::Keep(0),
        })
        .collect();
    check_eq("the length of the inventory", rulings.len(), 3)?;
    let mut link = arrival.welcome(&rulings).await?;
    link.input(&running, &json!("kept")).await?;
    check_eq(
        "the resent value",
        link.value_of(&resent).await?,
        json!("resent"),
    )?;
    check_eq(
        "the kept value",
        link.value_of(&running).await?,
        json!({"answer": "kept"}),
    )?;
    link.round_trip().await?;
    link.nothing_of(&forgotten, "a forgotten result is not sent")?;
    link.cut();
    nothing_is_left(&mut stage).await
}

pub(super) async fn a_lost_welcome_loses_no_task(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    link.cut();
    for _ in 0..2 {
        let arrival = stage.arrival().await?;
        check_item(&arrival, &task, State::Running)?;
        arrival.cut();
    }
    let arrival = stage.arrival().await?;
    check_item(&arrival, &task, State::Running)?;
    let mut link = arrival.welcome(&[Ruling::Keep(0)]).await?;
    link.input(&task, &json!(1)).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": 1}),
    )?;
    Ok(())
}

pub(super) async fn a_task_that_ends_between_hello_and_welcome_is_reported(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("slow", json!({"ms": 1_500})).await?;
    link.accepted(&task).await?;
    link.cut();
    let arrival = stage.arrival().await?;
    let ruling = match arrival.only_item()?.state() {
        State::Finished => Ruling::SendResult,
        State::Running | State::Unspecified => Ruling::Keep(0),
    };
    let mut link = arrival
        .welcome_late(Duration::from_millis(2_000), &[ruling])
        .await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"slept": 1_500}),
    )?;
    link.credit_reaches(4).await?;
    link.round_trip().await?;
    link.cut();
    nothing_is_left(&mut stage).await
}

pub(super) async fn a_task_that_ended_before_its_cancel_verdict_is_dropped(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("slow", json!({"ms": 1_500})).await?;
    link.accepted(&task).await?;
    link.cut();
    let arrival = stage.arrival().await?;
    arrival.only_item()?;
    let mut link = arrival
        .welcome_late(Duration::from_millis(2_000), &[Ruling::Cancel])
        .await?;
    link.credit_reaches(4).await?;
    link.round_trip().await?;
    link.cut();
    nothing_is_left(&mut stage).await
}

pub(super) async fn a_cancel_verdict_stops_the_task(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    link.cut();
    let arrival = stage.arrival().await?;
    check_item(&arrival, &task, State::Running)?;
    let mut link = arrival.welcome(&[Ruling::Cancel]).await?;
    link.credit_reaches(4).await?;
    link.cut();
    nothing_is_left(&mut stage).await
}

pub(super) async fn kept_partials_go_on_after_the_servers_number(lab: &Lab) -> anyhow::Result<()> {
    let mut setup = Setup::default();
    setup.terms.limits.partial_window_bytes = 200;
    let (mut stage, mut link) = lab.connected_with(setup).await?;
    let task = link
        .ask("stream", json!({"chunks": 4, "bytes": 100}))
        .await?;
    link.partial_of(&task).await?;
    link.partial_of(&task).await?;
    link.round_trip().await?;
    link.cut();
    let arrival = stage.arrival().await?;
    check_item(&arrival, &task, State::Running)?;
    check_eq(
        "InventoryItem.last_up_seq",
        arrival.only_item()?.last_up_seq,
        2,
    )?;
    // The second partial was lost on the way: the ledger wants seq 2 next.
    let mut link = arrival.welcome(&[Ruling::Keep(1)]).await?;
    link.widen(&task, 1_000).await?;
    let mut bytes = 0;
    for _ in 2..=4 {
        bytes += link.partial_of(&task).await?.chunk.len();
    }
    check_eq("the bytes of partials 2 to 4", bytes, 300)?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"chunks": 4}),
    )?;
    Ok(())
}

pub(super) async fn a_server_that_restarts_on_its_port_is_found(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    stage.server.die().await?;
    drop(link);
    stage.server.rise().await?;
    let mut link = stage.connect(&[Ruling::Keep(0)]).await?;
    link.input(&task, &json!("new server")).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": "new server"}),
    )?;
    let task = link.ask("echo", json!(1)).await?;
    check_eq("the value", link.value_of(&task).await?, json!(1))?;
    Ok(())
}

pub(super) async fn unavailable_is_obeyed(lab: &Lab) -> anyhow::Result<()> {
    let delay = Duration::from_millis(1_500);
    let mut stage = lab.stage(Setup::default()).await?;
    stage.refuse_next(unavailable_for(delay)).await?;
    for _ in 0..2 {
        let refused = Instant::now();
        stage.refuse_next(unavailable_for(delay)).await?;
        let waited = refused.elapsed();
        check(
            waited >= delay,
            &format!("after UNAVAILABLE with retry-after-ms, no attempt for {delay:?}"),
            || format!("tried again after {waited:?}"),
        )?;
    }
    let mut link = stage.connect(&[]).await?;
    link.round_trip().await
}

pub(super) async fn a_clean_end_of_the_stream_is_followed_by_a_new_session(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (mut stage, link) = lab.connected().await?;
    link.close();
    echoes(&mut stage.connect(&[]).await?).await
}

pub(super) async fn a_status_in_the_stream_is_followed_by_a_new_session(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected().await?;
    for status in [
        Status::internal("a bug"),
        Status::unknown(""),
        Status::unavailable("away"),
    ] {
        link.fail(status).await?;
        link = stage.connect(&[]).await?;
    }
    echoes(&mut link).await
}

async fn echoes(link: &mut Link) -> anyhow::Result<()> {
    let task = link.ask("echo", json!("back")).await?;
    check_eq("the value", link.value_of(&task).await?, json!("back"))?;
    Ok(())
}

fn check_item(arrival: &Arrival, task: &TaskRef, state: State) -> anyhow::Result<()> {
    let item = arrival.only_item()?;
    let named = item.r#ref.as_ref().context("an inventory item has a ref")?;
    check_eq("InventoryItem.ref", named, task)?;
    check_eq("InventoryItem.state", item.state(), state)?;
    Ok(())
}

/// Looks at the next Hello: what has been acknowledged, forgotten or cancelled is not listed.
async fn nothing_is_left(stage: &mut Stage) -> anyhow::Result<()> {
    let arrival = stage.arrival().await?;
    check(
        arrival.hello.inventory.is_empty(),
        "what was acknowledged, forgotten or cancelled leaves the inventory",
        || format!("listed {:?}", arrival.hello.inventory),
    )?;
    check_eq("Hello.credit with nothing running", arrival.hello.credit, 4)?;
    Ok(())
}
