//! How many tasks run at once. The bounds themselves are the ledger's, in every case.

use parallax_testkit::conformance::{Lab, Ruling, Setup, check, check_eq};
use serde_json::json;

pub(super) async fn credit_comes_back_with_results_and_failures(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let failure = json!({"code": "no", "message": "no", "retryable": false});
    for (capability, input) in [("echo", json!(1)), ("fail", failure), ("crash", json!({}))] {
        // More rounds than the concurrency, so that lost credit shows.
        for _ in 0..6 {
            let task = link.ask(capability, input.clone()).await?;
            // Either end will do: what it grants is the subject.
            let _end = link.end_of(&task, "the end of the task").await?;
            link.acknowledge(&task).await?;
        }
    }
    link.credit_reaches(4).await
}

pub(super) async fn credit_comes_back_after_a_cancel(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    for _ in 0..6 {
        let task = link.ask("slow", json!({"ms": 600_000})).await?;
        link.accepted(&task).await?;
        link.cancel(&task, std::time::Duration::from_secs(5))
            .await?;
        link.cancel_ack_of(&task).await?;
    }
    link.credit_reaches(4).await
}

pub(super) async fn as_many_tasks_run_at_once_as_credit_allows(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(link.ask("ask", json!({})).await?);
    }
    // All four wait for an input at once, so all four are accepted and running.
    for task in &tasks {
        link.accepted(task).await?;
    }
    check_eq(
        "open credit with four tasks running",
        link.ledger().open_credit(),
        0,
    )?;
    for (n, task) in tasks.iter().enumerate().rev() {
        link.input(task, &json!(n)).await?;
        check_eq(
            "the value",
            link.value_of(task).await?,
            json!({ "answer": n }),
        )?;
    }
    link.credit_reaches(4).await
}

pub(super) async fn a_capability_runs_no_more_than_its_max_concurrency(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let mut tasks = Vec::new();
    for _ in 0..4 {
        tasks.push(link.ask("serial", json!({"ms": 100})).await?);
    }
    for task in &tasks {
        let value = link.value_of(task).await?;
        check_eq(
            "serial, whose max_concurrency is 1,",
            value,
            json!({"overlapped": false}),
        )?;
    }
    link.credit_reaches(4).await
}

pub(super) async fn a_full_capability_does_not_hold_up_another(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let busy = link.ask("serial", json!({"ms": 600_000})).await?;
    let queued = link.ask("serial", json!({"ms": 1})).await?;
    let echo = link.ask("echo", json!("past")).await?;
    check_eq("the value", link.value_of(&echo).await?, json!("past"))?;
    link.cancel(&busy, std::time::Duration::from_secs(5))
        .await?;
    check_eq(
        "the value",
        link.value_of(&queued).await?,
        json!({"overlapped": false}),
    )?;
    link.credit_reaches(4).await
}

pub(super) async fn the_servers_max_credit_holds(lab: &Lab) -> anyhow::Result<()> {
    let mut setup = Setup::default();
    setup.terms.limits.max_credit = 2;
    let (mut stage, mut link) = lab.connected_with(setup).await?;
    for n in 0..5 {
        let task = link.ask("echo", json!(n)).await?;
        check_eq("the value", link.value_of(&task).await?, json!(n))?;
    }
    let running = link.ask("ask", json!({})).await?;
    link.accepted(&running).await?;
    link.cut();
    let arrival = stage.arrival().await?;
    check(
        arrival.hello.credit <= 2,
        "Hello of a later session asks for no more than the Limits.max_credit it was told, 2",
        || format!("asked for {}", arrival.hello.credit),
    )?;
    let mut link = arrival.welcome(&[Ruling::Keep(0)]).await?;
    link.input(&running, &json!(1)).await?;
    check_eq(
        "the value",
        link.value_of(&running).await?,
        json!({"answer": 1}),
    )?;
    Ok(())
}
