//! Server-sent events, as <https://html.spec.whatwg.org/multipage/server-sent-events.html> has them.

use std::time::Duration;

use anyhow::{Context, Result};
use parallax_api::Problem;
use reqwest::Response;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::exit::{Ended, Exit};

/// Larger than any entry that a server sends: a task with its largest inline answer.
const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;

/// One event of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// Where to go on after it.
    pub(crate) id: Option<String>,
    pub(crate) event: String,
    pub(crate) data: String,
}

impl Message {
    /// The data as what the server is known to send here.
    ///
    /// # Errors
    /// When it is something else.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_str(&self.data).with_context(|| {
            let event = &self.event;
            format!("the stream carries a `{event}` that this version does not understand")
        })
    }
}

/// A stream that is being read.
#[derive(Debug)]
pub(crate) struct Stream {
    response: Response,
    silence: Duration,
    parser: Parser,
}

/// What a server says before it ends a stream of its own accord.
#[derive(Deserialize)]
struct Farewell {
    problem: Problem,
}

impl Stream {
    pub(crate) fn new(response: Response, silence: Duration) -> Self {
        Self {
            response,
            silence,
            parser: Parser::default(),
        }
    }

    /// The next event; `None` when the stream has ended.
    ///
    /// # Errors
    /// When the connection breaks, or the server says why it ends the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.parser.next() {
                if message.event == "problem" {
                    let farewell: Farewell = message.read()?;
                    return Err(super::of_problem(&farewell.problem).into());
                }
                return Ok(Some(message));
            }
            let chunk = timeout(self.silence, self.response.chunk()).await;
            match chunk {
                Ok(Ok(Some(chunk))) => self.parser.feed(&chunk)?,
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => {
                    let message = "the stream from the server broke off";
                    return Err(Ended::new(Exit::Unavailable, message)
                        .caused_by(error.without_url())
                        .into());
                }
                Err(_) => {
                    let message = "the server has fallen silent in the middle of a stream";
                    return Err(Ended::new(Exit::Unavailable, message).into());
                }
            }
        }
    }
}

/// Puts lines together to events.
#[derive(Debug, Default)]
struct Parser {
    buffer: Vec<u8>,
    /// Where the search for the end of a line goes on.
    searched: usize,
    id: Option<String>,
    event: String,
    data: Option<String>,
}

impl Parser {
    fn feed(&mut self, chunk: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(chunk);
        let held = self.buffer.len() + self.data.as_ref().map_or(0, String::len);
        anyhow::ensure!(
            held <= MAX_MESSAGE_BYTES || self.buffer.contains(&b'\n'),
            "the stream carries an event of more than {MAX_MESSAGE_BYTES} bytes"
        );
        Ok(())
    }

    fn next(&mut self) -> Option<Message> {
        let mut taken = 0;
        let mut found = None;
        while found.is_none() {
            let from = self.searched.max(taken);
            let Some(length) = self.buffer[from..].iter().position(|byte| *byte == b'\n') else {
                self.searched = self.buffer.len();
                break;
            };
            let end = from + length;
            let line = String::from_utf8_lossy(&self.buffer[taken..end]);
            let line = line.trim_end_matches('\r').to_owned();
            taken = end + 1;
            self.searched = taken;
            found = self.line(&line);
        }
        self.buffer.drain(..taken);
        self.searched -= taken;
        found
    }

    /// Takes a line; an empty one ends the event.
    fn line(&mut self, line: &str) -> Option<Message> {
        if line.is_empty() {
            let event = std::mem::take(&mut self.event);
            let data = self.data.take()?;
            let id = self.id.clone();
            return Some(Message { id, event, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => self.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut self.event),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            // Comments keep the connection alive; `retry` is ours to decide.
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        ": keep-alive\n\nid: 7\nevent: line\ndata: {\"a\":\ndata: 1}\n\ndata: é\r\n\r\n";

    fn parse(chunk: usize) -> Vec<Message> {
        let mut parser = Parser::default();
        let mut messages = Vec::new();
        for bytes in TEXT.as_bytes().chunks(chunk) {
            parser.feed(bytes).expect("it is small");
            messages.extend(std::iter::from_fn(|| parser.next()));
        }
        messages
    }

    #[test]
    fn events_are_the_same_however_the_bytes_arrive() {
        let whole = parse(TEXT.len());
        let message = |event: &str, data: &str| Message {
            id: Some("7".to_owned()),
            event: event.to_owned(),
            data: data.to_owned(),
        };
        assert_eq!(whole, [message("line", "{\"a\":\n1}"), message("", "é")]);
        for size in 1..8 {
            assert_eq!(parse(size), whole, "in chunks of {size}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::default();
        let chunk = vec![b'x'; MAX_MESSAGE_BYTES + 1];
        assert!(parser.feed(&chunk).is_err());
    }
}
