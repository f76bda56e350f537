//! What every stage of planning works with.

use parallax_core::manifest::BuildSpec;

use super::error::PlanError;
use super::types::{Loser, LoserKind};
use crate::locate;
use crate::toolchain::Toolchain;
use crate::tree::{SourceTree, TreeError, join};

/// The source, the wishes, the tools, and the notes taken on the way.
pub(crate) struct Context<'c> {
    pub(crate) tree: &'c SourceTree,
    pub(crate) spec: &'c BuildSpec,
    pub(crate) toolchain: &'c Toolchain,
    /// The agent's folder, relative to the source.
    pub(crate) root: String,
    /// The workspace's root, relative to the source.
    pub(crate) workspace: String,
    pub(crate) losers: Vec<Loser>,
    pub(crate) warnings: Vec<String>,
}

impl<'c> Context<'c> {
    pub(crate) fn open(
        tree: &'c SourceTree,
        spec: &'c BuildSpec,
        toolchain: &'c Toolchain,
    ) -> Result<Self, PlanError> {
        let folder = |key, path: &str| {
            join(".", path)
                .filter(|path| tree.is_dir(path))
                .ok_or_else(|| PlanError::NoSuchFolder {
                    key,
                    path: path.to_owned(),
                })
        };
        let root = folder("root_dir", &spec.root_dir)?;
        let workspace = match &spec.context_dir {
            Some(path) => folder("context_dir", path)?,
            None => locate::workspace_of(tree, &root)?,
        };
        if !contains(&workspace, &root) {
            return Err(PlanError::RootOutsideContext {
                root,
                context: workspace,
            });
        }
        Ok(Self {
            tree,
            spec,
            toolchain,
            root,
            workspace,
            losers: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// A file of the agent's folder, relative to the source.
    pub(crate) fn at_root(&self, path: &str) -> Option<String> {
        join(&self.root, path)
    }

    pub(crate) fn root_has(&self, path: &str) -> bool {
        self.at_root(path)
            .is_some_and(|path| self.tree.is_file(&path))
    }

    pub(crate) fn root_has_dir(&self, path: &str) -> bool {
        self.at_root(path)
            .is_some_and(|path| self.tree.is_dir(&path))
    }

    pub(crate) fn read_root(&self, path: &str) -> Result<Option<String>, TreeError> {
        match self.at_root(path) {
            Some(path) => self.tree.read(&path),
            None => Err(TreeError::Escapes {
                path: path.to_owned(),
            }),
        }
    }

    pub(crate) fn lose(
        &mut self,
        kind: LoserKind,
        what: impl Into<String>,
        why: impl Into<String>,
    ) {
        self.losers.push(Loser {
            kind,
            what: what.into(),
            why: why.into(),
        });
    }

    pub(crate) fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

/// Whether the folder `inner` is `outer` or lies in it; both normal.
fn contains(outer: &str, inner: &str) -> bool {
    outer == "."
        || inner == outer
        || inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.starts_with('/'))
}
