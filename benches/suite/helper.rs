//! Processes of this very program that stand beside the product: the floor's relay, and the agents.
//!
//! A helper reads its setup from the first line of its standard input, answers `ready …` on its
//! standard output, and then one line for each further line. It ends when its input does, so that
//! none outlives the bench.

use std::io::{self, BufRead, BufReader, Lines, StdinLock, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dispatch;

/// What any single answer may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// What a helper does.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Passes calls on to agents and nothing else.
    Relay,
    /// Many agents, each on a connection of its own.
    Agents,
}

impl Role {
    /// Does the role's work until standard input ends.
    pub(crate) fn run(self) -> Result<()> {
        match self {
            Self::Relay => dispatch::relay(),
            Self::Agents => dispatch::agents(),
        }
    }
}

/// A running helper; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Helper {
    child: Child,
    input: ChildStdin,
    answers: Receiver<String>,
}

impl Helper {
    /// Starts this program in another role; returns what came after `ready`.
    pub(crate) fn start(role: Role, setup: &impl Serialize) -> Result<(Self, String)> {
        let value = role.to_possible_value().context("every role has a name")?;
        let mut command = Command::new(std::env::current_exe().context("finding this program")?);
        command.args(["--role", value.get_name()]);
        Self::spawn(command, setup)
    }

    /// Starts any program that speaks as a helper does.
    pub(crate) fn spawn(mut command: Command, setup: &impl Serialize) -> Result<(Self, String)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {command:?}"))?;
        let input = child.stdin.take().expect("it was asked for above");
        let output = child.stdout.take().expect("it was asked for above");
        let (lines, answers) = mpsc::channel();
        thread::spawn(move || {
            // Ends with the helper's output, or when nobody listens any more.
            let mut read = BufReader::new(output).lines().map_while(io::Result::ok);
            read.try_for_each(|line| lines.send(line))
        });
        let mut helper = Self {
            child,
            input,
            answers,
        };
        let setup = serde_json::to_string(setup).context("writing a helper's setup")?;
        let ready = helper.ask(&setup)?;
        match ready.strip_prefix("ready") {
            Some(rest) => Ok((helper, rest.trim().to_owned())),
            None => bail!("{command:?} answered `{ready}` instead of `ready`"),
        }
    }

    /// Sends a line and waits for the answer.
    pub(crate) fn ask(&mut self, line: &str) -> Result<String> {
        writeln!(self.input, "{line}").context("a helper has ended")?;
        match self.answers.recv_timeout(DEADLINE) {
            Ok(answer) => Ok(answer),
            Err(_) => bail!("a helper ended, or did not answer within {DEADLINE:?}"),
        }
    }

    /// The process, to look at its memory.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Already ended, or about to: either way there is nobody to tell.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The helper's side of the conversation.
pub(crate) struct Questions(Lines<StdinLock<'static>>);

impl Questions {
    /// Reads the setup.
    pub(crate) fn begin<T: DeserializeOwned>() -> Result<(Self, T)> {
        let mut lines = io::stdin().lines();
        let setup = lines.next().context("a helper needs a setup line")??;
        let setup = serde_json::from_str(&setup).context("reading the setup line")?;
        Ok((Self(lines), setup))
    }

    /// Says `ready`, then answers each line until there are no more.
    pub(crate) fn answer(
        self,
        ready: &str,
        mut answer: impl FnMut(&str) -> Result<String>,
    ) -> Result<()> {
        let mut output = io::stdout().lock();
        writeln!(output, "ready {ready}")?;
        output.flush()?;
        for line in self.0 {
            writeln!(output, "{}", answer(&line?)?)?;
            output.flush()?;
        }
        Ok(())
    }
}
