//! Install → build → prune for Node projects.

use std::collections::{BTreeMap, BTreeSet};

use parallax_core::manifest::InstallMode;

use super::context::Context;
use super::error::PlanError;
use super::node::{Manager, ManagerKind, Project, Target, development_tool};
use super::types::{Phase, Start, Step};
use crate::detect::package_json::PackageJson;
use crate::locate::{matches, node_globs};
use crate::tree::join;

pub(super) struct LaidOut {
    pub(super) steps: Vec<Step>,
    pub(super) cache_inputs: Vec<String>,
    pub(super) dependency_dirs: Vec<String>,
}

/// A package of the workspace.
struct Member {
    folder: String,
    package: PackageJson,
}

pub(super) fn lay_out(
    context: &mut Context<'_>,
    project: &Project,
    start: &Start,
) -> Result<LaidOut, PlanError> {
    let members = members_needed(context, &project.package)?;
    let mut steps = Vec::new();
    let builds = build_steps(context, project, &members)?;
    let development = development_tool(start, &project.package);
    let keep_development = !builds.is_empty() || development.is_some();
    if project.has_manifest {
        steps.push(install_step(context, project, &members, keep_development));
    }
    let built = !builds.is_empty();
    steps.extend(builds);
    if built {
        match development {
            Some(tool) => context.warn(format!(
                "development dependencies are kept: the start command needs {tool}, which is one"
            )),
            None => steps.extend(prune_step(context, project)),
        }
    }
    let mut dependency_dirs = Vec::new();
    if project.has_manifest {
        let folders = [&context.workspace, &context.root];
        let folders = folders.into_iter().chain(members.iter().map(|m| &m.folder));
        let unique: BTreeSet<String> = folders
            .filter_map(|folder| join(folder, "node_modules"))
            .collect();
        dependency_dirs.extend(unique);
    }
    let cache_inputs = cache_inputs(context, project, &members);
    let env = context.spec.env.clone();
    for step in &mut steps {
        step.env.extend(env.clone());
    }
    Ok(LaidOut {
        steps,
        cache_inputs,
        dependency_dirs,
    })
}

fn install_step(
    context: &mut Context<'_>,
    project: &Project,
    members: &[Member],
    development: bool,
) -> Step {
    let manager = &project.manager;
    let loose = context.spec.install == InstallMode::Loose;
    let frozen = manager.lockfile.is_some() && !loose;
    if manager.lockfile.is_none() {
        context.warn(format!(
            "there is no lockfile, so two builds may install different versions: \
             run `{} install` and add the lockfile",
            manager.shown.name
        ));
    }
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    match (manager.kind, frozen) {
        (ManagerKind::Npm, true) => add(&["ci"]),
        (ManagerKind::Pnpm | ManagerKind::YarnClassic, true) => {
            add(&["install", "--frozen-lockfile"])
        }
        (ManagerKind::YarnBerry, true) => add(&["install", "--immutable"]),
        (ManagerKind::Pnpm, false) => add(&["install", "--no-frozen-lockfile"]),
        (ManagerKind::YarnBerry, false) => add(&["install", "--no-immutable"]),
        (ManagerKind::Npm | ManagerKind::YarnClassic, false) => add(&["install"]),
    }
    match (manager.kind, development) {
        (ManagerKind::Npm, true) => add(&["--include=dev"]),
        (ManagerKind::Npm, false) => add(&["--omit=dev"]),
        (ManagerKind::Pnpm, false) => add(&["--prod"]),
        (ManagerKind::YarnClassic, false) => add(&["--production"]),
        (ManagerKind::YarnClassic, true) => add(&["--production=false"]),
        (ManagerKind::Pnpm, true) | (ManagerKind::YarnBerry, _) => {}
    }
    if context.workspace != context.root {
        add_filters(manager.kind, context, project, members, &mut arguments);
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let lock = manager.lockfile.as_deref().unwrap_or("");
    let mut why = match (frozen, loose) {
        (true, _) => format!("exactly what {lock} says"),
        (false, true) if !lock.is_empty() => "install = \"loose\" in parallax.toml".to_owned(),
        (false, _) => "there is no lockfile to obey".to_owned(),
    };
    if development {
        why.push_str("; development dependencies are needed to build or to start");
    }
    Step {
        phase: Phase::Install,
        name: "install dependencies".to_owned(),
        argv: manager.command(&words),
        env: quiet(manager),
        cwd: context.workspace.clone(),
        network: true,
        why,
    }
}

/// Only the agent and the members that it needs.
fn add_filters(
    kind: ManagerKind,
    context: &Context<'_>,
    project: &Project,
    members: &[Member],
    arguments: &mut Vec<String>,
) {
    match kind {
        ManagerKind::Npm => {
            let folders = std::iter::once(&context.root).chain(members.iter().map(|m| &m.folder));
            let inside = folders.filter_map(|folder| strip(&context.workspace, folder));
            arguments.extend(inside.map(|folder| format!("--workspace={folder}")));
            arguments.push("--include-workspace-root".to_owned());
        }
        ManagerKind::Pnpm => {
            if let Some(name) = &project.package.name {
                arguments.extend(["--filter".to_owned(), format!("{name}...")]);
            }
        }
        // Yarn installs a workspace as a whole.
        ManagerKind::YarnClassic | ManagerKind::YarnBerry => {}
    }
}

fn strip<'p>(workspace: &str, folder: &'p str) -> Option<&'p str> {
    match workspace {
        "." => Some(folder),
        workspace => folder.strip_prefix(workspace)?.strip_prefix('/'),
    }
}

/// The members' `build` scripts, each after those it needs, then the agent's own.
fn build_steps(
    context: &Context<'_>,
    project: &Project,
    members: &[Member],
) -> Result<Vec<Step>, PlanError> {
    let step = |name: String, argv: Vec<String>, cwd: &str, why: String| Step {
        phase: Phase::Build,
        name,
        argv,
        env: quiet(&project.manager),
        cwd: cwd.to_owned(),
        network: false,
        why,
    };
    let run_build = || {
        vec![
            runner(&project.manager),
            "run".to_owned(),
            "build".to_owned(),
        ]
    };
    let mut steps = Vec::new();
    for member in members {
        if member.package.scripts.contains_key("build") {
            let name = format!("build {}", member.folder);
            let why = "the agent depends on this member of its workspace".to_owned();
            steps.push(step(name, run_build(), &member.folder, why));
        }
    }
    if project.package.scripts.contains_key("build") {
        let why = match &project.target {
            Target::Built(file) => format!("scripts.build of package.json makes {file}"),
            _ => "package.json has scripts.build".to_owned(),
        };
        steps.push(step("build".to_owned(), run_build(), &context.root, why));
    } else if let Target::Built(file) = &project.target {
        let compiles =
            project.package.depends_on("typescript") && context.root_has("tsconfig.json");
        if !compiles {
            return Err(PlanError::StartTargetMissing {
                target: file.clone(),
                from: project.target_from.clone(),
            });
        }
        let argv = [
            "npm",
            "exec",
            "--no",
            "--",
            "tsc",
            "--project",
            "tsconfig.json",
        ];
        let why = format!("{file} is not there, and tsconfig.json says how to compile");
        let argv = argv.map(str::to_owned).to_vec();
        steps.push(step(
            "compile TypeScript".to_owned(),
            argv,
            &context.root,
            why,
        ));
    }
    Ok(steps)
}

/// Scripts run through npm where the manager would first have to be fetched.
fn runner(manager: &Manager) -> String {
    match manager.invoke.as_slice() {
        [only] => only.clone(),
        _ => "npm".to_owned(),
    }
}

fn prune_step(context: &mut Context<'_>, project: &Project) -> Option<Step> {
    let manager = &project.manager;
    if project.package.dev_dependencies.is_empty() {
        return None;
    }
    if context.workspace != context.root && manager.kind != ManagerKind::Npm {
        context.warn(format!(
            "development dependencies are kept: {} cannot remove those of one member",
            manager.shown.name
        ));
        return None;
    }
    let argv = match manager.kind {
        ManagerKind::Npm => manager.command(&["prune", "--omit=dev"]),
        ManagerKind::Pnpm => manager.command(&["prune", "--prod", "--ignore-scripts"]),
        ManagerKind::YarnClassic => manager.command(&[
            "install",
            "--production",
            "--frozen-lockfile",
            "--ignore-scripts",
            "--prefer-offline",
        ]),
        ManagerKind::YarnBerry => manager.command(&["workspaces", "focus", "--production"]),
    };
    Some(Step {
        phase: Phase::Prune,
        name: "remove development dependencies".to_owned(),
        argv,
        env: quiet(manager),
        cwd: context.workspace.clone(),
        network: manager.kind != ManagerKind::Npm || manager.invoke.len() > 1,
        why: "only the build needed them".to_owned(),
    })
}

/// No questions, no notices of new versions, no telemetry.
fn quiet(manager: &Manager) -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = [
        ("CI", "1"),
        ("npm_config_audit", "false"),
        ("npm_config_fund", "false"),
        ("npm_config_update_notifier", "false"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    if manager.kind == ManagerKind::Pnpm {
        // The plan says which pnpm runs. By itself it would fetch another where `packageManager`
        // names another patch: until version 10 by the first of these, from 11 by the second.
        for (key, value) in [
            ("npm_config_manage_package_manager_versions", "false"),
            ("pnpm_config_pm_on_fail", "ignore"),
        ] {
            env.insert(key.to_owned(), value.to_owned());
        }
    }
    if manager.kind == ManagerKind::YarnBerry {
        // Without `node_modules`, `node …` would need Yarn's own loader at run time.
        env.insert("YARN_NODE_LINKER".to_owned(), "node-modules".to_owned());
        env.insert("YARN_ENABLE_TELEMETRY".to_owned(), "0".to_owned());
        env.insert("YARN_ENABLE_GLOBAL_CACHE".to_owned(), "false".to_owned());
    }
    env
}

/// The members that the agent depends on, each after those it needs itself.
fn members_needed(context: &Context<'_>, agent: &PackageJson) -> Result<Vec<Member>, PlanError> {
    if context.workspace == context.root {
        return Ok(Vec::new());
    }
    let mut all = all_members(context)?;
    let mut ordered = Vec::new();
    visit(agent, &mut all, &mut ordered);
    Ok(ordered)
}

/// Depth first; taking a member out before its own dependencies breaks cycles.
fn visit(package: &PackageJson, left: &mut BTreeMap<String, Member>, ordered: &mut Vec<Member>) {
    let names: Vec<String> = package
        .all_dependencies()
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        if let Some(member) = left.remove(&name) {
            visit(&member.package, left, ordered);
            ordered.push(member);
        }
    }
}

/// The workspace's members by name, found by its globs up to three folders deep.
fn all_members(context: &Context<'_>) -> Result<BTreeMap<String, Member>, PlanError> {
    const MAX_DEPTH: usize = 3;
    const MAX_MEMBERS: usize = 1_000;
    let globs = node_globs(context.tree, &context.workspace)?;
    let mut members = BTreeMap::new();
    let mut folders = vec![(context.workspace.clone(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let inside = strip(&context.workspace, &folder).filter(|path| *path != ".");
        if inside.is_some_and(|path| matches(&globs, path))
            && folder != context.root
            && let Some(package) = PackageJson::read(context.tree, &folder)?
            && let Some(name) = package.name.clone()
        {
            members.insert(
                name,
                Member {
                    folder: folder.clone(),
                    package,
                },
            );
        }
        if depth == MAX_DEPTH || members.len() >= MAX_MEMBERS {
            continue;
        }
        for name in context.tree.list(&folder)? {
            let child = join(&folder, &name).expect("a name in a normal folder");
            let skipped = name == "node_modules" || name.starts_with('.');
            if !skipped && context.tree.is_dir(&child) {
                folders.push((child, depth + 1));
            }
        }
    }
    Ok(members)
}

/// What decides the contents of `node_modules`: nothing less than the whole source when scripts of
/// the project itself run while it is filled, or without a lockfile that is obeyed.
fn cache_inputs(context: &Context<'_>, project: &Project, members: &[Member]) -> Vec<String> {
    let packages = || std::iter::once(&project.package).chain(members.iter().map(|m| &m.package));
    let scripted = packages().any(|package| !package.install_scripts().is_empty());
    let frozen = context.spec.install == InstallMode::Frozen;
    let lockfile = project.manager.lockfile.as_ref();
    let Some(lockfile) = lockfile.filter(|_| frozen && !scripted) else {
        return Vec::new();
    };
    let mut inputs: BTreeSet<String> = [lockfile.clone()].into();
    let folders = [&context.workspace, &context.root];
    for folder in folders.into_iter().chain(members.iter().map(|m| &m.folder)) {
        for file in [
            "package.json",
            ".npmrc",
            ".yarnrc",
            ".yarnrc.yml",
            "pnpm-workspace.yaml",
            ".pnpmfile.cjs",
        ] {
            inputs.extend(join(folder, file).filter(|path| context.tree.is_file(path)));
        }
    }
    let local = project
        .package
        .all_dependencies()
        .filter_map(|(_, specifier)| {
            let path = specifier
                .strip_prefix("file:")
                .or_else(|| specifier.strip_prefix("link:"))
                .or_else(|| specifier.strip_prefix("portal:"))?;
            join(&context.root, path)
        });
    inputs.extend(local);
    inputs.into_iter().collect()
}
