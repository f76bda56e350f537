//! The rules that every spec obeys, whichever door it came through.

use std::collections::BTreeMap;

use crate::agent::{MAX_REPLICAS, RESERVED_NAMES};
use crate::secretish::looks_secret;

use super::spec::{AgentSpec, HttpProbe, Resources};

/// One broken rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct SpecProblem {
    /// Where, as keys joined by dots: `resources.memory`, `env.DB_PASSWORD`.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// Linux refuses longer arguments (MAX_ARG_STRLEN); together they stay below ARG_MAX.
const MAX_TEXT_BYTES: usize = 128 * 1024;
/// Keeps a spec, which is stored with every revision, small.
const MAX_ENTRIES: usize = 256;
/// A runtime with less cannot even start.
const MIN_MEMORY_BYTES: u64 = 8 << 20;
/// A runtime with fewer threads cannot even start.
const MIN_PIDS: u32 = 8;
/// Ten minutes: a rollout waits for it.
const MAX_STOP_GRACE_MS: u64 = 600_000;
/// Prefix of the variables that Parallax sets itself.
const RESERVED_PREFIX: &str = "PARALLAX_";

impl AgentSpec {
    /// Checks every rule that the types alone do not carry.
    ///
    /// # Errors
    /// All problems, in the order of the fields.
    pub fn validate(&self) -> Result<(), Vec<SpecProblem>> {
        let mut problems = Problems::default();
        if RESERVED_NAMES.contains(&self.name.as_str()) {
            let message = format!(
                "`{}` is taken by the API's own paths; choose another",
                self.name
            );
            problems.add("name", message);
        }
        problems.start(self.start.as_deref());
        problems.folder("root_dir", &self.root_dir, false);
        if let Some(context_dir) = &self.context_dir {
            problems.folder("context_dir", context_dir, true);
        }
        if self
            .replicas
            .is_some_and(|replicas| replicas > MAX_REPLICAS)
        {
            problems.add("replicas", format!("at most {MAX_REPLICAS}"));
        }
        problems.resources(&self.resources);
        problems.environment("env", &self.env);
        problems.labels(&self.labels);
        if let Some(probe) = &self.probe {
            problems.probe(probe);
        }
        if self.stop_grace_ms > MAX_STOP_GRACE_MS {
            problems.add("stop_grace", "at most 10 minutes");
        }
        problems.environment("build.env", &self.build.env);
        if problems.0.is_empty() {
            Ok(())
        } else {
            Err(problems.0)
        }
    }
}

#[derive(Default)]
struct Problems(Vec<SpecProblem>);

impl Problems {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(SpecProblem {
            path: path.into(),
            message: message.into(),
        });
    }

    fn start(&mut self, start: Option<&[String]>) {
        let Some(words) = start else { return };
        if words.first().is_none_or(String::is_empty) {
            self.add("start", "the command is empty");
        } else if words.iter().any(|word| word.contains('\0')) {
            self.add("start", "a word contains a NUL byte");
        } else if words.len() > MAX_ENTRIES || words.iter().any(|w| w.len() > MAX_TEXT_BYTES) {
            self.add("start", "the command is too long");
        }
    }

    fn folder(&mut self, key: &str, path: &str, may_climb: bool) {
        let mut parts = path.split('/').filter(|part| *part != ".").peekable();
        if may_climb {
            while parts.next_if_eq(&"..").is_some() {}
        }
        let trimmed = path.strip_suffix('/').unwrap_or(path);
        if path.is_empty() || path.starts_with('/') || trimmed.contains("//") {
            self.add(
                key,
                "write a path relative to the manifest, such as `agents/scorer`",
            );
        } else if parts.any(|part| part == "..") {
            let reason = if may_climb {
                "`..` may stand only at the beginning"
            } else {
                "may not leave the folder of the manifest; say `context_dir = \"..\"` to upload more"
            };
            self.add(key, reason);
        } else if path.len() > 1024 || path.contains(['\0', '\\']) {
            self.add(key, "is too long or has a NUL byte or a backslash");
        }
    }

    fn resources(&mut self, resources: &Resources) {
        if resources.cpu.is_some_and(|cpu| cpu.get() == 0) {
            self.add("resources.cpu", "must be more than 0");
        }
        if resources.memory.is_some_and(|m| m.get() < MIN_MEMORY_BYTES) {
            self.add(
                "resources.memory",
                "must be at least 8Mi; is the unit missing?",
            );
        }
        if resources.pids.is_some_and(|pids| pids < MIN_PIDS) {
            self.add("resources.pids", format!("must be at least {MIN_PIDS}"));
        }
    }

    fn environment(&mut self, table: &str, env: &BTreeMap<String, String>) {
        if env.len() > MAX_ENTRIES {
            self.add(table, format!("at most {MAX_ENTRIES} variables"));
        }
        for (key, value) in env {
            let path = format!("{table}.{key}");
            let valid_key = key.bytes().enumerate().all(|(i, b)| {
                b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit())
            });
            if key.is_empty() || !valid_key {
                self.add(path, "is no variable name: use letters, digits and `_`");
            } else if key.starts_with(RESERVED_PREFIX) {
                self.add(
                    path,
                    "names that begin with PARALLAX_ are set by Parallax itself",
                );
            } else if value.contains('\0') || value.len() > MAX_TEXT_BYTES {
                self.add(path, "is too long or contains a NUL byte");
            } else if let Some(looks) = looks_secret(key, value) {
                let why = looks.explanation();
                self.add(
                    path,
                    format!(
                        "looks like a secret ({why}); a manifest is no place for one. \
                         `parallax secrets set` arrives with the next release; until then run an \
                         agent that needs one where you host it yourself: docs/guides/byoa.md"
                    ),
                );
            }
        }
    }

    fn labels(&mut self, labels: &BTreeMap<String, String>) {
        if labels.len() > MAX_ENTRIES {
            self.add("labels", format!("at most {MAX_ENTRIES} labels"));
        }
        for (key, value) in labels {
            let word = |text: &str, extra: &str| {
                text.len() <= 63
                    && text
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || extra.contains(c))
            };
            if key.is_empty() || !word(key, "-_./") {
                self.add(
                    format!("labels.{key}"),
                    "a label's key is 1 to 63 letters, digits, `-`, `_`, `.` or `/`",
                );
            } else if !word(value, "-_.") {
                self.add(
                    format!("labels.{key}"),
                    "a label's value is at most 63 letters, digits, `-`, `_` or `.`",
                );
            }
        }
    }

    fn probe(&mut self, probe: &HttpProbe) {
        let plain = probe.http.bytes().all(|b| b.is_ascii_graphic());
        if !probe.http.starts_with('/') || !plain || probe.http.len() > 1024 {
            self.add(
                "probe.http",
                "write a path that begins with `/`, such as `/healthz`",
            );
        }
        if probe.port == 0 {
            self.add("probe.port", "must be 1 to 65535");
        }
        if !(100..=600_000).contains(&probe.interval_ms) {
            self.add("probe.interval_ms", "must be 100 to 600000");
        }
        if !(10..=60_000).contains(&probe.timeout_ms) {
            self.add("probe.timeout_ms", "must be 10 to 60000");
        }
    }
}
