//! How an agent's answer is shown: its value on standard output, what it says about it beside that.

use anyhow::{Context as _, Result};
use parallax_api::tasks::{BlobView, Confidence, Evidence, InvokeResponse, TaskUsage};
use reqwest::Method;
use serde_json::value::RawValue;

use crate::client::Api;
use crate::format;
use crate::output::Output;
use crate::printable::{self, Pieces};

/// Prints an answer.
pub(crate) async fn print(response: &InvokeResponse, api: &Api, output: &Output) -> Result<()> {
    if output.json {
        return output.object(response);
    }
    match (&response.value, &response.blob) {
        (Some(value), _) => value_line(value, output)?,
        (None, Some(blob)) => print_blob(&response.task_id.to_string(), blob, api, output).await?,
        (None, None) => output.json("null")?,
    }
    if let Some(confidence) = &response.confidence {
        note_confidence(confidence, output);
    }
    for evidence in &response.evidence {
        note_evidence(evidence, output);
    }
    if let Some(usage) = &response.usage {
        note_usage(usage, output);
    }
    Ok(())
}

fn value_line(value: &RawValue, output: &Output) -> Result<()> {
    match output.terminal {
        true => output.json(&format::indented(value.get())),
        false => output.json(value.get()),
    }
}

/// A value too large to be sent along, piece by piece as it comes.
async fn print_blob(task: &str, blob: &BlobView, api: &Api, output: &Output) -> Result<()> {
    let request = api.request(Method::GET, &["tasks", task, "blob"]);
    let mut response = api.answer(request).await?;
    let mut written = 0;
    let mut pieces = Pieces::default();
    while let Some(chunk) = response.chunk().await.context("reading the answer")? {
        written += chunk.len() as u64;
        match output.terminal {
            true => output.raw(pieces.next(&chunk).as_bytes())?,
            false => output.raw(&chunk)?,
        }
    }
    output.raw(pieces.finish().as_bytes())?;
    anyhow::ensure!(
        written == blob.size_bytes,
        "the answer broke off after {written} of {} bytes",
        blob.size_bytes
    );
    match output.terminal {
        true => output.line(""),
        false => Ok(()),
    }
}

fn note_confidence(confidence: &Confidence, output: &Output) {
    let value = format::ppm(confidence.value_ppm);
    let source = match confidence.source.as_str() {
        "" => String::new(),
        "self" => ", by the agent's own estimate".to_owned(),
        source => format!(", by the {}'s", printable::line(source)),
    };
    output.note(format_args!(
        "{} {value}{source}",
        output.quiet("confidence")
    ));
}

fn note_evidence(evidence: &Evidence, output: &Output) {
    let kind = output.quiet("evidence");
    // The detail is for programs, which ask for JSON.
    output.note(format_args!(
        "{kind} {}: {}",
        printable::line(&evidence.kind),
        printable::line(&evidence.summary)
    ));
}

fn note_usage(usage: &TaskUsage, output: &Output) {
    if (usage.input_tokens, usage.output_tokens) == (0, 0) {
        return;
    }
    output.note(format_args!(
        "{} {} tokens in, {} out",
        output.quiet("usage"),
        usage.input_tokens,
        usage.output_tokens
    ));
}
