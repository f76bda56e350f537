//! Texts of agents, hosts and servers as a terminal may have them.
//!
//! Whoever calls an agent reads what the agent wrote: its progress, its evidence, its log. None of it
//! may move the cursor, change the window's title, turn the reading direction round, or look like a
//! line of this program's own. What would is shown as an escape, `\u{1b}`, and never left out: a
//! person sees that it is there.

use parallax_core::text::Utf8Pieces;
use std::borrow::Cow;
use std::fmt::Write;

/// Before the second line of a text and those that follow, so that none passes for a line of ours.
const INDENT: &str = "  ";
/// Ends whatever colours a line of a log has begun.
const RESET: &str = "\u{1b}[0m";

/// What a terminal acts on instead of showing it: C0 and C1 controls, and what overrides the
/// direction of the text around it.
fn is_acted_on(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text of somebody else's, on one line.
#[must_use]
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// A text of somebody else's with its line breaks, the lines after the first indented.
#[must_use]
pub(crate) fn block(text: &str) -> String {
    let lines = text.trim_end().lines();
    let lines: Vec<_> = lines
        .map(|line| escaped(line, |letter| letter == '\t'))
        .collect();
    lines.join(&format!("\n{INDENT}"))
}

/// JSON for a terminal: the same value. JSON's own escapes stop at 0x1f, and terminals do not.
#[must_use]
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    // Outside of strings JSON has line breaks and tabs, and no other such letter.
    replaced(text, |letter, out| {
        if matches!(letter, '\n' | '\r' | '\t') {
            out.push(letter);
        } else {
            let _ = write!(out, "\\u{:04x}", u32::from(letter)); // All are below U+10000.
        }
    })
}

/// A line of a log for a terminal: colours stay if they are shown at all, and end with the line.
#[must_use]
pub(crate) fn log(text: &str, colors: bool) -> Cow<'_, str> {
    let text = text.trim_end_matches('\r');
    if !text.contains(is_acted_on) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut colored = false;
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let color = color_at(rest);
        if color.is_empty() {
            match letter {
                '\t' => out.push(letter),
                _ => push_escaped(letter, &mut out),
            }
            rest = &rest[letter.len_utf8()..];
        } else {
            if colors {
                out.push_str(color);
                colored = true;
            }
            rest = &rest[color.len()..];
        }
    }
    if colored {
        out.push_str(RESET);
    }
    Cow::Owned(out)
}

/// What this program says itself, in which a text of somebody else's may have been forgotten: line
/// breaks, tabs and colours that `is_ours` pass.
#[must_use]
pub(crate) fn guarded(text: &str, is_ours: impl Fn(&str) -> bool) -> Cow<'_, str> {
    let may_stay = |letter| matches!(letter, '\n' | '\t');
    if !text.contains(|letter| is_acted_on(letter) && !may_stay(letter)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let color = color_at(rest);
        if !color.is_empty() && is_ours(color) {
            out.push_str(color);
            rest = &rest[color.len()..];
            continue;
        }
        match letter {
            letter if may_stay(letter) => out.push(letter),
            letter => push_escaped(letter, &mut out),
        }
        rest = &rest[letter.len_utf8()..];
    }
    Cow::Owned(out)
}

/// The colour sequence (SGR) that `text` begins with; empty when it begins with none.
fn color_at(text: &str) -> &str {
    let Some(rest) = text.strip_prefix("\u{1b}[") else {
        return "";
    };
    let parameters = rest.trim_start_matches(|it: char| matches!(it, '0'..='9' | ';' | ':'));
    match parameters.starts_with('m') {
        true => &text[..=text.len() - parameters.len()],
        false => "",
    }
}

fn escaped(text: &str, may_stay: impl Fn(char) -> bool) -> Cow<'_, str> {
    replaced(text, |letter, out| match may_stay(letter) {
        true => out.push(letter),
        false => push_escaped(letter, out),
    })
}

fn replaced(text: &str, mut replace: impl FnMut(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(is_acted_on) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match is_acted_on(letter) {
            true => replace(letter, &mut out),
            false => out.push(letter),
        }
    }
    Cow::Owned(out)
}

fn push_escaped(letter: char, out: &mut String) {
    match is_acted_on(letter) {
        true => out.extend(letter.escape_default()),
        false => out.push(letter),
    }
}

/// Bytes that come in pieces, as text for a terminal.
#[derive(Debug, Default)]
pub(crate) struct Pieces(Utf8Pieces);

impl Pieces {
    /// The text of the next piece, as far as its letters are whole.
    pub(crate) fn next(&mut self, piece: &[u8]) -> String {
        text(&self.0.next(piece))
    }

    /// What is left when there is no next piece.
    pub(crate) fn finish(mut self) -> String {
        self.0.rest().unwrap_or_default()
    }
}

fn text(text: &str) -> String {
    escaped(text, |letter| matches!(letter, '\n' | '\t')).into_owned()
}

#[cfg(test)]
mod tests;
