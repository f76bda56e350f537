//! From the command that was found to one that Node runs itself.

use node_semver::Version;

use crate::detect::StartCommand;
use crate::detect::node::is_typescript;
use crate::detect::package_json::PackageJson;
use crate::plan::context::Context;
use crate::plan::error::PlanError;
use crate::plan::types::{Runtime, Start};
use crate::tree::{join, relative};

/// What the command names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::plan) enum Target {
    /// A file of the source, relative to the agent's folder.
    Source(String),
    /// A file that is not there: a build has to make it.
    Built(String),
    /// No file of ours: a tool or npm's own script runner decides.
    Unknown,
}

impl Target {
    pub(super) fn of(context: &Context<'_>, package: &PackageJson, start: &StartCommand) -> Self {
        let Some(at) = target_position(&start.argv) else {
            return Self::Unknown;
        };
        let named = start.argv[at].as_str();
        if join(&context.root, named).is_none() {
            return Self::Unknown;
        }
        let main = package.main.as_deref().unwrap_or("index.js");
        let named = if matches!(named, "." | "./") {
            main
        } else {
            named
        };
        let spellings = ["", ".js", ".json", "/index.js"].map(|end| format!("{named}{end}"));
        match spellings.into_iter().find(|path| context.root_has(path)) {
            Some(path) => Self::Source(path),
            None => Self::Built(named.to_owned()),
        }
    }
}

/// Where in the command the file is that Node, tsx or ts-node runs.
fn target_position(argv: &[String]) -> Option<usize> {
    /// Options of Node whose value is a word of its own.
    const WITH_VALUE: [&str; 8] = [
        "-r",
        "--require",
        "--import",
        "--loader",
        "--experimental-loader",
        "-C",
        "--conditions",
        "--env-file",
    ];
    if !matches!(argv.first()?.as_str(), "node" | "tsx" | "ts-node") {
        return None;
    }
    let mut at = 1;
    while let Some(word) = argv.get(at) {
        if matches!(
            word.as_str(),
            "-e" | "--eval" | "-p" | "--print" | "--test" | "--run" | "watch"
        ) {
            return None;
        }
        if !word.starts_with('-') {
            return Some(at);
        }
        at += if WITH_VALUE.contains(&word.as_str()) {
            2
        } else {
            1
        };
    }
    None
}

pub(super) fn command(
    context: &mut Context<'_>,
    package: &PackageJson,
    target: &Target,
    found: &StartCommand,
    runtime: &Runtime,
) -> Result<Start, PlanError> {
    let mut argv = found.argv.clone();
    let mut why = found.from.clone();
    if let Some(at) = target_position(&argv)
        && matches!(argv[0].as_str(), "tsx" | "ts-node")
        && at == 1
    {
        let helper = argv.remove(0);
        argv.splice(0..0, helper_of(&helper, package).map(str::to_owned));
        why.push_str("; Node runs the file itself, so that signals reach it");
    }
    if let Target::Source(file) = target
        && is_typescript(file)
        && argv.first().is_some_and(|program| program == "node")
        && !loads_helper(&argv)
    {
        let version = &runtime.resolved.version;
        let added = typescript_options(package, version).ok_or_else(|| {
            PlanError::NeedsTypeScriptRunner {
                target: file.clone(),
                node: version.clone(),
            }
        })?;
        why.push_str(added.why);
        argv.splice(1..1, added.words.iter().map(|word| (*word).to_owned()));
    }
    if argv.first().is_some_and(|program| program == "npm") {
        context.warn(
            "the start script needs npm's shell, which may not pass SIGTERM on to the agent; \
             a plain `node …` as scripts.start stops cleanly",
        );
    }
    let mut env = found.env.clone();
    env.entry("NODE_ENV".to_owned())
        .or_insert_with(|| "production".to_owned());
    Ok(Start {
        argv,
        env,
        path: bin_folders(context),
        why,
    })
}

/// Programs of the dependencies: the agent's own, then the workspace's.
fn bin_folders(context: &Context<'_>) -> Vec<String> {
    let mut folders = vec!["node_modules/.bin".to_owned()];
    if context.workspace != context.root {
        let up = relative(&context.root, &context.workspace);
        folders.push(format!("{up}/node_modules/.bin"));
    }
    folders
}

fn helper_of(helper: &str, package: &PackageJson) -> [&'static str; 3] {
    match helper {
        "tsx" => ["node", "--import", "tsx"],
        _ if package.module_type.as_deref() == Some("module") => {
            ["node", "--loader", "ts-node/esm"]
        }
        _ => ["node", "--require", "ts-node/register"],
    }
}

fn loads_helper(argv: &[String]) -> bool {
    argv.iter().any(|word| {
        [
            "tsx",
            "ts-node",
            "strip-types",
            "transform-types",
            "swc",
            "esbuild",
        ]
        .iter()
        .any(|helper| word.contains(helper))
    })
}

struct Added {
    words: &'static [&'static str],
    why: &'static str,
}

/// How this Node runs TypeScript as it is; `None` when it cannot.
fn typescript_options(package: &PackageJson, version: &str) -> Option<Added> {
    if package.depends_on("tsx") {
        return Some(Added {
            words: &["--import", "tsx"],
            why: "; TypeScript runs through the project's own tsx",
        });
    }
    if package.depends_on("ts-node") {
        let esm = package.module_type.as_deref() == Some("module");
        return Some(Added {
            words: if esm {
                &["--loader", "ts-node/esm"]
            } else {
                &["--require", "ts-node/register"]
            },
            why: "; TypeScript runs through the project's own ts-node",
        });
    }
    let version = Version::parse(version).ok()?; // Then it is no Node that is known to do it.
    let number = (version.major, version.minor);
    // 22.18 and 23.6 strip types without being asked, 22.6 when asked.
    if number >= (23, 6) || (number >= (22, 18) && version.major == 22) {
        return Some(Added {
            words: &[],
            why: "; this Node strips the types itself",
        });
    }
    (number >= (22, 6)).then_some(Added {
        words: &["--experimental-strip-types"],
        why: "; this Node strips the types itself when asked",
    })
}

/// Whether the started command itself needs a development dependency, and which: pruning would
/// break it.
pub(in crate::plan) fn development_tool(start: &Start, package: &PackageJson) -> Option<String> {
    let runs_script = start.argv.first().is_some_and(|program| program == "npm");
    let script = package.scripts.get("start").filter(|_| runs_script);
    let words = start.argv.iter().map(String::as_str);
    words
        .chain(script.iter().flat_map(|script| script.split_whitespace()))
        .filter_map(|word| word.split('/').next())
        .find(|name| package.dev_dependencies.contains_key(*name))
        .map(str::to_owned)
}
