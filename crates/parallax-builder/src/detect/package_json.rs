//! The parts of `package.json` that matter for a plan.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::plan::{Context, PlanError};
use crate::tree::{SourceTree, join};

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PackageJson {
    pub(crate) name: Option<String>,
    #[serde(rename = "type")]
    pub(crate) module_type: Option<String>,
    pub(crate) main: Option<String>,
    pub(crate) scripts: BTreeMap<String, String>,
    pub(crate) dependencies: BTreeMap<String, String>,
    pub(crate) dev_dependencies: BTreeMap<String, String>,
    pub(crate) optional_dependencies: BTreeMap<String, String>,
    pub(crate) engines: BTreeMap<String, String>,
    pub(crate) package_manager: Option<String>,
    pub(crate) dev_engines: DevEngines,
    pub(crate) workspaces: Workspaces,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct DevEngines {
    pub(crate) runtime: OneOrMany<Engine>,
    pub(crate) package_manager: OneOrMany<Engine>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Engine {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> Default for OneOrMany<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> OneOrMany<T> {
    pub(crate) fn as_slice(&self) -> &[T] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Workspaces {
    Globs(Vec<String>),
    Packages {
        #[serde(default)]
        packages: Vec<String>,
    },
}

impl Default for Workspaces {
    fn default() -> Self {
        Self::Globs(Vec::new())
    }
}

impl Workspaces {
    pub(crate) fn globs(&self) -> &[String] {
        match self {
            Self::Globs(globs) => globs,
            Self::Packages { packages } => packages,
        }
    }
}

impl PackageJson {
    /// Reads the file in `folder`; `None` when there is none.
    pub(crate) fn read(tree: &SourceTree, folder: &str) -> Result<Option<Self>, PlanError> {
        let path = join(folder, "package.json").expect("a file of a normal folder");
        let Some(text) = tree.read(&path)? else {
            return Ok(None);
        };
        serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| PlanError::BadFile {
                path,
                message: error.to_string(),
            })
    }

    pub(crate) fn of_root(context: &Context<'_>) -> Result<Option<Self>, PlanError> {
        Self::read(context.tree, &context.root)
    }

    pub(crate) fn depends_on(&self, name: &str) -> bool {
        self.dependencies.contains_key(name)
            || self.dev_dependencies.contains_key(name)
            || self.optional_dependencies.contains_key(name)
    }

    /// Every dependency with its specifier.
    pub(crate) fn all_dependencies(&self) -> impl Iterator<Item = (&String, &String)> {
        self.dependencies
            .iter()
            .chain(&self.dev_dependencies)
            .chain(&self.optional_dependencies)
    }

    /// The scripts that run while dependencies are installed, of those it has.
    pub(crate) fn install_scripts(&self) -> Vec<&str> {
        ["preinstall", "install", "postinstall", "prepare"]
            .into_iter()
            .filter(|name| self.scripts.contains_key(*name))
            .collect()
    }
}
