//! One broken rule at one place, with what to do about it.

use std::fmt;
use std::path::{Path, PathBuf};

/// The rules, in the words that a finding shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A dependency between crates that the table does not allow.
    CrateArrow,
    /// A module of the server that names one above it.
    ModuleArrow,
    /// A dependency that does not come from the workspace's list.
    WorkspaceDependency,
    /// A crate that must stay free of another.
    ForbiddenDependency,
    /// A file over the budget.
    FileBudget,
    /// A function over the budget.
    FunctionBudget,
    /// An entry of the allow-list that is no longer true.
    AllowList,
    /// A file that no `mod` declaration reaches.
    OrphanFile,
    /// A `mod.rs`.
    ModRs,
    /// A read of the environment outside a config module.
    EnvRead,
    /// A write to the process environment.
    EnvWrite,
    /// SQL outside the store.
    SqlOutsideStore,
    /// A skipped test that the closing counts would miss.
    SkipUncounted,
    /// A note that something is unfinished.
    UnfinishedMarker,
    /// A path that exists on one machine only.
    MachinePath,
    /// A source file that is not Rust.
    Syntax,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CrateArrow => "crate-arrow",
            Self::ModuleArrow => "module-arrow",
            Self::WorkspaceDependency => "workspace-dependency",
            Self::ForbiddenDependency => "forbidden-dependency",
            Self::FileBudget => "file-budget",
            Self::FunctionBudget => "function-budget",
            Self::AllowList => "allow-list",
            Self::OrphanFile => "orphan-file",
            Self::ModRs => "mod-rs",
            Self::EnvRead => "env-read",
            Self::EnvWrite => "env-write",
            Self::SqlOutsideStore => "sql-outside-store",
            Self::SkipUncounted => "skip-uncounted",
            Self::UnfinishedMarker => "unfinished-marker",
            Self::MachinePath => "machine-path",
            Self::Syntax => "syntax",
        })
    }
}

/// What is wrong, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    path: PathBuf,
    line: usize,
    /// The rule that is broken.
    pub rule: Rule,
    message: String,
}

impl Finding {
    /// `message` says what was found and what to do; `line` counts from 1.
    pub fn new(path: &Path, line: usize, rule: Rule, message: impl Into<String>) -> Self {
        Self {
            path: path.to_owned(),
            line,
            rule,
            message: message.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            line,
            rule,
            message,
        } = self;
        write!(f, "{}:{line}: {rule}: {message}", path.display())
    }
}
