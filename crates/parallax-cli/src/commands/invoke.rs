//! `parallax invoke NAME CAPABILITY [INPUT]`: calls an agent.

use std::fs;
use std::io::{self, Read};
use std::time::Duration;

use anyhow::{Context as _, Result};
use parallax_api::tasks::{InvokeRequest, InvokeResponse, TaskEntry, TaskView};
use parallax_core::task::MAX_INLINE_BYTES;
use reqwest::header::ACCEPT;
use reqwest::{Method, RequestBuilder};
use serde_json::value::RawValue;

use super::life::SignsOfLife;
use super::{answer, duration, tasks};
use crate::client::Api;
use crate::context::Context;
use crate::exit::{Ended, Exit};
use crate::output::Output;
use crate::waiting::unless_interrupted;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's name or id
    name: String,
    /// What it should do; `parallax registry` lists what each can
    capability: String,
    /// The input: JSON, @FILE, or - for standard input [default: null]
    #[arg(allow_hyphen_values = true)]
    input: Option<String>,
    /// Return at once with a durable task, which survives this command and the server
    #[arg(long = "async")]
    detached: bool,
    /// Makes the call a durable task; the same key again does nothing twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Give up after this long, such as 30s
    #[arg(long, value_parser = duration::parse, value_name = "SPAN")]
    deadline: Option<Duration>,
}

/// Calls an agent and prints its answer.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let request = InvokeRequest {
        capability: args.capability.clone(),
        input: args.input.as_deref().map(input).transpose()?,
        deadline_ms: args.deadline.map(duration::millis),
        context_id: None,
    };
    let api = context.api()?;
    let path = ["agents", args.name.as_str(), "invoke"];
    let call = api.request(Method::POST, &path).json(&request);
    if args.detached || args.idempotency_key.is_some() {
        return durable(call, &args, &api, context).await;
    }
    let gone = format!(
        "the call is given up: the server asks `{}` to stop once it notices; what was done by then \
         is done",
        args.name
    );
    let response = unless_interrupted(attached(call, &args, &api, &context.output), gone).await?;
    answer::print(&response, &api, &context.output).await
}

/// Calls and shows what the agent says of its progress until it answers.
async fn attached(
    call: RequestBuilder,
    args: &Args,
    api: &Api,
    output: &Output,
) -> Result<InvokeResponse> {
    let progress = output.progress();
    progress.hint(format_args!("{} {}", args.name, args.capability));
    let mut life = SignsOfLife::new(&progress);
    let mut stream = api.open(call).await?;
    while let Some(message) = stream.next().await? {
        let entry: TaskEntry = message.read()?;
        if let Some(answer) = entry.answer {
            life.flush();
            return Ok(*answer);
        }
        life.show(&entry);
    }
    let message =
        "the server ended the call without an answer; whether the work was done is unknown";
    Err(Ended::new(Exit::Unavailable, message).into())
}

async fn durable(call: RequestBuilder, args: &Args, api: &Api, context: &Context) -> Result<()> {
    let mut call = call.header("Prefer", "respond-async");
    if let Some(key) = &args.idempotency_key {
        call = call.header("Idempotency-Key", key);
    }
    let task: TaskView = api.json(call.header(ACCEPT, "application/json")).await?;
    if !args.detached {
        return tasks::wait(task, context).await;
    }
    let output = &context.output;
    if output.json {
        return output.object(&task);
    }
    output.line(task.id)?;
    output.note(format_args!(
        "Follow it with `parallax tasks watch {}`",
        task.id
    ));
    Ok(())
}

/// The input as it was given, byte for byte.
fn input(text: &str) -> Result<Box<RawValue>> {
    let (json, from) = match text.strip_prefix('@') {
        Some(path) => {
            let file = fs::File::open(path);
            let read = file.and_then(bounded);
            (
                read.with_context(|| format!("reading the input {path}"))?,
                path,
            )
        }
        None if text == "-" => {
            let read = bounded(io::stdin().lock());
            let read = read.context("reading the input from standard input")?;
            (read, "standard input")
        }
        None => (text.as_bytes().to_owned(), "the input"),
    };
    if json.len() > MAX_INLINE_BYTES {
        let kib = MAX_INLINE_BYTES / 1024;
        let message = format!("{from} has more than the {kib} KiB that a call may carry");
        return Err(Ended::new(Exit::Usage, message).into());
    }
    let json = String::from_utf8(json).map_err(|error| {
        let message = format!("{from} is not JSON: it is no UTF-8");
        Ended::new(Exit::Usage, message).caused_by(error)
    })?;
    RawValue::from_string(json).map_err(|error| {
        let message =
            format!("{from} is not JSON: {error}. A text needs quotes of its own: '\"hello\"'");
        Ended::new(Exit::Usage, message).into()
    })
}

/// All of it, or one byte more than a call may carry: a device has no end.
fn bounded(from: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(MAX_INLINE_BYTES as u64 + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit;

    #[test]
    fn an_input_is_sent_as_it_was_written() {
        let text = r#"{"n": 1.0, "big": 123456789012345678901234567890}"#;
        assert_eq!(input(text).expect("JSON").get(), text);
    }

    #[test]
    fn an_input_without_an_end_is_refused() {
        let error = input("@/dev/zero").expect_err("it has no end");
        assert_eq!(exit::of(&error), Exit::Usage);
        let expected = "/dev/zero has more than the 256 KiB that a call may carry";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn what_is_no_json_is_a_mistake_of_usage() {
        let error = input("hello").expect_err("it has no quotes");
        assert_eq!(exit::of(&error), Exit::Usage);
        assert!(error.to_string().contains("needs quotes"), "{error}");
    }
}
