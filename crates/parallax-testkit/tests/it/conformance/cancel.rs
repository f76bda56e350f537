//! Stopping work, and never lying about it.

use std::time::Duration;

use parallax_proto::v1::cancel_ack::Outcome;
use parallax_proto::v1::{TaskRef, agent_up};
use parallax_testkit::conformance::{Lab, Setup, check, check_eq};
use serde_json::json;

const GRACE: Duration = Duration::from_secs(5);

pub(super) async fn a_cancel_stops_the_handler(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let task = link.ask("slow", json!({"ms": 600_000})).await?;
    link.accepted(&task).await?;
    link.cancel(&task, GRACE).await?;
    check_eq(
        "CancelAck.outcome",
        link.cancel_ack_of(&task).await?,
        Outcome::Stopped,
    )?;
    link.credit_reaches(4).await?;
    link.round_trip().await?;
    link.nothing_of(&task, "nothing follows CancelAck{stopped}")?;
    Ok(())
}

pub(super) async fn a_cancel_after_the_result_is_too_late(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let task = link.ask("echo", json!("done")).await?;
    link.result_of(&task).await?;
    link.cancel(&task, GRACE).await?;
    check_eq(
        "CancelAck.outcome",
        link.cancel_ack_of(&task).await?,
        Outcome::TooLate,
    )?;
    Ok(())
}

pub(super) async fn a_cancel_of_an_unknown_task_says_so(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let never = TaskRef {
        task_id: "tsk_never".to_owned(),
        attempt: 1,
        ..TaskRef::default()
    };
    link.cancel(&never, GRACE).await?;
    check_eq(
        "CancelAck.outcome",
        link.cancel_ack_of(&never).await?,
        Outcome::Unknown,
    )?;
    Ok(())
}

pub(super) async fn a_cancel_of_another_attempt_touches_nothing(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    let other = TaskRef {
        attempt: task.attempt + 1,
        ..task.clone()
    };
    link.cancel(&other, GRACE).await?;
    check_eq(
        "CancelAck.outcome",
        link.cancel_ack_of(&other).await?,
        Outcome::Unknown,
    )?;
    link.input(&task, &json!("still here")).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": "still here"}),
    )?;
    Ok(())
}

pub(super) async fn a_stubborn_handler_is_never_called_stopped(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let task = link.ask("stubborn", json!({"ms": 1_000})).await?;
    link.accepted(&task).await?;
    // The grace ends long before the handler does.
    link.cancel(&task, Duration::from_millis(50)).await?;
    link.round_trip().await?;
    link.nothing_of(&task, "no word of a cancelled task until it has ended")?;
    let (mut acked, mut ended) = (false, false);
    while !(acked && ended) {
        let wanted = "after the end of the stubborn handler: CancelAck{too_late} and its result";
        let named = |other: &Option<TaskRef>| other.as_ref() == Some(&task);
        let frame = link
            .await_frame(wanted, |frame| match frame {
                agent_up::Frame::CancelAck(ack) => named(&ack.r#ref).then(|| frame.clone()),
                agent_up::Frame::Result(result) => named(&result.r#ref).then(|| frame.clone()),
                agent_up::Frame::Failed(failed) => named(&failed.r#ref).then(|| frame.clone()),
                _ => None,
            })
            .await?;
        match &frame {
            agent_up::Frame::CancelAck(ack) => {
                check_eq("CancelAck.outcome", ack.outcome(), Outcome::TooLate)?;
                acked = true;
            }
            agent_up::Frame::Result(_) => ended = true,
            other => check(false, wanted, || format!("sent {other:?}"))?,
        }
    }
    link.credit_reaches(4).await
}

pub(super) async fn a_cancel_of_a_queued_task_stops_it(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let busy = link.ask("serial", json!({"ms": 600_000})).await?;
    link.accepted(&busy).await?;
    let queued = link.ask("serial", json!({"ms": 1})).await?;
    link.cancel(&queued, GRACE).await?;
    check_eq(
        "CancelAck.outcome",
        link.cancel_ack_of(&queued).await?,
        Outcome::Stopped,
    )?;
    link.cancel(&busy, GRACE).await?;
    check_eq(
        "CancelAck.outcome",
        link.cancel_ack_of(&busy).await?,
        Outcome::Stopped,
    )?;
    // The ledger lets nothing follow CancelAck{stopped}: the queued task never runs.
    link.credit_reaches(4).await?;
    link.round_trip().await
}

pub(super) async fn a_cancel_right_behind_its_task_stops_it(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    for _ in 0..4 {
        let task = link.ask("slow", json!({"ms": 600_000})).await?;
        link.cancel(&task, GRACE).await?;
        check_eq(
            "CancelAck.outcome",
            link.cancel_ack_of(&task).await?,
            Outcome::Stopped,
        )?;
    }
    link.credit_reaches(4).await
}

pub(super) async fn a_cancel_ends_a_wait_for_the_window(lab: &Lab) -> anyhow::Result<()> {
    let mut setup = Setup::default();
    setup.terms.limits.partial_window_bytes = 100;
    let (_stage, mut link) = lab.connected_with(setup).await?;
    let task = link
        .ask("stream", json!({"chunks": 5, "bytes": 100}))
        .await?;
    link.partial_of(&task).await?;
    link.cancel(&task, GRACE).await?;
    check_eq(
        "CancelAck.outcome",
        link.cancel_ack_of(&task).await?,
        Outcome::Stopped,
    )?;
    link.credit_reaches(4).await
}
