//! One method per field of the manifest.

use std::collections::BTreeMap;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::spec::{AgentSpec, BuildSettings, HttpProbe, Resources};
use super::super::spec::{DEFAULT_PROBE_INTERVAL_MS, DEFAULT_PROBE_TIMEOUT_MS};
use super::super::suggest::nearest;
use super::super::words::split_words;
use super::{Reader, join};

pub(super) const TOP_KEYS: [&str; 14] = [
    "name",
    "language",
    "start",
    "root_dir",
    "context_dir",
    "replicas",
    "resources",
    "env",
    "labels",
    "isolation",
    "install",
    "probe",
    "stop_grace",
    "build",
];
pub(super) const RESOURCE_KEYS: [&str; 3] = ["cpu", "memory", "pids"];
pub(super) const PROBE_KEYS: [&str; 4] = ["http", "port", "interval_ms", "timeout_ms"];
const BUILD_KEYS: [&str; 1] = ["env"];

type Value<'i> = Spanned<DeValue<'i>>;

impl Reader<'_> {
    /// Reads every field even after a problem; `None` only when there is no name to carry them.
    pub(super) fn agent(&mut self, document: &Spanned<DeTable<'_>>) -> Option<AgentSpec> {
        let table = document.get_ref();
        self.check_keys(table, "", &TOP_KEYS);
        let name = self.name(document);
        // A stand-in lets the other fields be read and checked; the missing name is recorded.
        let stand_in = || "unnamed".parse().expect("`unnamed` is a DNS label");
        let mut spec = AgentSpec::named(name.clone().unwrap_or_else(stand_in));
        spec.language = self.word(table, "language");
        spec.start = table.get("start").and_then(|value| self.start(value));
        if let Some(root_dir) = self.plain_text(table, "root_dir") {
            spec.root_dir = root_dir;
        }
        spec.context_dir = self.plain_text(table, "context_dir");
        spec.replicas = self.number(table, "replicas");
        if let Some(resources) = self.table(table, "", "resources") {
            spec.resources = self.resources(resources);
        }
        spec.env = self.text_table(table, "", "env");
        spec.labels = self.text_table(table, "", "labels");
        if let Some(isolation) = self.word(table, "isolation") {
            spec.isolation = isolation;
        }
        if let Some(install) = self.word(table, "install") {
            spec.install = install;
        }
        spec.probe = self
            .table(table, "", "probe")
            .and_then(|probe| self.probe(probe));
        if let Some(grace) = table.get("stop_grace").and_then(|v| self.duration_ms(v)) {
            spec.stop_grace_ms = grace;
        }
        if let Some(build) = self.table(table, "", "build") {
            self.check_keys(build, "build", &BUILD_KEYS);
            spec.build = BuildSettings {
                env: self.text_table(build, "build", "env"),
            };
        }
        Some(spec)
    }

    fn resources(&mut self, table: &DeTable<'_>) -> Resources {
        self.check_keys(table, "resources", &RESOURCE_KEYS);
        Resources {
            cpu: table
                .get("cpu")
                .and_then(|v| self.quantity(v, "cores (1.5) or a text such as \"500m\"")),
            memory: table
                .get("memory")
                .and_then(|v| self.quantity(v, "a text such as \"256Mi\" or a number of bytes")),
            pids: self.number(table, "pids"),
        }
    }

    fn probe(&mut self, table: &DeTable<'_>) -> Option<HttpProbe> {
        self.check_keys(table, "probe", &PROBE_KEYS);
        let http = self.plain_text(table, "http");
        let port = self.number(table, "port");
        let interval_ms = self.number(table, "interval_ms");
        let timeout_ms = self.number(table, "timeout_ms");
        for (key, example) in [("http", "\"/healthz\""), ("port", "8080")] {
            if !table.contains_key(key) {
                let message = format!("`{key}` is missing in [probe]: add {key} = {example}");
                self.problem(self.place_of("probe"), message);
            }
        }
        Some(HttpProbe {
            http: http?,
            port: port?,
            interval_ms: interval_ms.unwrap_or(DEFAULT_PROBE_INTERVAL_MS),
            timeout_ms: timeout_ms.unwrap_or(DEFAULT_PROBE_TIMEOUT_MS),
        })
    }

    fn start(&mut self, value: &Value<'_>) -> Option<Vec<String>> {
        match value.get_ref() {
            DeValue::String(line) => match split_words(line) {
                Ok(words) => Some(words),
                Err(error) => {
                    self.problem(value.span(), error.to_string());
                    None
                }
            },
            DeValue::Array(words) => words
                .iter()
                .map(|word| self.text(word, "a text").map(str::to_owned))
                .collect(),
            _ => {
                self.wrong_type(value, "a command, as a text or a list of texts");
                None
            }
        }
    }

    /// One of a closed set of words.
    fn word<T: FromStr + Words>(&mut self, table: &DeTable<'_>, key: &str) -> Option<T> {
        let value = table.get(key)?;
        let allowed = T::words();
        let listed = allowed
            .iter()
            .map(|word| format!("\"{word}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let text = self.text(value, &format!("one of {listed}"))?;
        let parsed = text.parse().ok(); // The problem is recorded below.
        if parsed.is_none() {
            let text: String = text.chars().take(40).collect();
            let advice = match nearest(&text, &allowed) {
                Some(near) => format!("; did you mean \"{near}\"?"),
                None => String::new(),
            };
            self.problem(
                value.span(),
                format!("\"{text}\" is not one of {listed}{advice}"),
            );
        }
        parsed
    }

    fn plain_text(&mut self, table: &DeTable<'_>, key: &str) -> Option<String> {
        let value = table.get(key)?;
        self.text(value, "a text").map(str::to_owned)
    }

    fn number<T: TryFrom<u64>>(&mut self, table: &DeTable<'_>, key: &str) -> Option<T> {
        let value = table.get(key)?;
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(value, "a whole number");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix())
            .ok() // A minus sign or an overflow; the problem is recorded below.
            .and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            self.problem(
                value.span(),
                format!("{} is out of range", integer.as_str()),
            );
        }
        number
    }

    fn quantity<T>(&mut self, value: &Value<'_>, expected: &str) -> Option<T>
    where
        T: FromStr<Err = crate::quantity::QuantityError>,
    {
        let text = match value.get_ref() {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            DeValue::Float(float) => float.as_str(),
            _ => {
                self.wrong_type(value, expected);
                return None;
            }
        };
        match text.parse() {
            Ok(quantity) => Some(quantity),
            Err(error) => {
                self.problem(value.span(), error.to_string());
                None
            }
        }
    }

    /// `"10s"`, `"500ms"`, `"2m"`, or whole seconds.
    fn duration_ms(&mut self, value: &Value<'_>) -> Option<u64> {
        const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
        let text = match value.get_ref() {
            DeValue::String(text) => text.to_string(),
            DeValue::Integer(integer) if integer.radix() == 10 => format!("{}s", integer.as_str()),
            _ => {
                self.wrong_type(value, "a duration such as \"10s\"");
                return None;
            }
        };
        let parsed = UNITS.iter().find_map(|(unit, ms)| {
            let number: u64 = text.strip_suffix(unit)?.parse().ok()?; // Reported below.
            number.checked_mul(*ms)
        });
        if parsed.is_none() {
            let text: String = text.chars().take(40).collect();
            self.problem(
                value.span(),
                format!("`{text}` is not a duration: write \"10s\", \"500ms\" or \"2m\""),
            );
        }
        parsed
    }

    fn table<'v, 'i>(
        &mut self,
        table: &'v DeTable<'i>,
        path: &str,
        key: &str,
    ) -> Option<&'v DeTable<'i>> {
        let value = table.get(key)?;
        let inner = value.get_ref().as_table();
        if inner.is_none() {
            let expected = format!("a table, [{}]", join(path, key));
            self.wrong_type(value, &expected);
        }
        inner
    }

    fn text_table(
        &mut self,
        table: &DeTable<'_>,
        path: &str,
        key: &str,
    ) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        let Some(inner) = self.table(table, path, key) else {
            return texts;
        };
        let here = join(path, key);
        for (key, value) in inner {
            let name: &str = key.get_ref();
            self.places.push((join(&here, name), key.span()));
            let text = match value.get_ref() {
                // Numbers and switches are unambiguous as the text that was written.
                DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str()),
                DeValue::Boolean(true) => Some("true"),
                DeValue::Boolean(false) => Some("false"),
                _ => self.text(value, "a text"),
            };
            if let Some(text) = text {
                texts.insert(name.to_owned(), text.to_owned());
            }
        }
        texts
    }
}

/// The words of a closed set, for messages.
trait Words {
    fn words() -> Vec<&'static str>;
}

macro_rules! words_of {
    ($($type:ty),*) => {
        $(impl Words for $type {
            fn words() -> Vec<&'static str> {
                Self::ALL.iter().map(|value| value.as_str()).collect()
            }
        })*
    };
}

words_of!(
    super::super::spec::Language,
    super::super::spec::IsolationTier,
    super::super::spec::InstallMode
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_names_every_key() {
        let page = include_str!("../../../../../docs/reference/parallax-toml.md");
        let all = [&TOP_KEYS[..], &RESOURCE_KEYS, &PROBE_KEYS, &BUILD_KEYS].concat();
        let is_named = |key: &&str| {
            let shapes = [
                format!("`{key}"),
                format!(".{key}"),
                format!("[{key}]"),
                format!("{key} = "),
            ];
            shapes.iter().any(|shape| page.contains(shape.as_str()))
        };
        let missing: Vec<_> = all.into_iter().filter(|key| !is_named(key)).collect();
        assert!(
            missing.is_empty(),
            "docs/reference/parallax-toml.md lacks {missing:?}"
        );
    }
}
