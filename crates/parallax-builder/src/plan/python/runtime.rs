//! Which Python: `.python-version` → `requires-python` → Poetry → Pipfile → `runtime.txt` → the one
//! that a shell runs.

use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};

use crate::detect::pyproject::{Pipfile, PyProject};
use crate::plan::context::Context;
use crate::plan::error::PlanError;
use crate::plan::types::{LoserKind, Resolved, Runtime};
use crate::toolchain::{Tool, ToolKind};

/// What one file asks for.
struct Wish {
    text: String,
    from: String,
    accepted: VersionSpecifiers,
}

pub(super) fn choose(context: &mut Context<'_>, needs_pip: bool) -> Result<Runtime, PlanError> {
    let wishes = wishes(context)?;
    let toolchain = context.toolchain;
    let found: Vec<(Version, &Tool)> = toolchain
        .of(ToolKind::Python)
        .filter_map(|tool| Some((Version::from_str(&tool.version).ok()?, tool))) // No Python's version.
        .filter(|(version, _)| version.release().first() == Some(&3))
        .collect();
    if found.is_empty() {
        return Err(PlanError::RuntimeMissing {
            runtime: "python (3)".to_owned(),
        });
    }
    let objection = |version: &Version, tool: &Tool| -> Option<String> {
        if let Some(wish) = wishes.iter().find(|wish| !wish.accepted.contains(version)) {
            return Some(format!("{} asks for {}", wish.from, wish.text));
        }
        (needs_pip && !tool.ensurepip)
            .then(|| "it lacks ensurepip; on Debian install python3-venv".to_owned())
    };
    let chosen = found
        .iter()
        .find(|(version, tool)| objection(version, tool).is_none());
    let Some((version, tool)) = chosen else {
        return Err(mismatch(&wishes, &found, objection));
    };
    for (other, other_tool) in found.iter().filter(|(_, other)| other.path != tool.path) {
        let why = objection(other, other_tool)
            .unwrap_or_else(|| "another comes first on the search path".to_owned());
        context.lose(LoserKind::Runtime, format!("Python {other}"), why);
    }
    let why = match wishes.first() {
        Some(wish) => format!("{} asks for {}", wish.from, wish.text),
        None => "the project asks for no version; this one comes first on the search path".into(),
    };
    Ok(Runtime {
        name: "python".to_owned(),
        requirement: wishes.into_iter().next().map(|wish| wish.text),
        resolved: Resolved {
            version: version.to_string(),
            path: tool.path.clone(),
        },
        why,
    })
}

fn mismatch(
    wishes: &[Wish],
    found: &[(Version, &Tool)],
    objection: impl Fn(&Version, &Tool) -> Option<String>,
) -> PlanError {
    let (requirement, from) = match wishes.first() {
        Some(wish) => (wish.text.clone(), wish.from.clone()),
        None => (
            "with ensurepip".to_owned(),
            "installing with pip".to_owned(),
        ),
    };
    PlanError::RuntimeMismatch {
        runtime: "Python".to_owned(),
        requirement,
        from,
        found: found
            .iter()
            .map(|(version, tool)| match objection(version, tool) {
                Some(why) => format!("{version} ({why})"),
                None => version.to_string(),
            })
            .collect(),
    }
}

/// The strongest file's wish first; `requires-python` binds beside it.
fn wishes(context: &mut Context<'_>) -> Result<Vec<Wish>, PlanError> {
    let mut wishes = Vec::new();
    if let Some(text) = context.read_root(".python-version")? {
        let first = text
            .lines()
            .map(str::trim)
            .find(|l| !l.is_empty() && !l.starts_with('#'));
        wishes.extend(first.and_then(|text| pinned(context, text, ".python-version")));
    }
    let project = PyProject::of_root(context)?.unwrap_or_default();
    if let Some(text) = project.requires_python() {
        wishes.push(stated(text, "requires-python of pyproject.toml")?);
    } else if let Some(text) = project.poetry_python() {
        let pep440 = from_poetry(text);
        let mut wish = stated(&pep440, "tool.poetry.dependencies.python of pyproject.toml")?;
        wish.text = text.to_owned();
        wishes.push(wish);
    }
    if !wishes.is_empty() {
        return Ok(wishes);
    }
    let pipfile = Pipfile::of_root(context)?.unwrap_or_default();
    if let Some(text) = pipfile.python().filter(|text| *text != "*") {
        wishes.extend(pinned(context, text, "Pipfile"));
    } else if let Some(text) = context.read_root("runtime.txt")? {
        let text = text.trim().trim_start_matches("python-").to_owned();
        wishes.extend(pinned(context, &text, "runtime.txt"));
    }
    Ok(wishes)
}

/// `3.11` means any 3.11. So does `3.11.4` when exactly that is not here: patch releases keep
/// their promises, and a host cannot have them all; the plan then says so.
fn pinned(context: &mut Context<'_>, text: &str, from: &str) -> Option<Wish> {
    let Ok(version) = Version::from_str(text.trim_start_matches("cpython-")) else {
        context.warn(format!(
            "{from} says `{text}`, which names no version; it is ignored"
        ));
        return None;
    };
    let release: Vec<String> = version.release().iter().map(u64::to_string).collect();
    let exact = context
        .toolchain
        .of(ToolKind::Python)
        .any(|tool| tool.version == text);
    let accepted = if release.len() >= 3 && exact {
        format!("=={}", release.join("."))
    } else {
        if release.len() >= 3 {
            context.warn(format!(
                "{from} asks for {text}, which is not on this host; another {} is used if there is one",
                release[..2].join(".")
            ));
        }
        format!("=={}.*", release[..release.len().min(2)].join("."))
    };
    Some(Wish {
        text: text.to_owned(),
        from: from.to_owned(),
        accepted: VersionSpecifiers::from_str(&accepted).expect("a release makes a specifier"),
    })
}

fn stated(text: &str, from: &str) -> Result<Wish, PlanError> {
    let accepted = VersionSpecifiers::from_str(text).map_err(|error| PlanError::BadFile {
        path: from.to_owned(),
        message: format!("`{text}` is no version specifier: {error}"),
    })?;
    Ok(Wish {
        text: text.to_owned(),
        from: from.to_owned(),
        accepted,
    })
}

/// Poetry's `^3.11` is `>=3.11,<4`, its `~3.11` is `>=3.11,<3.12`, and `3.11` is `==3.11`.
fn from_poetry(text: &str) -> String {
    let clauses = text.split(',').map(|clause| {
        let clause = clause.trim();
        if let Some(version) = clause.strip_prefix('^') {
            let major: u64 = version
                .split('.')
                .next()
                .and_then(|m| m.parse().ok())
                .unwrap_or(3); // Python 3 it is.
            format!(">={version},<{}", major + 1)
        } else if let Some(version) = clause.strip_prefix('~').filter(|v| !v.starts_with('=')) {
            let parts: Vec<&str> = version.split('.').take(2).collect();
            format!(">={version},=={}.*", parts.join("."))
        } else if clause == "*" {
            ">=3".to_owned()
        } else if clause.starts_with(|c: char| c.is_ascii_digit()) {
            format!("=={clause}")
        } else {
            clause.to_owned()
        }
    });
    clauses.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poetrys_notation_is_translated() {
        assert_eq!(from_poetry("^3.11"), ">=3.11,<4");
        assert_eq!(from_poetry("~3.11"), ">=3.11,==3.11.*");
        assert_eq!(from_poetry(">=3.9, <3.13"), ">=3.9,<3.13");
        assert_eq!(from_poetry("3.11.*"), "==3.11.*");
    }
}
