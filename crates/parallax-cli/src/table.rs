//! Tables for people: each column as wide as its widest cell, nothing wrapped, nothing cut off, so
//! that a line of a table stays a line in a terminal, in a file, and for `grep`.

use unicode_width::UnicodeWidthStr;

use crate::output::{Output, Tone};
use crate::printable;

/// Between two columns.
const GAP: usize = 2;
/// What stands where there is nothing to say.
const NOTHING: &str = "-";

/// What stands in one place of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// In a colour, where colours are shown.
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            tone: Some(tone),
            ..Self::from(text.into())
        }
    }
}

impl From<String> for Cell {
    /// Texts come from agents and hosts, too.
    fn from(text: String) -> Self {
        let text = if text.is_empty() {
            NOTHING.to_owned()
        } else {
            text
        };
        Self {
            text: printable::line(&text).into_owned(),
            tone: None,
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::from(text.to_owned())
    }
}

impl From<Option<String>> for Cell {
    fn from(text: Option<String>) -> Self {
        Self::from(text.unwrap_or_default())
    }
}

/// A line of a table, and what is said of it on lines of their own below.
#[derive(Debug, Clone)]
pub(crate) struct Row<const N: usize> {
    cells: [Cell; N],
    remarks: Vec<String>,
}

impl<const N: usize> Row<N> {
    pub(crate) fn new(cells: [Cell; N]) -> Self {
        Self {
            cells,
            remarks: Vec::new(),
        }
    }

    /// Says more of it: sentences are too long for columns.
    #[must_use]
    pub(crate) fn with(mut self, remarks: impl IntoIterator<Item = String>) -> Self {
        self.remarks.extend(remarks);
        self
    }
}

/// The lines of a table.
#[must_use]
pub(crate) fn lines<const N: usize>(
    header: [&str; N],
    rows: &[Row<N>],
    output: &Output,
) -> Vec<String> {
    let mut widths = header.map(UnicodeWidthStr::width);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(&row.cells) {
            *width = (*width).max(cell.text.width());
        }
    }
    let titles = header.map(|title| Cell::toned(title, Tone::Quiet));
    let mut lines = vec![line(&titles, &widths, output)];
    for row in rows {
        lines.push(line(&row.cells, &widths, output));
        let remarks = row.remarks.iter().flat_map(|remark| remark.lines());
        lines.extend(remarks.map(|remark| format!("  {}", printable::line(remark))));
    }
    lines
}

/// The last column is not filled up: nothing trails.
fn line(cells: &[Cell], widths: &[usize], output: &Output) -> String {
    let mut line = String::new();
    for (number, (cell, width)) in cells.iter().zip(widths).enumerate() {
        match cell.tone {
            Some(tone) => line.push_str(&output.tinted(tone, &cell.text)),
            None => line.push_str(&cell.text),
        }
        if number + 1 < cells.len() {
            let missing = width - cell.text.width() + GAP;
            line.extend(std::iter::repeat_n(' ', missing));
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_their_titles_whatever_is_in_them() {
        let rows = [
            Row::new(["grüße".into(), "1".into(), "a\nb".into()]),
            Row::new(["日本".into(), "".into(), "\u{1b}[2J".into()])
                .with(["said twice\nby the agent".to_owned()]),
        ];
        let shown = lines(["NAME", "N", "WHY"], &rows, &Output::new(false, true));
        let expected = [
            "NAME   N  WHY",
            r"grüße  1  a\nb",
            r"日本   -  \u{1b}[2J",
            "  said twice",
            "  by the agent",
        ];
        assert_eq!(shown, expected);
    }
}
