//! Why no plan could be made.

use std::fmt::Write;

use parallax_core::manifest::Language;

use crate::tree::TreeError;

/// Why no plan could be made: each says what was found and what would settle it.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// Nothing says what to start, or several things do.
    #[error("{}", start_missing(candidates, hint))]
    StartCommandMissing {
        /// The commands that came into question, each with where it was found.
        candidates: Vec<String>,
        /// The line to add to `parallax.toml`.
        hint: String,
    },
    /// No file of a known language.
    #[error(
        "`{root}` holds none of {looked_for}; is it the agent's folder? \
         Otherwise set root_dir in parallax.toml"
    )]
    LanguageUnknown {
        /// The folder.
        root: String,
        /// The files that were looked for.
        looked_for: String,
    },
    /// Several languages, each with something to start.
    #[error(
        "several languages could be started here: {}; \
         add a line such as language = \"{hint}\" to parallax.toml", candidates.join(", ")
    )]
    LanguageAmbiguous {
        /// Each language with its start command.
        candidates: Vec<String>,
        /// The first of them.
        hint: Language,
    },
    /// A language that this version cannot build.
    #[error(
        "{language} agents cannot be built from source yet ({why}); \
         this version builds typescript, javascript and python"
    )]
    LanguageUnsupported {
        /// The language.
        language: Language,
        /// Why it was taken for that.
        why: String,
    },
    /// The runtime is not installed.
    #[error("{runtime} is needed but was not found on this host; install it and try again")]
    RuntimeMissing {
        /// `node` or `python`.
        runtime: String,
    },
    /// No installed runtime has an accepted version.
    #[error(
        "{from} asks for {runtime} {requirement}, but this host has {}; \
         install a matching one, or change {from}", found.join(", ")
    )]
    RuntimeMismatch {
        /// `node` or `python`.
        runtime: String,
        /// The versions that are accepted.
        requirement: String,
        /// Where that is written.
        from: String,
        /// The versions that were found, with why each does not do.
        found: Vec<String>,
    },
    /// A package manager is needed that this host lacks and cannot fetch.
    #[error("{tool} is needed ({why}) but was not found on this host")]
    ToolMissing {
        /// The program.
        tool: String,
        /// What for.
        why: String,
    },
    /// A file says something that cannot be understood.
    #[error("{path}: {message}")]
    BadFile {
        /// The file, relative to the source.
        path: String,
        /// What is wrong, with the line where known.
        message: String,
    },
    /// The file to start does not exist and nothing would make it.
    #[error(
        "{from} starts `{target}`, but there is no such file and nothing that would build it: \
         add a `build` script to package.json, or start a file that exists"
    )]
    StartTargetMissing {
        /// The file.
        target: String,
        /// Who names it.
        from: String,
    },
    /// TypeScript that would be started as it is, with a Node that cannot.
    #[error(
        "`{target}` is TypeScript and Node {node} cannot run that as it is: \
         add `tsx` to the dependencies, or a `build` script and start the JavaScript it makes"
    )]
    NeedsTypeScriptRunner {
        /// The file.
        target: String,
        /// The version of Node.
        node: String,
    },
    /// `root_dir` or `context_dir` names no folder of the source.
    #[error("{key} = \"{path}\": there is no such folder in the source")]
    NoSuchFolder {
        /// `root_dir` or `context_dir`.
        key: &'static str,
        /// What it says.
        path: String,
    },
    /// The agent's folder does not lie in its workspace.
    #[error("root_dir `{root}` does not lie in context_dir `{context}`")]
    RootOutsideContext {
        /// The agent's folder.
        root: String,
        /// The workspace's root.
        context: String,
    },
    /// The source could not be read.
    #[error("the source could not be read")]
    Tree(#[from] TreeError),
}

fn start_missing(candidates: &[String], hint: &str) -> String {
    let mut text = if candidates.is_empty() {
        "nothing says how to start this agent".to_owned()
    } else {
        let listed = candidates.join("; ");
        format!("several commands could start this agent: {listed}")
    };
    write!(text, ". Add a line such as {hint} to parallax.toml")
        .expect("writing into a text does not fail");
    text
}
