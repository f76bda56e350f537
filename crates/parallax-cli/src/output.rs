//! What people and programs get to see: answers on standard output, everything else on standard
//! error; colours and moving lines only on terminals.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::printable;
use crate::table::{self, Row};

/// How often a moving line moves.
const TICK: Duration = Duration::from_millis(120);

/// Where output goes and how it may look.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Programs read it.
    pub(crate) json: bool,
    color: bool,
    color_errors: bool,
    /// Standard output is a terminal.
    pub(crate) terminal: bool,
    /// Standard error is one.
    progress: bool,
}

/// A colour with a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Warning,
    Bad,
    Quiet,
}

impl Tone {
    const ALL: [Self; 4] = [Self::Good, Self::Warning, Self::Bad, Self::Quiet];

    const fn style(self) -> Style {
        let color = match self {
            Self::Good => AnsiColor::Green,
            Self::Warning => AnsiColor::Yellow,
            Self::Bad => AnsiColor::Red,
            Self::Quiet => return Style::new().dimmed(),
        };
        Style::new().fg_color(Some(anstyle::Color::Ansi(color)))
    }
}

impl Output {
    /// Looks at where this process writes.
    #[must_use]
    pub(crate) fn new(json: bool, no_color: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        let progress = io::stderr().is_terminal();
        Self {
            json,
            color: terminal && !no_color,
            color_errors: progress && !no_color,
            terminal,
            progress,
        }
    }

    /// Whether lines of a log on standard output keep their colours.
    #[must_use]
    pub(crate) fn colored(&self) -> bool {
        self.color
    }

    /// Whether log lines on standard error may be coloured.
    #[must_use]
    pub(crate) fn colored_errors(&self) -> bool {
        self.color_errors
    }

    /// A line of the answer for people.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn line(&self, text: impl Display) -> Result<()> {
        Ok(writeln!(io::stdout().lock(), "{}", guarded(text))?)
    }

    /// JSON with a line break: as it is, and on a terminal the same value without what that would act
    /// on.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn json(&self, json: &str) -> Result<()> {
        let text = match self.terminal {
            true => printable::json(json),
            false => json.into(),
        };
        Ok(writeln!(io::stdout().lock(), "{text}")?)
    }

    /// A part of the answer, as it is.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes)?;
        Ok(out.flush()?)
    }

    /// The answer for a program: one object, or one a line when called repeatedly.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn object(&self, value: &impl Serialize) -> Result<()> {
        self.json(&serde_json::to_string(value)?)
    }

    /// The answer as a table.
    ///
    /// # Errors
    /// When standard output is closed.
    pub(crate) fn table<const N: usize>(&self, header: [&str; N], rows: &[Row<N>]) -> Result<()> {
        let lines = table::lines(header, rows, self);
        lines.iter().try_for_each(|line| self.line(line))
    }

    /// `text` in a colour of standard output, where that is a terminal.
    #[must_use]
    pub(crate) fn tinted(&self, tone: Tone, text: impl Display) -> String {
        tint(self.color, tone, text)
    }

    /// A label of a remark.
    #[must_use]
    pub(crate) fn quiet(&self, label: &str) -> String {
        tint(self.color_errors, Tone::Quiet, label)
    }

    /// A remark for people, beside the answer.
    pub(crate) fn note(&self, text: impl Display) {
        // A person who closed standard error does not want to know.
        let _ = writeln!(io::stderr().lock(), "{}", guarded(text));
    }

    /// A remark that something is not as it should be.
    pub(crate) fn warn(&self, text: impl Display) {
        let label = tint(self.color_errors, Tone::Warning, "warning:");
        self.note(format_args!("{label} {text}"));
    }

    /// Why the command failed, with every cause.
    pub(crate) fn error(&self, error: &anyhow::Error) {
        let label = tint(self.color_errors, Tone::Bad, "error:");
        self.note(format_args!("{label} {}", chain(error)));
    }

    /// For waits whose answer moves by itself: lines that stay, and none that moves.
    #[must_use]
    pub(crate) fn silent(&self) -> Progress {
        Progress {
            bar: None,
            output: self.clone(),
        }
    }

    /// A moving line while something takes its time; on anything but a terminal, plain lines.
    #[must_use]
    pub(crate) fn progress(&self) -> Progress {
        let bar = self.progress.then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}");
            bar.set_style(style.expect("the template is well-formed"));
            bar.enable_steady_tick(TICK);
            bar
        });
        Progress {
            bar,
            output: self.clone(),
        }
    }
}

/// Something under way.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    output: Output,
}

impl Progress {
    /// What is being done now. Without a terminal each change is a line.
    pub(crate) fn step(&self, text: impl Display) {
        match &self.bar {
            Some(bar) => bar.set_message(guarded(text)),
            None => self.output.note(text),
        }
    }

    /// What is going on, for people at a terminal only: a log would not miss it.
    pub(crate) fn hint(&self, text: impl Display) {
        if let Some(bar) = &self.bar {
            bar.set_message(guarded(text));
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: impl Display) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.note(text)),
            None => self.output.note(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The last door before a terminal: of colours, only those of [`Tone`] pass.
fn guarded(text: impl Display) -> String {
    let text = text.to_string();
    let is_ours = |color: &str| {
        let mut styles = Tone::ALL.into_iter().map(Tone::style);
        styles.any(|style| {
            color == style.render().to_string() || color == style.render_reset().to_string()
        })
    };
    match printable::guarded(&text, is_ours) {
        Cow::Borrowed(_) => text,
        Cow::Owned(guarded) => guarded,
    }
}

fn tint(color: bool, tone: Tone, text: impl Display) -> String {
    if !color {
        return text.to_string();
    }
    let style = tone.style();
    format!("{style}{text}{style:#}")
}

/// An error with its causes, in one text. A wrapper that repeats its cause adds nothing.
#[must_use]
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn our_colours_pass_and_no_others() {
        let said = format!("{}\u{1b}[31;1mx\u{1b}[1A", tint(true, Tone::Bad, "error:"));
        let expected = "\u{1b}[31merror:\u{1b}[0m\\u{1b}[31;1mx\\u{1b}[1A";
        assert_eq!(guarded(said), expected);
    }

    #[test]
    fn an_error_shows_every_cause_once() {
        let error = Err::<(), _>(anyhow::anyhow!("the disk is full"))
            .context("writing a file")
            .expect_err("it is one");
        assert_eq!(chain(&error), "writing a file: the disk is full");
    }
}
