//! Reads `parallax.toml` and places every problem on its line and column.

mod fields;

use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::name::Name;

use super::spec::AgentSpec;
use super::suggest::nearest;

/// The manifest's name in the agent's folder.
pub const FILE_NAME: &str = "parallax.toml";

/// Larger than any manifest that a person writes; keeps a hostile one cheap.
const MAX_BYTES: usize = 256 * 1024;

/// One problem with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What is wrong and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{FILE_NAME}:{}:{}: {}",
            self.line, self.column, self.message
        )
    }
}

/// Everything that is wrong with a manifest, in the order of its lines; never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// The problems.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// Parses and validates a manifest.
///
/// # Errors
/// Every problem found, each with its line and column.
pub fn parse(text: &str) -> Result<AgentSpec, ManifestError> {
    let mut reader = Reader::new(text);
    if text.len() > MAX_BYTES {
        reader.problem(0..0, "the manifest is larger than 256 KiB");
        return Err(reader.into_error());
    }
    let (document, mistakes) = DeTable::parse_recoverable(text);
    for mistake in &mistakes {
        let span = mistake.span().unwrap_or(0..0);
        reader.problem(span, mistake.message());
    }
    // What a broken document seems to say would only yield follow-up problems.
    if !mistakes.is_empty() {
        return Err(reader.into_error());
    }
    let spec = reader.agent(&document);
    if let Some(spec) = &spec
        && let Err(problems) = spec.validate()
    {
        for problem in problems {
            reader.problem(reader.place_of(&problem.path), problem.message);
        }
    }
    match spec {
        Some(spec) if reader.problems.is_empty() => Ok(spec),
        _ => Err(reader.into_error()),
    }
}

/// Collects problems, and the places of keys for those that validation finds later.
struct Reader<'t> {
    text: &'t str,
    problems: Vec<(usize, String)>,
    places: Vec<(String, Range<usize>)>,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str) -> Self {
        Self {
            text,
            problems: Vec::new(),
            places: Vec::new(),
        }
    }

    fn problem(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push((span.start, message.into()));
    }

    /// The value's place, or that of the nearest table around it, or the beginning.
    fn place_of(&self, path: &str) -> Range<usize> {
        let mut path = path;
        loop {
            if let Some((_, place)) = self.places.iter().find(|(known, _)| known == path) {
                return place.clone();
            }
            match path.rsplit_once('.') {
                Some((table, _)) => path = table,
                None => return 0..0,
            }
        }
    }

    fn into_error(mut self) -> ManifestError {
        self.problems.sort();
        self.problems.dedup();
        let problems = self
            .problems
            .iter()
            .map(|(offset, message)| {
                let (line, column) = line_and_column(self.text, *offset);
                Problem {
                    line,
                    column,
                    message: message.clone(),
                }
            })
            .collect();
        ManifestError { problems }
    }

    /// Refuses keys that are not `known` and remembers the places of the others.
    fn check_keys(&mut self, table: &DeTable<'_>, path: &str, known: &[&str]) {
        for (key, value) in table {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                self.places.push((join(path, name), value.span()));
                continue;
            }
            let place = if path.is_empty() {
                String::new()
            } else {
                format!(" in [{path}]")
            };
            let advice = advice(name, path, known);
            self.problem(key.span(), format!("unknown key `{name}`{place}{advice}"));
        }
    }

    fn text<'v>(&mut self, value: &'v Spanned<DeValue<'_>>, what: &str) -> Option<&'v str> {
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.wrong_type(value, what);
        }
        text
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a decimal number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.problem(value.span(), format!("expected {expected}, found {found}"));
    }

    fn name(&mut self, document: &Spanned<DeTable<'_>>) -> Option<Name> {
        let Some(value) = document.get_ref().get("name") else {
            self.problem(
                0..0,
                "`name` is missing: add a line such as name = \"my-agent\"",
            );
            return None;
        };
        let text = self.text(value, "the agent's name as a text")?;
        text.parse()
            .map_err(|error: crate::name::NameError| self.problem(value.span(), error.to_string()))
            .ok() // The problem is recorded on the line above.
    }
}

fn advice(name: &str, path: &str, known: &[&str]) -> String {
    const SUBTABLES: [(&str, &[&str]); 2] = [
        ("resources", &fields::RESOURCE_KEYS),
        ("probe", &fields::PROBE_KEYS),
    ];
    if path.is_empty() && name == "secrets" {
        return "; `parallax secrets set` arrives with the next release".to_owned();
    }
    let home = SUBTABLES.iter().find(|(_, keys)| keys.contains(&name));
    if path.is_empty()
        && let Some((table, _)) = home
    {
        return format!("; it belongs in [{table}]");
    }
    if !path.is_empty() && fields::TOP_KEYS.contains(&name) {
        return format!("; it belongs at the top, above [{path}]");
    }
    match nearest(name, known) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => format!("; known keys: {}", known.join(", ")),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
