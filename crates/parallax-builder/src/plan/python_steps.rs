//! Tool and steps for Python projects: a virtual environment in `.venv`, then the dependencies.

use std::collections::{BTreeMap, BTreeSet};

use parallax_core::manifest::InstallMode;

use super::context::Context;
use super::error::PlanError;
use super::python::VENV_PYTHON;
use super::types::{LoserKind, PackageManager, Phase, Step};
use crate::detect::pyproject::PyProject;
use crate::detect::requirements::Requirements;
use crate::toolchain::ToolKind;
use crate::tree::{join, relative};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ManagerKind {
    /// `uv.lock`, or a project that is uv's by its settings.
    Uv,
    Poetry,
    Pdm,
    Pipenv,
    /// `requirements.txt`
    Requirements,
    /// A bare `pyproject.toml`.
    Project,
    /// Python files alone.
    Nothing,
}

pub(super) struct Manager {
    kind: ManagerKind,
    pub(super) shown: PackageManager,
    /// uv is on the machine.
    has_uv: bool,
}

impl Manager {
    /// pip installs something: the dependencies, or the tool that will.
    pub(super) fn needs_pip(&self) -> bool {
        match self.kind {
            ManagerKind::Nothing => false,
            ManagerKind::Uv | ManagerKind::Requirements | ManagerKind::Project => !self.has_uv,
            ManagerKind::Poetry | ManagerKind::Pdm | ManagerKind::Pipenv => true,
        }
    }
}

pub(super) struct LaidOut {
    pub(super) steps: Vec<Step>,
    pub(super) cache_inputs: Vec<String>,
    pub(super) dependency_dirs: Vec<String>,
}

/// A lockfile beats requirements, which beat a bare project.
pub(super) fn choose_manager(context: &mut Context<'_>) -> Result<Manager, PlanError> {
    let uv = context.toolchain.first(ToolKind::Uv);
    let project = PyProject::of_root(context)?.unwrap_or_default();
    let at_workspace = join(&context.workspace, "uv.lock").expect("a file of a normal folder");
    let has_uv_lock = context.tree.is_file(&at_workspace) || context.root_has("uv.lock");
    let has_project = context.root_has("pyproject.toml");
    let candidates = [
        (has_uv_lock, ManagerKind::Uv, "uv.lock"),
        (
            context.root_has("poetry.lock"),
            ManagerKind::Poetry,
            "poetry.lock",
        ),
        (context.root_has("pdm.lock"), ManagerKind::Pdm, "pdm.lock"),
        (context.root_has("Pipfile"), ManagerKind::Pipenv, "Pipfile"),
        (
            context.root_has("requirements.txt"),
            ManagerKind::Requirements,
            "requirements.txt",
        ),
        (
            project.tool.uv.is_some(),
            ManagerKind::Uv,
            "[tool.uv] in pyproject.toml",
        ),
        (
            project.tool.poetry.is_some() && project.project.is_none(),
            ManagerKind::Poetry,
            "[tool.poetry] in pyproject.toml",
        ),
        (
            project.tool.pdm.is_some(),
            ManagerKind::Pdm,
            "[tool.pdm] in pyproject.toml",
        ),
        (has_project, ManagerKind::Project, "pyproject.toml"),
        (true, ManagerKind::Nothing, "no manifest"),
    ];
    let mut present = candidates.into_iter().filter(|(present, ..)| *present);
    let (_, kind, sign) = present.next().expect("the last one is always present");
    let losers: Vec<&str> = present
        .filter(|(_, other, _)| !matches!(other, ManagerKind::Nothing) && *other != kind)
        .map(|(_, _, sign)| sign)
        .collect();
    for loser in losers {
        context.lose(
            LoserKind::PackageManager,
            loser,
            format!("{sign} comes first"),
        );
    }
    let (name, how) = tool_of(kind, uv.is_some());
    Ok(Manager {
        kind,
        shown: PackageManager {
            name: name.to_owned(),
            version: uv.filter(|_| name == "uv").map(|tool| tool.version.clone()),
            why: format!("found {sign}{how}"),
        },
        has_uv: uv.is_some(),
    })
}

/// The program that installs, and how it comes here.
fn tool_of(kind: ManagerKind, has_uv: bool) -> (&'static str, &'static str) {
    let name = match kind {
        ManagerKind::Uv => "uv",
        ManagerKind::Poetry => "poetry",
        ManagerKind::Pdm => "pdm",
        ManagerKind::Pipenv => "pipenv",
        _ if has_uv => "uv",
        _ => "pip",
    };
    let how = match kind {
        ManagerKind::Nothing => "; nothing is installed",
        ManagerKind::Poetry | ManagerKind::Pdm | ManagerKind::Pipenv => "; pip fetches the tool",
        _ if has_uv => "; uv is on this host",
        ManagerKind::Uv => "; pip fetches uv, which is not on this host",
        _ => "; uv is not on this host",
    };
    (name, how)
}

pub(super) fn lay_out(context: &mut Context<'_>, manager: &Manager) -> Result<LaidOut, PlanError> {
    let mut builder = Builder {
        steps: Vec::new(),
        inputs: Some(BTreeSet::new()),
        has_uv: manager.has_uv,
        root: context.root.clone(),
    };
    match manager.kind {
        ManagerKind::Uv => builder.uv(context)?,
        ManagerKind::Poetry => builder.poetry(context)?,
        ManagerKind::Pdm => builder.pdm(context),
        ManagerKind::Pipenv => builder.pipenv(context),
        ManagerKind::Requirements => builder.requirements(context)?,
        ManagerKind::Project => builder.project(context)?,
        ManagerKind::Nothing => builder.environment(false),
    }
    for step in &mut builder.steps {
        step.env.extend(context.spec.env.clone());
    }
    let venv = join(&context.root, ".venv").expect("a name in a normal folder");
    Ok(LaidOut {
        steps: builder.steps,
        cache_inputs: builder.inputs.unwrap_or_default().into_iter().collect(),
        dependency_dirs: vec![venv],
    })
}

struct Builder {
    steps: Vec<Step>,
    /// `None` once something makes the environment depend on more than a few files.
    inputs: Option<BTreeSet<String>>,
    has_uv: bool,
    root: String,
}

/// The folder for tools that only the build needs, relative to the agent's.
const TOOLS: &str = ".parallax/tools";

impl Builder {
    fn step(&mut self, phase: Phase, name: &str, argv: &[&str], why: &str) -> &mut Step {
        self.steps.push(Step {
            phase,
            name: name.to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            env: quiet(),
            cwd: self.root.clone(),
            network: false,
            why: why.to_owned(),
        });
        self.steps.last_mut().expect("one was pushed")
    }

    /// `.venv`, with pip in it only where pip fills it.
    fn environment(&mut self, with_pip: bool) {
        let why = "the agent's own environment, made with the chosen interpreter";
        let argv: &[&str] = if with_pip {
            &["python", "-m", "venv", ".venv"]
        } else {
            &["python", "-m", "venv", "--without-pip", ".venv"]
        };
        self.step(Phase::Install, "create the environment", argv, why);
    }

    /// Puts a tool into an environment of its own, apart from the agent's.
    fn tool(&mut self, package: &str) {
        let why = format!("{package} is not on this host");
        let argv = ["python", "-m", "venv", TOOLS];
        self.step(Phase::Tools, "create an environment for tools", &argv, &why);
        let python = format!("{TOOLS}/bin/python");
        // PDM offers the dependencies that it was tested with, and breaks with newer ones of some.
        let requirement = match package {
            "pdm" => "pdm[locked]",
            package => package,
        };
        let argv = [python.as_str(), "-m", "pip", "install", requirement];
        self.step(Phase::Tools, &format!("fetch {package}"), &argv, &why)
            .network = true;
    }

    fn input(&mut self, context: &Context<'_>, path: &str) {
        let exists = context.tree.is_file(path) || context.tree.is_dir(path);
        if let Some(inputs) = self.inputs.as_mut().filter(|_| exists) {
            inputs.insert(path.to_owned());
        }
    }

    fn root_inputs(&mut self, context: &Context<'_>, files: &[&str]) {
        for file in files {
            let path = join(&self.root, file).expect("a file of a normal folder");
            self.input(context, &path);
        }
    }

    fn uv(&mut self, context: &mut Context<'_>) -> Result<(), PlanError> {
        let project = PyProject::of_root(context)?.unwrap_or_default();
        let lock_in_root = context.root_has("uv.lock");
        let lock_folder = if lock_in_root {
            &context.root
        } else {
            &context.workspace
        }
        .clone();
        let lock = join(&lock_folder, "uv.lock").expect("a file of a normal folder");
        let locked = context.tree.is_file(&lock);
        let frozen = locked && context.spec.install == InstallMode::Frozen;
        if !locked {
            context.warn("there is no uv.lock, so two builds may install different versions");
        }
        let uv = if self.has_uv {
            "uv".to_owned()
        } else {
            self.tool("uv");
            let tool = format!("{TOOLS}/bin/uv");
            let here = join(&self.root, &tool).expect("a path below a normal folder");
            relative(&lock_folder, &here)
        };
        self.environment(false);
        let mut argv = vec![uv.as_str(), "sync", "--no-dev", "--no-editable"];
        argv.extend(frozen.then_some("--frozen"));
        let member = project
            .name()
            .filter(|_| lock_folder != context.root)
            .map(str::to_owned);
        if let Some(member) = &member {
            argv.extend(["--package", member]);
        }
        let venv = join(&self.root, ".venv").expect("a name in a normal folder");
        let venv = relative(&lock_folder, &venv);
        let mut sync = |name: &str, argv: &[&str], why: &str| {
            let step = self.step(Phase::Install, name, argv, why);
            step.network = true;
            step.cwd.clone_from(&lock_folder);
            step.env
                .insert("UV_PROJECT_ENVIRONMENT".to_owned(), venv.clone());
        };
        let why = if frozen {
            "exactly what uv.lock says"
        } else {
            "no lockfile is obeyed"
        };
        let mut dependencies = argv.clone();
        dependencies.push("--no-install-project");
        sync("install dependencies", &dependencies, why);
        if project.build_system.is_some() {
            sync(
                "install the project",
                &argv,
                "pyproject.toml says how it is built",
            );
            // The environment now holds the source itself.
            self.inputs = None;
        }
        if !frozen || lock_folder != context.root {
            self.inputs = None;
        }
        self.root_inputs(context, &["uv.lock", "pyproject.toml", "uv.toml"]);
        self.local_inputs(context, &project);
        Ok(())
    }

    /// Folders that dependencies are copied from count with all that is in them.
    fn local_inputs(&mut self, context: &Context<'_>, project: &PyProject) {
        for path in project.path_dependencies() {
            match join(&self.root, &path) {
                Some(path) => self.input(context, &path),
                None => self.inputs = None,
            }
        }
    }

    fn poetry(&mut self, context: &mut Context<'_>) -> Result<(), PlanError> {
        let locked = context.root_has("poetry.lock");
        self.tool("poetry");
        self.environment(false);
        if !locked {
            context.warn("there is no poetry.lock, so two builds may install different versions");
            self.inputs = None;
        }
        let poetry = format!("{TOOLS}/bin/poetry");
        let argv = [
            &poetry,
            "install",
            "--only",
            "main",
            "--no-root",
            "--no-interaction",
        ];
        let why = if locked {
            "exactly what poetry.lock says"
        } else {
            "no lockfile to obey"
        };
        let step = self.step(Phase::Install, "install dependencies", &argv, why);
        step.network = true;
        step.env.insert(
            "POETRY_VIRTUALENVS_IN_PROJECT".to_owned(),
            "true".to_owned(),
        );
        step.env.insert(
            "POETRY_VIRTUALENVS_OPTIONS_NO_PIP".to_owned(),
            "true".to_owned(),
        );
        self.root_inputs(context, &["poetry.lock", "pyproject.toml", "poetry.toml"]);
        let project = PyProject::of_root(context)?.unwrap_or_default();
        self.local_inputs(context, &project);
        Ok(())
    }

    fn pdm(&mut self, context: &mut Context<'_>) {
        let locked = context.root_has("pdm.lock");
        self.tool("pdm");
        self.environment(false);
        let pdm = format!("{TOOLS}/bin/pdm");
        let frozen: &[&str] = &[&pdm, "sync", "--prod", "--no-self", "--no-editable"];
        let fresh: &[&str] = &[&pdm, "install", "--prod", "--no-self", "--no-editable"];
        let (argv, why) = if locked {
            (frozen, "exactly what pdm.lock says")
        } else {
            context.warn("there is no pdm.lock, so two builds may install different versions");
            self.inputs = None;
            (fresh, "no lockfile to obey")
        };
        let step = self.step(Phase::Install, "install dependencies", argv, why);
        step.network = true;
        step.env
            .insert("PDM_CHECK_UPDATE".to_owned(), "0".to_owned());
        step.env
            .insert("PDM_NON_INTERACTIVE".to_owned(), "1".to_owned());
        self.root_inputs(context, &["pdm.lock", "pyproject.toml", "pdm.toml"]);
    }

    fn pipenv(&mut self, context: &mut Context<'_>) {
        let locked = context.root_has("Pipfile.lock");
        self.tool("pipenv");
        self.environment(true);
        let pipenv = format!("{TOOLS}/bin/pipenv");
        let (argv, why): (&[&str], &str) = if locked {
            (&[&pipenv, "sync"], "exactly what Pipfile.lock says")
        } else {
            context.warn("there is no Pipfile.lock, so two builds may install different versions");
            self.inputs = None;
            (&[&pipenv, "install", "--skip-lock"], "no lockfile to obey")
        };
        let step = self.step(Phase::Install, "install dependencies", argv, why);
        step.network = true;
        for (key, value) in [
            ("PIPENV_VENV_IN_PROJECT", "1"),
            ("PIPENV_IGNORE_VIRTUALENVS", "1"),
            ("PIPENV_NOSPIN", "1"),
            ("PIPENV_YES", "1"),
        ] {
            step.env.insert(key.to_owned(), value.to_owned());
        }
        self.root_inputs(context, &["Pipfile", "Pipfile.lock"]);
    }

    fn requirements(&mut self, context: &mut Context<'_>) -> Result<(), PlanError> {
        self.environment(!self.has_uv);
        self.pip_install(&["-r", "requirements.txt"], "requirements.txt lists them");
        let file = join(&self.root, "requirements.txt").expect("a file of a normal folder");
        if let Some(requirements) = Requirements::read(context, &file)? {
            for path in requirements.files.iter().chain(&requirements.local) {
                self.input(context, path);
            }
            // `-e .` makes the environment depend on the whole source.
            if requirements.local.contains(&self.root) {
                self.inputs = None;
            }
        }
        Ok(())
    }

    fn project(&mut self, context: &mut Context<'_>) -> Result<(), PlanError> {
        let project = PyProject::of_root(context)?.unwrap_or_default();
        if project.build_system.is_some() {
            self.environment(!self.has_uv);
            self.pip_install(&["."], "pyproject.toml says how the project is built");
            self.inputs = None;
            return Ok(());
        }
        let listed = project
            .project
            .map(|project| project.dependencies)
            .unwrap_or_default();
        self.environment(!self.has_uv && !listed.is_empty());
        if !listed.is_empty() {
            let words: Vec<&str> = listed.iter().map(String::as_str).collect();
            let why = "pyproject.toml lists them and does not say how to build the project itself";
            self.pip_install(&words, why);
            context.warn("there is no lockfile, so two builds may install different versions");
        }
        self.root_inputs(context, &["pyproject.toml"]);
        Ok(())
    }

    fn pip_install(&mut self, what: &[&str], why: &str) {
        let mut argv: Vec<&str> = if self.has_uv {
            vec!["uv", "pip", "install", "--python", VENV_PYTHON]
        } else {
            vec![VENV_PYTHON, "-m", "pip", "install"]
        };
        argv.extend(what);
        self.step(Phase::Install, "install dependencies", &argv, why)
            .network = true;
    }
}

/// No questions, no notices of new versions, and never an interpreter from the network.
fn quiet() -> BTreeMap<String, String> {
    [
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PIP_NO_INPUT", "1"),
        ("UV_LINK_MODE", "copy"),
        ("UV_NO_PROGRESS", "1"),
        ("UV_PYTHON_DOWNLOADS", "never"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}
