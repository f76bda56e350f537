//! Names of Python dependencies, parsed and never searched for as text.

use std::collections::BTreeSet;
use std::str::FromStr;

use pep508_rs::PackageName;

use super::pyproject::{Pipfile, PyProject};
use crate::plan::{Context, PlanError};
use crate::tree::join;

/// The most `-r` files that follow one another.
const MAX_DEPTH: usize = 8;

/// What a requirements file says, with the files that it includes.
#[derive(Debug, Default)]
pub(crate) struct Requirements {
    /// Normalised names.
    pub(crate) names: BTreeSet<String>,
    /// The files, relative to the source.
    pub(crate) files: Vec<String>,
    /// Folders and archives of the source that it installs, relative to the source.
    pub(crate) local: Vec<String>,
}

impl Requirements {
    /// Reads `path`, which is relative to the source; `None` when there is no such file.
    pub(crate) fn read(context: &Context<'_>, path: &str) -> Result<Option<Self>, PlanError> {
        let mut requirements = Self::default();
        requirements.add_file(context, path, 0)?;
        Ok((!requirements.files.is_empty()).then_some(requirements))
    }

    fn add_file(
        &mut self,
        context: &Context<'_>,
        path: &str,
        depth: usize,
    ) -> Result<(), PlanError> {
        if depth > MAX_DEPTH || self.files.iter().any(|file| file == path) {
            return Ok(());
        }
        let Some(text) = context.tree.read(path)? else {
            return Ok(());
        };
        self.files.push(path.to_owned());
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        for line in text.replace("\\\n", " ").lines() {
            let line = without_comment(line).trim();
            let option = |names: [&str; 2]| {
                names.iter().find_map(|name| {
                    let rest = line.strip_prefix(name)?;
                    let value = rest.trim_start_matches(['=', ' ', '\t']);
                    (rest.len() != value.len()).then_some(value)
                })
            };
            if let Some(file) =
                option(["--requirement", "-r"]).or_else(|| option(["--constraint", "-c"]))
            {
                if let Some(file) = join(folder, file) {
                    self.add_file(context, &file, depth + 1)?;
                }
            } else if let Some(target) = option(["--editable", "-e"]) {
                self.add_local(context, target);
            } else if !line.starts_with('-') && !line.is_empty() {
                self.add_requirement(context, line);
            }
        }
        Ok(())
    }

    fn add_requirement(&mut self, context: &Context<'_>, line: &str) {
        let line = line.split(" --").next().unwrap_or(line).trim();
        if line.starts_with('.')
            || line.starts_with("file:")
            || line.contains('/') && !line.contains('@')
        {
            self.add_local(context, line);
            return;
        }
        if let Some((_, url)) = line.split_once('@')
            && let Some(path) = url.trim().strip_prefix("file:")
        {
            self.add_local(context, path);
        }
        self.names.extend(name_of(line));
    }

    /// pip takes such paths relative to where it runs, which is the agent's folder.
    fn add_local(&mut self, context: &Context<'_>, target: &str) {
        let path = target.strip_prefix("file:").unwrap_or(target);
        let path = path.split('[').next().unwrap_or(path).trim();
        if let Some(path) = join(&context.root, path)
            && !self.local.contains(&path)
        {
            self.local.push(path);
        }
    }
}

/// The normalised names of everything that the project depends on, in any notation.
pub(crate) fn dependency_names(context: &Context<'_>) -> Result<BTreeSet<String>, PlanError> {
    let mut names = BTreeSet::new();
    let file = join(&context.root, "requirements.txt").expect("a file of a normal folder");
    if let Some(requirements) = Requirements::read(context, &file)? {
        names.extend(requirements.names);
    }
    if let Some(project) = PyProject::of_root(context)? {
        let listed = project.project.iter().flat_map(|p| &p.dependencies);
        names.extend(listed.filter_map(|requirement| name_of(requirement)));
        let poetry = project
            .tool
            .poetry
            .iter()
            .flat_map(|p| p.dependencies.keys());
        names.extend(poetry.filter_map(|name| name_of(name)));
    }
    if let Some(pipfile) = Pipfile::of_root(context)? {
        names.extend(pipfile.packages.keys().filter_map(|name| name_of(name)));
    }
    Ok(names)
}

/// The normalised name of a PEP 508 requirement, of which no more is needed here. Relative URLs,
/// which the standard does not know but pip does, are no obstacle. (The parser of `pep508_rs` for
/// whole requirements panics on some malformed ones, which a tenant could send.)
fn name_of(requirement: &str) -> Option<String> {
    let in_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let requirement = requirement.trim();
    let end = requirement
        .find(|c| !in_name(c))
        .unwrap_or(requirement.len());
    let (name, rest) = requirement.split_at(end);
    let follows = rest.trim_start().chars().next();
    if follows.is_some_and(|c| !"[(<>=!~;@,".contains(c)) {
        return None; // Not a requirement at all.
    }
    let edge = |c: char| c.is_ascii_alphanumeric();
    if !name.starts_with(edge) || !name.ends_with(edge) {
        return None; // Nor this.
    }
    let name = PackageName::from_str(name).ok()?; // Nor whatever else it refuses.
    Some(name.to_string())
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    line.split(" #").next().unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_parsed_and_normalised() {
        for (requirement, name) in [
            ("Flask>=2", "flask"),
            (
                "google_adk[extra] == 1.0 ; python_version > '3.9'",
                "google-adk",
            ),
            ("sdk @ ./vendor/sdk", "sdk"),
            ("sdk @ https://example.com/sdk.whl", "sdk"),
        ] {
            assert_eq!(name_of(requirement).as_deref(), Some(name), "{requirement}");
        }
        for no_requirement in ["--hash=sha256:abc", "3.é", "a b", "", "[x]", "-"] {
            assert_eq!(name_of(no_requirement), None, "{no_requirement}");
        }
        assert_eq!(without_comment("a # b"), "a");
        assert_eq!(
            without_comment("sdk @ https://x/y#egg=sdk"),
            "sdk @ https://x/y#egg=sdk"
        );
    }
}
