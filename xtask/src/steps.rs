//! The shared runner: named parts, what is going on, and how long each part took.

use std::fmt;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A failure that the output already shows; the last line stays the line of counts.
#[derive(Debug)]
pub struct Reported;

impl fmt::Display for Reported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it failed; see above")
    }
}

impl std::error::Error for Reported {}

/// A sequence of named parts that stops at the first failure.
#[derive(Debug)]
pub struct Steps {
    title: &'static str,
    started: Instant,
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// Starts the clock of the whole sequence.
    pub fn new(title: &'static str) -> Self {
        Self {
            title,
            started: Instant::now(),
            done: Vec::new(),
        }
    }

    /// Runs one part and records its time; an error names the part that failed.
    pub fn run<T>(&mut self, name: &str, part: impl FnOnce() -> Result<T>) -> Result<T> {
        say(&format!("── {name}"));
        let started = Instant::now();
        let outcome = part();
        let took = started.elapsed();
        self.done.push((name.to_owned(), took));
        let verdict = if outcome.is_ok() { "done" } else { "FAILED" };
        say(&format!("── {name}: {verdict} in {}", seconds(took)));
        outcome.with_context(|| format!("{}: the part `{name}` failed", self.title))
    }

    /// Prints the time of each part and the total.
    pub fn summary(&self) {
        let width = self.done.iter().map(|(name, _)| name.len()).max();
        let width = width.unwrap_or(0).max("total".len());
        say(&format!("── {}: time of each part", self.title));
        for (name, took) in &self.done {
            say(&format!("   {name:width$}  {:>9}", seconds(*took)));
        }
        let total = seconds(self.started.elapsed());
        say(&format!("   {:width$}  {total:>9}", "total"));
    }
}

/// Prints one line at once, also into a pipe.
#[expect(clippy::print_stdout, reason = "the tools talk to a person or a log")]
pub fn say(line: &str) {
    println!("{line}");
    // A reader that went away is no reason to stop the work.
    let _ = stdout().flush();
}

/// A line that overwrites itself on a terminal and prints only changes elsewhere.
#[derive(Debug, Default)]
pub struct Progress {
    last: String,
    open: bool,
}

impl Progress {
    /// Shows `text` unless it is what is already shown.
    #[expect(clippy::print_stdout, reason = "the tools talk to a person or a log")]
    pub fn show(&mut self, text: &str) {
        if text == self.last {
            return;
        }
        text.clone_into(&mut self.last);
        if stdout().is_terminal() {
            print!("\r\x1b[2K   {text}");
            self.open = true;
            // As in `say`: a reader that went away is no reason to stop.
            let _ = stdout().flush();
        } else {
            say(&format!("   {text}"));
        }
    }

    /// Ends the line, so that what follows starts on its own.
    pub fn finish(&mut self) {
        if self.open {
            say("");
            self.open = false;
        }
    }
}

/// `4.2 s`, or `3 min 07 s` from a minute on.
pub fn seconds(took: Duration) -> String {
    let whole = took.as_secs();
    if whole < 60 {
        return format!("{:.1} s", took.as_secs_f64());
    }
    format!("{} min {:02} s", whole / 60, whole % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short_below_a_minute_and_split_above() {
        assert_eq!(seconds(Duration::from_millis(4_240)), "4.2 s");
        assert_eq!(seconds(Duration::from_secs(187)), "3 min 07 s");
    }

    #[test]
    fn a_failing_part_is_named_and_still_timed() {
        let mut steps = Steps::new("ci");
        let error = steps
            .run("clippy", || -> Result<()> { anyhow::bail!("two warnings") })
            .expect_err("the part fails");
        assert_eq!(
            format!("{error:#}"),
            "ci: the part `clippy` failed: two warnings"
        );
        assert_eq!(steps.done.len(), 1);
    }
}
