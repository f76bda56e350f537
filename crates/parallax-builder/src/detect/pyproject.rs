//! The parts of `pyproject.toml` and `Pipfile` that matter for a plan.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::plan::{Context, PlanError};
use crate::tree::{SourceTree, join};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct PyProject {
    pub(crate) project: Option<Project>,
    pub(crate) build_system: Option<BuildSystem>,
    pub(crate) tool: Tool,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub(crate) struct Project {
    pub(crate) name: Option<String>,
    pub(crate) requires_python: Option<String>,
    pub(crate) dependencies: Vec<String>,
    pub(crate) scripts: BTreeMap<String, String>,
}

/// That the table is there is all that matters: the project can be installed.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct BuildSystem {}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Tool {
    pub(crate) poetry: Option<Poetry>,
    pub(crate) uv: Option<Uv>,
    pub(crate) pdm: Option<Pdm>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Poetry {
    pub(crate) name: Option<String>,
    pub(crate) dependencies: BTreeMap<String, toml::Value>,
    pub(crate) scripts: BTreeMap<String, toml::Value>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Uv {
    pub(crate) workspace: Option<UvWorkspace>,
    pub(crate) sources: BTreeMap<String, toml::Value>,
    pub(crate) package: Option<bool>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct UvWorkspace {
    pub(crate) members: Vec<String>,
    pub(crate) exclude: Vec<String>,
}

/// That the table is there is all that matters: pdm manages the project.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Pdm {}

impl PyProject {
    /// Reads the file in `folder`; `None` when there is none.
    pub(crate) fn read(tree: &SourceTree, folder: &str) -> Result<Option<Self>, PlanError> {
        read_toml(tree, folder, "pyproject.toml")
    }

    pub(crate) fn of_root(context: &Context<'_>) -> Result<Option<Self>, PlanError> {
        Self::read(context.tree, &context.root)
    }

    pub(crate) fn name(&self) -> Option<&str> {
        let project = self.project.as_ref().and_then(|p| p.name.as_deref());
        let poetry = || self.tool.poetry.as_ref().and_then(|p| p.name.as_deref());
        project.or_else(poetry)
    }

    /// Console scripts: a name and `module:function`.
    pub(crate) fn scripts(&self) -> BTreeMap<String, String> {
        let mut scripts = self
            .project
            .as_ref()
            .map(|project| project.scripts.clone())
            .unwrap_or_default();
        let poetry = self.tool.poetry.iter().flat_map(|poetry| &poetry.scripts);
        for (name, target) in poetry {
            if let Some(target) = target.as_str() {
                scripts
                    .entry(name.clone())
                    .or_insert_with(|| target.to_owned());
            }
        }
        scripts
    }

    pub(crate) fn requires_python(&self) -> Option<&str> {
        self.project.as_ref()?.requires_python.as_deref()
    }

    /// Poetry's own notation, such as `^3.11`.
    pub(crate) fn poetry_python(&self) -> Option<&str> {
        self.tool
            .poetry
            .as_ref()?
            .dependencies
            .get("python")?
            .as_str()
    }

    /// Folders of the source that `[tool.uv.sources]` or Poetry takes dependencies from.
    pub(crate) fn path_dependencies(&self) -> Vec<String> {
        let uv = self.tool.uv.iter().flat_map(|uv| uv.sources.values());
        let poetry = self
            .tool
            .poetry
            .iter()
            .flat_map(|poetry| poetry.dependencies.values());
        uv.chain(poetry)
            .filter_map(|source| source.get("path")?.as_str())
            .map(str::to_owned)
            .collect()
    }
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Pipfile {
    pub(crate) packages: BTreeMap<String, toml::Value>,
    pub(crate) requires: BTreeMap<String, toml::Value>,
}

impl Pipfile {
    pub(crate) fn of_root(context: &Context<'_>) -> Result<Option<Self>, PlanError> {
        read_toml(context.tree, &context.root, "Pipfile")
    }

    /// `python_full_version` or `python_version`.
    pub(crate) fn python(&self) -> Option<&str> {
        ["python_full_version", "python_version"]
            .iter()
            .find_map(|key| self.requires.get(*key)?.as_str())
    }
}

fn read_toml<T: serde::de::DeserializeOwned>(
    tree: &SourceTree,
    folder: &str,
    name: &str,
) -> Result<Option<T>, PlanError> {
    let path = join(folder, name).expect("a file of a normal folder");
    let Some(text) = tree.read(&path)? else {
        return Ok(None);
    };
    toml::from_str(&text)
        .map(Some)
        .map_err(|error| PlanError::BadFile {
            path,
            message: error.to_string().trim_end().to_owned(),
        })
}
