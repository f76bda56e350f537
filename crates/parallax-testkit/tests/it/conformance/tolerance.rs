//! What an agent must put up with: newer servers, late frames, large inputs.

use parallax_proto::v1::TaskRef;
use parallax_testkit::conformance::{Lab, check_eq};
use serde_json::json;

pub(super) async fn an_unknown_frame_is_ignored(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    link.send_unknown().await?;
    let task = link.ask("echo", json!("alive")).await?;
    check_eq("the value", link.value_of(&task).await?, json!("alive"))?;
    Ok(())
}

pub(super) async fn frames_for_unknown_tasks_are_ignored(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let never = TaskRef {
        task_id: "tsk_never".to_owned(),
        attempt: 1,
        ..TaskRef::default()
    };
    // Each crosses the end of its task on the wire now and then.
    link.acknowledge(&never).await?;
    link.input(&never, &json!(1)).await?;
    link.widen(&never, 1_000).await?;
    link.round_trip().await?;
    let task = link.ask("echo", json!("alive")).await?;
    check_eq("the value", link.value_of(&task).await?, json!("alive"))?;
    // A second acknowledgement, and an input that comes too late.
    link.acknowledge(&task).await?;
    link.input(&task, &json!(1)).await?;
    link.round_trip().await
}

pub(super) async fn a_large_inline_input_is_read(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    // With its braces and quotes, exactly the 256 KiB that the contract allows inline.
    let length = 256 * 1024 - r#"{"data":""}"#.len();
    let task = link
        .ask("size", json!({ "data": "y".repeat(length) }))
        .await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({ "bytes": length }),
    )?;
    Ok(())
}
