//! `parallax logs NAME`: what replicas and builds write.

use std::time::Duration;

use anyhow::Result;
use parallax_api::logs::{LogEntry, LogLine};
use parallax_core::time::Timestamp;

use super::duration;
use crate::client::{Api, Stream, of_problem};
use crate::context::Context;
use crate::exit::{Ended, Exit};
use crate::format;
use crate::output::{Output, Tone};
use crate::printable;
use crate::waiting::{Patience, pause};

/// How much of a replica's id tells it from its neighbours.
const SHORT_ID: usize = 6;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The agent's name or id
    name: String,
    /// Go on with what is written from now on, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only the last lines of each replica
    #[arg(long, short = 'n', value_name = "LINES")]
    tail: Option<u32>,
    /// Only this replica (its id)
    #[arg(long, value_name = "ID", conflicts_with = "build")]
    replica: Option<String>,
    /// Only replicas of this revision (its number)
    #[arg(long, value_name = "NUMBER", conflicts_with = "build")]
    revision: Option<u64>,
    /// Only what is younger than this, such as 10m
    #[arg(long, value_parser = duration::parse, value_name = "SPAN")]
    since: Option<Duration>,
    /// The log of the newest build
    #[arg(long)]
    build: bool,
    /// Begin each line with its time
    #[arg(long, short)]
    timestamps: bool,
}

/// Shows logs.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let progress = context.output.silent();
    let mut printer = Printer::new(&args, &context.output);
    let mut cursor: Option<String> = None;
    let mut patience = Patience::default();
    let mut begun = false;
    loop {
        let read = async {
            // Asked each time: a server that comes back may have another address.
            let mut stream = open(&context.api()?, &args, cursor.as_deref()).await?;
            printer.unavailable.clear();
            patience.answered(&progress);
            begun = true;
            print(&mut stream, &mut printer, &mut cursor).await
        };
        match read.await {
            Ok(()) if !args.follow => return printer.finish(&args),
            // Every replica has ended; the next ones will write, too.
            Ok(()) => pause().await,
            Err(error) if args.follow && begun => {
                patience.after(error, &progress).await?;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn open(api: &Api, args: &Args, cursor: Option<&str>) -> Result<Stream> {
    let mut query = Vec::new();
    if args.follow {
        query.push(("follow", "true".to_owned()));
    }
    if args.build {
        query.push(("build", "true".to_owned()));
    }
    query.extend(args.since.map(|span| ("since", since(span).to_string())));
    query.extend(args.tail.map(|lines| ("tail", lines.to_string())));
    query.extend(args.replica.clone().map(|id| ("replica", id)));
    query.extend(args.revision.map(|number| ("revision", number.to_string())));
    api.stream(&["agents", &args.name, "logs"], &query, cursor)
        .await
}

async fn print(
    stream: &mut Stream,
    printer: &mut Printer<'_>,
    cursor: &mut Option<String>,
) -> Result<()> {
    while let Some(message) = stream.next().await? {
        printer.entry(&message.read()?)?;
        if message.id.is_some() {
            *cursor = message.id;
        }
    }
    Ok(())
}

fn since(span: Duration) -> Timestamp {
    let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_unix_micros(format::now().0.unix_micros().saturating_sub(micros))
}

/// Writes entries in the form that was asked for.
struct Printer<'a> {
    output: &'a Output,
    timestamps: bool,
    /// The source of the last record, while its line goes on.
    open_line: Option<String>,
    unavailable: Vec<String>,
    has_printed: bool,
}

/// Silence has reasons, too.
fn nothing(args: &Args) -> String {
    let name = &args.name;
    let narrowed = args.replica.is_some() || args.revision.is_some() || args.since.is_some();
    match (args.build, narrowed) {
        (true, _) => {
            format!("No build of `{name}` has written anything; see `parallax status {name}`.")
        }
        (_, true) => {
            format!("`{name}` wrote nothing there; `parallax logs {name}` shows all of it.")
        }
        _ => format!("`{name}` has written nothing yet; `parallax status {name}` says how it is."),
    }
}

impl<'a> Printer<'a> {
    fn new(args: &Args, output: &'a Output) -> Self {
        Self {
            output,
            timestamps: args.timestamps,
            open_line: None,
            unavailable: Vec::new(),
            has_printed: false,
        }
    }

    fn entry(&mut self, entry: &LogEntry) -> Result<()> {
        self.has_printed = true;
        match entry {
            LogEntry::Problem { problem } => Err(of_problem(problem).into()),
            _ if self.output.json => self.output.object(entry),
            LogEntry::Line(line) => self.line(line),
            LogEntry::Unavailable { source, message } => {
                // One source speaks for all: they are out of reach together, with their host.
                if self.unavailable.is_empty() {
                    let (source, message) = (printable::line(source), printable::block(message));
                    self.output.warn(format_args!("{source}: {message}"));
                }
                self.unavailable.push(source.clone());
                Ok(())
            }
        }
    }

    fn line(&mut self, line: &LogLine) -> Result<()> {
        let goes_on = self.open_line.as_ref() == Some(&line.source);
        let mut text = String::new();
        if self.open_line.is_some() && !goes_on {
            text.push('\n');
        }
        if line.gap_before {
            text.push_str("… earlier lines were rotated away\n");
        }
        if !goes_on {
            text.push_str(&self.prefix(line));
        }
        // What is piped on is what was written, byte for byte.
        let said = match (self.output.terminal, line.stream.as_str()) {
            (false, _) => line.line.as_str().into(),
            (true, "system") => printable::line(&line.line),
            (true, _) => printable::log(&line.line, self.output.colored()),
        };
        match line.stream.as_str() {
            "system" => text.push_str(&self.output.tinted(Tone::Quiet, &said)),
            _ => text.push_str(&said),
        }
        self.open_line = line.partial.then(|| line.source.clone());
        if !line.partial {
            text.push('\n');
        }
        self.output.raw(text.as_bytes())
    }

    fn prefix(&self, line: &LogLine) -> String {
        let from = line.source.len().saturating_sub(SHORT_ID);
        let mut prefix = line.source.get(from..).unwrap_or(&line.source).to_owned();
        if self.timestamps {
            prefix = format!("{} {prefix}", line.time);
        }
        format!(
            "{} ",
            self.output.tinted(Tone::Quiet, format_args!("{prefix} |"))
        )
    }

    fn finish(&self, args: &Args) -> Result<()> {
        if self.unavailable.is_empty() {
            if !self.has_printed {
                self.output.note(nothing(args));
            }
            return Ok(());
        }
        let message = format!(
            "the lines of {} are out of reach until their hosts are back",
            self.unavailable.join(", ")
        );
        Err(Ended::new(Exit::Unavailable, message).into())
    }
}
