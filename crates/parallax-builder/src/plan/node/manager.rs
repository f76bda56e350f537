//! Which package manager: `packageManager` → `devEngines` → yarn's own release → lockfile →
//! `engines` → npm.

use crate::detect::package_json::PackageJson;
use crate::plan::context::Context;
use crate::plan::error::PlanError;
use crate::plan::types::{LoserKind, PackageManager};
use crate::toolchain::{Tool, ToolKind};
use crate::tree::{TreeError, join, relative};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plan) enum ManagerKind {
    Npm,
    Pnpm,
    /// Yarn 1.
    YarnClassic,
    /// Yarn 2 and later.
    YarnBerry,
}

impl ManagerKind {
    fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pnpm => "pnpm",
            Self::YarnClassic | Self::YarnBerry => "yarn",
        }
    }
}

/// The manager, and the words that run it.
pub(in crate::plan) struct Manager {
    pub(in crate::plan) kind: ManagerKind,
    pub(in crate::plan) shown: PackageManager,
    /// `["pnpm"]`, or how npm fetches and runs it.
    pub(in crate::plan) invoke: Vec<String>,
    /// The lockfile it obeys, relative to the source.
    pub(in crate::plan) lockfile: Option<String>,
}

impl Manager {
    pub(in crate::plan) fn command(&self, arguments: &[&str]) -> Vec<String> {
        let mut argv = self.invoke.clone();
        argv.extend(arguments.iter().map(|word| (*word).to_owned()));
        argv
    }
}

struct Choice {
    name: String,
    version: Option<String>,
    why: String,
}

const LOCKFILES: [(&str, &str); 4] = [
    ("pnpm-lock.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("package-lock.json", "npm"),
    ("npm-shrinkwrap.json", "npm"),
];

pub(super) fn choose(
    context: &mut Context<'_>,
    package: &PackageJson,
) -> Result<Manager, PlanError> {
    let locks = lockfiles(context);
    let choice = stated(context, package)?
        .or_else(|| by_lockfile(&locks))
        .or_else(|| by_engines(package))
        .unwrap_or_else(|| Choice {
            name: "npm".to_owned(),
            version: None,
            why: "nothing names another, and npm comes with Node".to_owned(),
        });
    let lockfile = locks.iter().find(|(_, name)| *name == choice.name);
    let lockfile = lockfile.map(|(path, _)| path.clone());
    for (path, name) in locks.iter().filter(|(_, name)| *name != choice.name) {
        let why = format!("{} is used: {}", choice.name, choice.why);
        context.lose(LoserKind::PackageManager, format!("{name} ({path})"), why);
    }
    for file in ["bun.lock", "bun.lockb", "deno.lock"] {
        if context.root_has(file) {
            let why = "this version installs with npm, pnpm or yarn";
            context.lose(LoserKind::PackageManager, file, why);
        }
    }
    let version = match (&choice.version, &lockfile) {
        (Some(version), _) => Some(version.clone()),
        (None, Some(path)) => version_by_lockfile(context, &choice.name, path)?,
        (None, None) => None,
    };
    let kind = kind_of(&choice.name, version.as_deref())?;
    let (invoke, version) = invocation(context, kind, version)?;
    Ok(Manager {
        kind,
        shown: PackageManager {
            name: kind.name().to_owned(),
            version,
            why: choice.why,
        },
        invoke,
        lockfile,
    })
}

/// Lockfiles of the workspace's root, else of the agent's folder.
fn lockfiles(context: &Context<'_>) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    for folder in [&context.workspace, &context.root] {
        for (file, name) in LOCKFILES {
            let path = join(folder, file).expect("a file of a normal folder");
            if context.tree.is_file(&path) && !found.iter().any(|(known, _)| *known == path) {
                found.push((path, name));
            }
        }
    }
    found
}

/// What a manifest says, the workspace's before the agent's own.
fn stated(context: &Context<'_>, package: &PackageJson) -> Result<Option<Choice>, PlanError> {
    let workspace = PackageJson::read(context.tree, &context.workspace)?.unwrap_or_default();
    for package in [&workspace, package] {
        if let Some(stated) = &package.package_manager {
            let (name, version) = stated.split_once('@').unwrap_or((stated, ""));
            // Corepack appends a checksum: `pnpm@9.1.0+sha512.…`.
            let version = version
                .split('+')
                .next()
                .filter(|version| !version.is_empty());
            return Ok(Some(Choice {
                name: name.to_owned(),
                version: version.map(str::to_owned),
                why: format!(
                    "packageManager of package.json is `{name}@{}`",
                    version.unwrap_or("*")
                ),
            }));
        }
        if let [engine, ..] = package.dev_engines.package_manager.as_slice() {
            return Ok(Some(Choice {
                name: engine.name.clone(),
                version: engine.version.clone(),
                why: "devEngines.packageManager of package.json names it".to_owned(),
            }));
        }
    }
    let release = yarn_release(context)?;
    Ok(release.map(|release| Choice {
        name: "yarn".to_owned(),
        version: Some("berry".to_owned()),
        why: format!(".yarnrc.yml brings its own release, {release}"),
    }))
}

fn by_lockfile(locks: &[(String, &'static str)]) -> Option<Choice> {
    let (path, name) = locks.first()?;
    Some(Choice {
        name: (*name).to_owned(),
        version: None,
        why: format!("found {path}"),
    })
}

fn by_engines(package: &PackageJson) -> Option<Choice> {
    let name = ["pnpm", "yarn"]
        .into_iter()
        .find(|name| package.engines.contains_key(*name))?;
    Some(Choice {
        name: name.to_owned(),
        version: None,
        why: format!("engines of package.json names {name}"),
    })
}

fn version_by_lockfile(
    context: &mut Context<'_>,
    name: &str,
    path: &str,
) -> Result<Option<String>, TreeError> {
    let text = context.tree.read(path)?.unwrap_or_else(String::new);
    let value = |key: &str| {
        text.lines()
            .find_map(|line| line.trim_start().strip_prefix(key))
            .map(|value| value.trim().trim_matches(['\'', '"']).to_owned())
    };
    Ok(match name {
        "yarn" => Some(
            if value("__metadata:").is_some() {
                "berry"
            } else {
                "1"
            }
            .to_owned(),
        ),
        "pnpm" => match value("lockfileVersion:").as_deref() {
            Some(version) if version.starts_with("5.") => Some("7".to_owned()),
            Some(version) if version.starts_with("6.") => Some("8".to_owned()),
            _ => {
                context.warn(
                    "pnpm-lock.yaml fits pnpm 9 and later; pnpm 10 is used. Name one in \
                     packageManager of package.json",
                );
                Some("10".to_owned())
            }
        },
        _ => None,
    })
}

fn kind_of(name: &str, version: Option<&str>) -> Result<ManagerKind, PlanError> {
    match name {
        "npm" => Ok(ManagerKind::Npm),
        "pnpm" => Ok(ManagerKind::Pnpm),
        "yarn" if version.is_some_and(|v| v == "1" || v.starts_with("1.")) => {
            Ok(ManagerKind::YarnClassic)
        }
        "yarn" => Ok(ManagerKind::YarnBerry),
        other => Err(PlanError::ToolMissing {
            tool: other.to_owned(),
            why: "package.json names it as the package manager, and only npm, pnpm and yarn are \
                  supported"
                .to_owned(),
        }),
    }
}

/// The newest Yarn that runs on every Node we accept, where the project names none.
const DEFAULT_BERRY: &str = "4";

/// The installed tool when its version fits, else npm fetches the right one.
fn invocation(
    context: &Context<'_>,
    kind: ManagerKind,
    wanted: Option<String>,
) -> Result<(Vec<String>, Option<String>), PlanError> {
    let wanted = match (kind, wanted.as_deref()) {
        (ManagerKind::YarnBerry, None | Some("berry")) => Some(DEFAULT_BERRY.to_owned()),
        _ => wanted,
    };
    let tool_kind = match kind {
        ManagerKind::Npm => ToolKind::Npm,
        ManagerKind::Pnpm => ToolKind::Pnpm,
        ManagerKind::YarnClassic | ManagerKind::YarnBerry => ToolKind::Yarn,
    };
    if kind == ManagerKind::YarnBerry
        && let Some(release) = yarn_release(context)?
    {
        return Ok((vec!["node".to_owned(), release], None));
    }
    let installed = context.toolchain.first(tool_kind);
    let fits = |tool: &&Tool| {
        // npm reads the lockfiles of all its versions since 7.
        kind == ManagerKind::Npm
            || wanted
                .as_deref()
                .is_none_or(|wanted| major(wanted) == major(&tool.version))
    };
    if let Some(tool) = installed.filter(fits) {
        return Ok((vec![kind.name().to_owned()], Some(tool.version.clone())));
    }
    if context.toolchain.first(ToolKind::Npm).is_none() {
        return Err(PlanError::ToolMissing {
            tool: kind.name().to_owned(),
            why: "it installs the dependencies; npm, which could fetch it, is missing too".into(),
        });
    }
    let package = match kind {
        ManagerKind::YarnBerry => "@yarnpkg/cli-dist",
        kind => kind.name(),
    };
    let version = wanted.unwrap_or_else(|| "latest".to_owned());
    let fetch = format!("--package={package}@{version}");
    let argv = ["npm", "exec", "--yes", &fetch, "--", kind.name()];
    Ok((argv.map(str::to_owned).to_vec(), Some(version)))
}

fn major(version: &str) -> &str {
    let digits = version.trim_start_matches(['^', '~', '>', '=', 'v', ' ']);
    digits.split(['.', ' ']).next().unwrap_or(digits)
}

/// `yarnPath` of `.yarnrc.yml`, relative to the agent's folder, when the file is there.
fn yarn_release(context: &Context<'_>) -> Result<Option<String>, TreeError> {
    let config = join(&context.workspace, ".yarnrc.yml").expect("a file of a normal folder");
    let Some(text) = context.tree.read(&config)? else {
        return Ok(None);
    };
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("yarnPath:"))
        .map(|value| value.trim().trim_matches(['"', '\'']))
        .and_then(|value| join(&context.workspace, value))
        .filter(|path| context.tree.is_file(path));
    Ok(path.map(|path| relative(&context.workspace, &path)))
}
