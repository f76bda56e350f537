//! What a caller sees early. Sequence and window are the ledger's, in every case.

use parallax_proto::v1::TaskRef;
use parallax_testkit::conformance::{Lab, Link, Setup, check, check_eq};
use serde_json::json;

pub(super) async fn progress_and_partials_come_in_sequence(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let task = link.ask("stream", json!({"chunks": 3, "bytes": 5})).await?;
    link.accepted(&task).await?;
    link.progress_of(&task).await?;
    for seq in 1..=3 {
        let partial = link.partial_of(&task).await?;
        check_eq("Partial.seq", partial.seq, seq)?;
        check_eq("Partial.chunk", &partial.chunk[..], &b"xxxxx"[..])?;
    }
    // Nothing follows a result, so all partials came before it.
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"chunks": 3}),
    )?;
    Ok(())
}

pub(super) async fn the_window_stops_the_agent_until_partial_credit(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (_stage, mut link) = windowed(lab, 1_000).await?;
    let task = link
        .ask("stream", json!({"chunks": 5, "bytes": 500}))
        .await?;
    link.partial_of(&task).await?;
    link.partial_of(&task).await?;
    // The ledger refuses each byte beyond the window, whenever it comes.
    link.round_trip().await?;
    link.widen(&task, 500).await?;
    check_eq(
        "Partial.seq after 500 more bytes",
        link.partial_of(&task).await?.seq,
        3,
    )?;
    link.round_trip().await?;
    link.widen(&task, 1_000).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"chunks": 5}),
    )?;
    Ok(())
}

pub(super) async fn a_chunk_larger_than_the_window_gets_through(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = windowed(lab, 1_000).await?;
    let task = link
        .ask("stream", json!({"chunks": 1, "bytes": 3_500}))
        .await?;
    let bytes = read_partials(&mut link, &task, 3_500).await?;
    check_eq("the bytes of a split chunk", bytes, 3_500)?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"chunks": 1}),
    )?;
    Ok(())
}

pub(super) async fn windows_are_per_task(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = windowed(lab, 1_000).await?;
    let stuck = link
        .ask("stream", json!({"chunks": 2, "bytes": 1_000}))
        .await?;
    link.partial_of(&stuck).await?;
    let other = link
        .ask("stream", json!({"chunks": 2, "bytes": 500}))
        .await?;
    check_eq(
        "the value",
        link.value_of(&other).await?,
        json!({"chunks": 2}),
    )?;
    link.widen(&stuck, 1_000).await?;
    check_eq(
        "the value",
        link.value_of(&stuck).await?,
        json!({"chunks": 2}),
    )?;
    Ok(())
}

async fn windowed(
    lab: &Lab,
    bytes: u32,
) -> anyhow::Result<(parallax_testkit::conformance::Stage, Link)> {
    let mut setup = Setup::default();
    setup.terms.limits.partial_window_bytes = bytes;
    lab.connected_with(setup).await
}

/// Reads partials until `total` bytes came, giving back the window as a server does.
async fn read_partials(link: &mut Link, task: &TaskRef, total: usize) -> anyhow::Result<usize> {
    let mut read = 0;
    while read < total {
        let partial = link.partial_of(task).await?;
        check(
            !partial.chunk.is_empty(),
            "a Partial carries bytes",
            || "sent an empty one",
        )?;
        read += partial.chunk.len();
        link.widen(task, u32::try_from(partial.chunk.len())?)
            .await?;
    }
    Ok(read)
}
