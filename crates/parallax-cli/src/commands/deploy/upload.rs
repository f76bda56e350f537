//! Sends a spec and an archive.

use anyhow::{Context as _, Result};
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde::de::DeserializeOwned;
use tokio_util::io::ReaderStream;

use super::source::{Archive, Source};
use crate::client::Api;
use crate::output::Output;

/// Large enough that a disk and a connection are kept busy.
const CHUNK_BYTES: usize = 64 * 1024;

/// Uploads, straight from the disk.
pub(crate) async fn send<T: DeserializeOwned>(
    api: &Api,
    source: &Source,
    archive: Archive,
    dry_run: bool,
    output: &Output,
) -> Result<T> {
    let progress = output.progress();
    progress.step(format_args!("sending `{}`", source.spec.name));
    let spec = serde_json::to_vec(&source.spec)?;
    let spec = Part::bytes(spec).mime_str("application/json")?;
    let file = tokio::fs::File::from_std(archive.file);
    let body = Body::wrap_stream(ReaderStream::with_capacity(file, CHUNK_BYTES));
    let archive = Part::stream_with_length(body, archive.bytes)
        .file_name("source.tar.gz")
        .mime_str("application/gzip")?;
    // The server reads the parts in this order.
    let form = Form::new().part("spec", spec).part("source", archive);
    let mut request = api.request(Method::POST, &["agents", "deploy"]);
    if dry_run {
        request = request.query(&[("dry_run", "true")]);
    }
    let answer = api.json(request.multipart(form)).await;
    answer.with_context(|| format!("deploying `{}`", source.spec.name))
}
