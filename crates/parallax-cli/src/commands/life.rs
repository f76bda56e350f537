//! What an agent says of a task while it works: its progress, and pieces of its result.

use parallax_api::tasks::{ProgressView, TaskEntry};

use crate::output::Progress;
use crate::printable;

/// All of it, in parts per million.
const MAX_PPM: u32 = 1_000_000;
/// A piece of a result without a line break is shown once it is this long, in bytes.
const LONG_LINE: usize = 1024;

/// Shows signs of life as they come.
#[derive(Debug)]
pub(super) struct SignsOfLife<'a> {
    progress: &'a Progress,
    /// Of the pieces of the result, the line that goes on.
    line: String,
}

impl<'a> SignsOfLife<'a> {
    pub(super) fn new(progress: &'a Progress) -> Self {
        Self {
            progress,
            line: String::new(),
        }
    }

    /// Shows what an entry tells, if it is a sign of life.
    pub(super) fn show(&mut self, entry: &TaskEntry) {
        if let Some(said) = &entry.progress {
            self.progress.step(progress_words(said));
        }
        if let Some(piece) = &entry.partial {
            for line in piece.chunk.split_inclusive('\n') {
                self.line.push_str(line);
                if line.ends_with('\n') || self.line.len() >= LONG_LINE {
                    self.flush();
                }
            }
        }
        if let Some(count) = entry.skipped.filter(|count| *count > 0) {
            self.flush();
            self.progress
                .line(format_args!("  ({count} signs of life were missed)"));
        }
    }

    /// Shows what there is of the last line: the attempt has ended, or has news of its own.
    pub(super) fn flush(&mut self) {
        if !self.line.is_empty() {
            let line = self.line.trim_end_matches('\n');
            let line = printable::log(line, false);
            self.progress.line(format_args!("  | {line}"));
            self.line.clear();
        }
    }
}

/// What an agent says of how far it is, on one line.
fn progress_words(said: &ProgressView) -> String {
    let message = printable::line(&said.message);
    let share = match said.ppm {
        None => return message.into_owned(),
        Some(ppm) if ppm > MAX_PPM => "more than 100 %".to_owned(),
        Some(ppm) => format!("{} %", ppm / 10_000),
    };
    match &*message {
        "" => share,
        message => format!("{share}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_line_and_no_more_than_everything() {
        let check = |ppm, message: &str, expected: &str| {
            let message = message.to_owned();
            assert_eq!(progress_words(&ProgressView { ppm, message }), expected);
        };
        check(Some(504_999), "", "50 %");
        let hostile = "half\n\u{1b}[32mdone";
        check(Some(1_000_000), hostile, r"100 %: half\n\u{1b}[32mdone");
        check(Some(9_000_000), "", "more than 100 %");
        check(None, "counting", "counting");
    }
}
