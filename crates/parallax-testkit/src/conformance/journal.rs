//! The account of a case: every frame and every line of the fixture, in order of arrival.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Longest entry that is kept, in characters; the rest of large frames is noise in a failure.
const MAX_ENTRY_CHARS: usize = 400;
/// Entries that are kept; older ones are dropped and counted.
const MAX_ENTRIES: usize = 400;

/// A shared, bounded log. Clones write to the same log.
#[derive(Clone, Debug)]
pub struct Journal {
    started: Instant,
    entries: Arc<Mutex<Entries>>,
}

#[derive(Debug, Default)]
struct Entries {
    lines: std::collections::VecDeque<String>,
    dropped: usize,
}

impl Default for Journal {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            entries: Arc::default(),
        }
    }
}

impl Journal {
    /// Appends an entry by `who`, cut to a few hundred characters.
    pub fn note(&self, who: &str, what: &str) {
        let mut text: String = what.chars().take(MAX_ENTRY_CHARS).collect();
        if text.len() < what.len() {
            text.push('…');
        }
        let line = format!(
            "{:>8.3}s {who:<8} {text}",
            self.started.elapsed().as_secs_f64()
        );
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.lines.len() == MAX_ENTRIES {
            entries.lines.pop_front();
            entries.dropped += 1;
        }
        entries.lines.push_back(line);
    }

    /// The whole account, one entry a line.
    #[must_use]
    pub fn text(&self) -> String {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        if entries.dropped > 0 {
            text.push_str(&format!(
                "({} earlier entries were dropped)\n",
                entries.dropped
            ));
        }
        for line in &entries.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_entries_are_cut_and_old_ones_counted() {
        let journal = Journal::default();
        journal.note("agent", &"ž".repeat(MAX_ENTRY_CHARS + 1));
        assert!(journal.text().ends_with("ž…\n"));
        for n in 0..=MAX_ENTRIES {
            journal.note("agent", &n.to_string());
        }
        let text = journal.text();
        assert!(
            text.starts_with("(2 earlier entries were dropped)\n"),
            "{text}"
        );
        assert_eq!(text.lines().count(), MAX_ENTRIES + 1);
    }
}
