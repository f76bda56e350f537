//! Signs of life in both directions.

use parallax_testkit::conformance::{Lab, Ruling, Setup, check_eq};
use serde_json::json;
use tokio::time::{Duration, timeout};

/// A lease short enough to see three renewals, long enough for a busy machine.
const TTL: Duration = Duration::from_secs(3);

pub(super) async fn heartbeats_renew_the_lease(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected_with(leased_for(TTL)).await?;
    for _ in 0..4 {
        // The lease's own end is the deadline: a later heartbeat would find it expired.
        let beat = timeout(TTL, link.heartbeat()).await.map_err(|_| {
            anyhow::anyhow!("the contract wants: Heartbeat at least every ttl/3; the SDK sent none within one ttl of {TTL:?}")
        })??;
        check_eq("Heartbeat.inflight", beat.inflight, 0)?;
        link.round_trip().await?;
    }
    Ok(())
}

pub(super) async fn a_heartbeat_counts_what_is_in_flight(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected_with(leased_for(TTL)).await?;
    let one = link.ask("ask", json!({})).await?;
    let other = link.ask("ask", json!({})).await?;
    link.accepted(&one).await?;
    link.accepted(&other).await?;
    await_inflight(&mut link, 2).await?;
    for task in [&one, &other] {
        link.input(task, &json!(0)).await?;
        link.value_of(task).await?;
    }
    await_inflight(&mut link, 0).await
}

/// The next heartbeats may still tell of the moment before.
async fn await_inflight(
    link: &mut parallax_testkit::conformance::Link,
    count: u32,
) -> anyhow::Result<()> {
    for _ in 0..3 {
        if link.heartbeat().await?.inflight == count {
            return Ok(());
        }
        link.round_trip().await?;
    }
    check_eq(
        "Heartbeat.inflight",
        link.heartbeat().await?.inflight,
        count,
    )?;
    Ok(())
}

pub(super) async fn heartbeats_carry_the_epoch_of_their_session(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab.connected_with(leased_for(TTL)).await?;
    // The ledger compares each heartbeat's epoch with the Welcome's.
    link.heartbeat().await?;
    link.cut();
    let mut link = stage.connect(&[]).await?;
    link.heartbeat().await?;
    Ok(())
}

pub(super) async fn a_ping_is_answered(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    for nonce in [0, 1, 1 << 53, (1 << 53) + 1, u64::MAX] {
        link.ping(nonce).await?;
        let pong = link
            .await_frame("Pong", |frame| match frame {
                parallax_proto::v1::agent_up::Frame::Pong(pong) => Some(pong.nonce),
                _ => None,
            })
            .await?;
        check_eq("Pong.nonce, all 64 bits of it", pong, nonce)?;
    }
    Ok(())
}

pub(super) async fn a_silent_server_is_left_after_two_ttl(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab
        .connected_with(leased_for(Duration::from_millis(600)))
        .await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    // The connection stays open and the server says nothing more.
    stage.terms.ttl_ms = 30_000;
    let mut second = stage.connect(&[Ruling::Keep(0)]).await?;
    check_eq(
        "Hello.instance_uuid of the new session",
        second.hello.instance_uuid.as_str(),
        link.hello.instance_uuid.as_str(),
    )?;
    second.input(&task, &json!("still there")).await?;
    check_eq(
        "the value",
        second.value_of(&task).await?,
        json!({"answer": "still there"}),
    )?;
    Ok(())
}

pub(super) async fn a_dead_network_is_left_after_two_ttl(lab: &Lab) -> anyhow::Result<()> {
    let (mut stage, mut link) = lab
        .connected_with(leased_for(Duration::from_millis(600)))
        .await?;
    let task = link.ask("ask", json!({})).await?;
    link.accepted(&task).await?;
    link.freeze();
    stage.terms.ttl_ms = 30_000;
    let mut link = stage.connect(&[Ruling::Keep(0)]).await?;
    link.input(&task, &json!("still there")).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": "still there"}),
    )?;
    Ok(())
}

fn leased_for(ttl: Duration) -> Setup {
    let mut setup = Setup::default();
    setup.terms.ttl_ms = u64::try_from(ttl.as_millis()).expect("a lease of seconds");
    setup
}
