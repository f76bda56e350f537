//! Values above the inline limit.

use parallax_proto::v1::{BlobRef, TaskFailed, payload};
use parallax_testkit::conformance::{
    Lab, Link, Order, Setup, Stage, Tampering, check, check_eq, digest_of,
};
use serde_json::json;

/// Small enough that a case stays quick, larger than one chunk.
const LARGE: usize = 200_000;

pub(super) async fn a_large_result_goes_by_blob(lab: &Lab) -> anyhow::Result<()> {
    let (stage, mut link) = inline_up_to(lab, 4_096).await?;
    let task = link.ask("large", json!({"bytes": LARGE})).await?;
    let result = link.result_of(&task).await?;
    let content = result.value.and_then(|value| value.content);
    let Some(payload::Content::Blob(blob)) = content else {
        anyhow::bail!("the contract wants: TaskResult.value.blob; the SDK sent {content:?}");
    };
    let uploads = stage.server.blobs.uploads();
    check_eq("the number of Puts before the TaskResult", uploads.len(), 1)?;
    let upload = &uploads[0];
    let expected = json!({ "data": "x".repeat(LARGE) });
    let sent: serde_json::Value = serde_json::from_slice(&upload.data)?;
    check(sent == expected, "the blob is the value as JSON", || {
        format!("sent {} bytes of other JSON", upload.data.len())
    })?;
    check_eq(
        "BlobRef.digest",
        blob.digest.as_str(),
        digest_of(&upload.data).as_str(),
    )?;
    check_eq(
        "BlobRef.size_bytes",
        blob.size_bytes,
        upload.data.len() as u64,
    )?;
    check_eq(
        "BlobRef.media_type",
        blob.media_type.as_str(),
        "application/json",
    )?;
    check_eq(
        "PutBlobHeader.ref",
        upload.header.r#ref.as_ref(),
        Some(&task),
    )?;
    check(
        upload.largest_chunk <= 64 * 1024,
        "chunks are at most 64 KiB",
        || format!("sent one of {} bytes", upload.largest_chunk),
    )?;
    let bearer = format!("Bearer {}", stage.token());
    check_eq(
        "Put's authorization",
        upload.authorization.as_ref(),
        Some(&bearer),
    )?;
    Ok(())
}

pub(super) async fn a_small_result_stays_inline(lab: &Lab) -> anyhow::Result<()> {
    let (stage, mut link) = inline_up_to(lab, 4_096).await?;
    let task = link.ask("large", json!({"bytes": 4_000})).await?;
    let value = link.value_of(&task).await?;
    check_eq(
        "the value's data",
        &value["data"],
        &json!("x".repeat(4_000)),
    )?;
    check_eq("the number of Puts", stage.server.blobs.uploads().len(), 0)?;
    Ok(())
}

pub(super) async fn a_result_above_the_blob_limit_fails(lab: &Lab) -> anyhow::Result<()> {
    let mut setup = Setup::default();
    setup.terms.limits.max_inline_bytes = 4_096;
    setup.terms.limits.max_blob_bytes = 50_000;
    let (stage, mut link) = lab.connected_with(setup).await?;
    let task = link.ask("large", json!({"bytes": LARGE})).await?;
    link.failure_of(&task).await?;
    check_eq("the number of Puts", stage.server.blobs.uploads().len(), 0)?;
    link.credit_reaches(4).await
}

pub(super) async fn a_failed_upload_loses_no_task(lab: &Lab) -> anyhow::Result<()> {
    let (stage, mut link) = inline_up_to(lab, 4_096).await?;
    stage.server.blobs.refuse_puts(1);
    let task = link.ask("large", json!({"bytes": LARGE})).await?;
    // Sent again or reported as failed: either end will do, silence will not.
    let end = link
        .end_of(&task, "a TaskResult or a TaskFailed although a Put failed")
        .await?;
    if let Ok(result) = end {
        let content = result.value.and_then(|value| value.content);
        let by_blob = matches!(content, Some(payload::Content::Blob(_)));
        check(
            by_blob && stage.server.blobs.uploads().len() == 1,
            "the blob is stored first",
            || format!("sent {content:?}"),
        )?;
    }
    link.credit_reaches(4).await
}

pub(super) async fn a_blob_input_is_fetched_whole(lab: &Lab) -> anyhow::Result<()> {
    let (stage, mut link) = lab.connected().await?;
    let blob = large_blob(&stage);
    let task = link.give(Order::with_blob("size", blob.clone())).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({ "bytes": LARGE }),
    )?;
    let fetches = stage.server.blobs.fetches();
    let fetch = fetches.first().cloned().unwrap_or_default();
    check_eq(
        "GetBlobRequest.digest",
        fetch.digest.as_str(),
        blob.digest.as_str(),
    )?;
    check_eq("GetBlobRequest.ref", fetch.r#ref.as_ref(), Some(&task))?;
    Ok(())
}

pub(super) async fn a_corrupted_blob_is_refused(lab: &Lab) -> anyhow::Result<()> {
    tampered(lab, Tampering::FlipByte).await
}

pub(super) async fn a_truncated_blob_is_refused(lab: &Lab) -> anyhow::Result<()> {
    tampered(lab, Tampering::Truncate).await
}

pub(super) async fn a_broken_off_blob_fails_the_task(lab: &Lab) -> anyhow::Result<()> {
    tampered(lab, Tampering::BreakOff).await
}

pub(super) async fn a_missing_blob_fails_the_task(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let nowhere = BlobRef {
        digest: digest_of(b"nobody has this"),
        size_bytes: 15,
        media_type: "application/json".to_owned(),
    };
    fails_and_lives(&mut link, nowhere).await?;
    Ok(())
}

async fn tampered(lab: &Lab, tampering: Tampering) -> anyhow::Result<()> {
    let (stage, mut link) = lab.connected().await?;
    let blob = large_blob(&stage);
    stage.server.blobs.tamper(tampering);
    fails_and_lives(&mut link, blob).await?;
    Ok(())
}

async fn fails_and_lives(link: &mut Link, blob: BlobRef) -> anyhow::Result<TaskFailed> {
    let task = link.give(Order::with_blob("size", blob)).await?;
    let failed = link.failure_of(&task).await?;
    let task = link.ask("echo", json!("alive")).await?;
    check_eq(
        "the next value",
        link.value_of(&task).await?,
        json!("alive"),
    )?;
    link.credit_reaches(4).await?;
    Ok(failed)
}

fn large_blob(stage: &Stage) -> BlobRef {
    let input = json!({ "data": "y".repeat(LARGE) });
    stage.server.blobs.keep(input.to_string())
}

async fn inline_up_to(lab: &Lab, bytes: u32) -> anyhow::Result<(Stage, Link)> {
    let mut setup = Setup::default();
    setup.terms.limits.max_inline_bytes = bytes;
    lab.connected_with(setup).await
}
