//! Python.

use std::collections::BTreeSet;

use super::entry::ENTRY_NAMES;
use super::node::strongest;
use super::pyproject::PyProject;
use super::requirements::dependency_names;
use super::{Offer, StartCommand};
use crate::plan::{Context, PlanError};
use crate::tree::TreeError;

/// Files that make a folder a Python project, from the most telling.
pub(super) const MANIFESTS: [&str; 6] = [
    "pyproject.toml",
    "requirements.txt",
    "Pipfile",
    "uv.lock",
    "poetry.lock",
    "pdm.lock",
];

/// A framework whose own server runs an object that some file defines.
struct Framework {
    /// The normalised name of the dependency.
    package: &'static str,
    /// A second dependency without which it cannot serve.
    needs: Option<&'static str>,
    /// What creates the object: `app = FastAPI(…`.
    constructors: &'static [&'static str],
    /// The module that serves it and its arguments; `{module}` and `{object}` stand for what was found.
    command: &'static [&'static str],
}

const FRAMEWORKS: [Framework; 4] = [
    Framework {
        package: "fastapi",
        needs: Some("uvicorn"),
        constructors: &["FastAPI"],
        command: &["-m", "uvicorn", "{module}:{object}"],
    },
    Framework {
        package: "starlette",
        needs: Some("uvicorn"),
        constructors: &["Starlette"],
        command: &["-m", "uvicorn", "{module}:{object}"],
    },
    Framework {
        package: "flask",
        needs: None,
        constructors: &["Flask"],
        command: &["-m", "flask", "--app", "{module}:{object}", "run"],
    },
    Framework {
        package: "fastmcp",
        needs: None,
        constructors: &["FastMCP"],
        command: &["-m", "fastmcp.cli", "run", "{file}:{object}"],
    },
];

/// Whether the folder is a Python project, and by what.
pub(super) fn evidence(context: &Context<'_>) -> Result<Option<String>, PlanError> {
    let manifest = MANIFESTS.into_iter().find(|file| context.root_has(file));
    if let Some(manifest) = manifest {
        return Ok(Some(manifest.to_owned()));
    }
    Ok(entry_files(context)?.into_iter().next())
}

/// A single console script → the file that defines a framework's app → an entry file.
pub(super) fn offer(context: &Context<'_>) -> Result<Offer, PlanError> {
    let rules = vec![
        console_scripts(context)?,
        frameworks(context)?,
        packages_with_main(context)?,
        files(context)?,
    ];
    Ok(strongest(rules))
}

/// Of several scripts, the one that is called as the project is.
fn console_scripts(context: &Context<'_>) -> Result<Vec<StartCommand>, PlanError> {
    let Some(project) = PyProject::of_root(context)? else {
        return Ok(Vec::new());
    };
    let scripts = project.scripts();
    let same = |script: &str| project.name().map(normal) == Some(normal(script));
    let only_same = scripts.keys().any(|name| same(name));
    let mut commands = Vec::new();
    for (name, target) in &scripts {
        if only_same && !same(name) {
            continue;
        }
        let Some((module, function)) = target.split_once(':') else {
            return Err(PlanError::BadFile {
                path: "pyproject.toml".to_owned(),
                message: format!("the script `{name}` is `{target}`, not `module:function`"),
            });
        };
        let function = function.split('[').next().unwrap_or(function).trim();
        let object = function.split('.').next().unwrap_or(function);
        let code = format!(
            "import sys; from {} import {object}; sys.exit({function}())",
            module.trim()
        );
        let from = format!("the script `{name}` of pyproject.toml");
        commands.push(StartCommand::new(["python", "-c", &code], from));
    }
    Ok(commands)
}

fn normal(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

fn frameworks(context: &Context<'_>) -> Result<Vec<StartCommand>, PlanError> {
    let names = dependency_names(context)?;
    let mut commands = Vec::new();
    for framework in &FRAMEWORKS {
        let served = framework.needs.is_none_or(|needs| names.contains(needs));
        if !names.contains(framework.package) || !served {
            continue;
        }
        for (file, object) in defining_files(context, framework.constructors)? {
            commands.push(framework_command(framework, &file, &object));
        }
        if !commands.is_empty() {
            return Ok(commands);
        }
    }
    commands.extend(agent_frameworks(context, &names)?);
    Ok(commands)
}

/// Frameworks that find the agent themselves.
fn agent_frameworks(
    context: &Context<'_>,
    names: &BTreeSet<String>,
) -> Result<Vec<StartCommand>, TreeError> {
    if context.root_has("langgraph.json") && names.contains("langgraph-cli") {
        let command = ["python", "-m", "langgraph_cli", "dev", "--no-browser"];
        return Ok(vec![StartCommand::new(command, "langgraph.json")]);
    }
    if names.contains("google-adk") {
        for (file, _) in defining_files(context, &["Agent", "LlmAgent"])? {
            if file.ends_with("/agent.py") {
                let command = ["python", "-m", "google.adk.cli", "api_server", "."];
                let from = format!("google-adk and {file}");
                return Ok(vec![StartCommand::new(command, from)]);
            }
        }
    }
    Ok(Vec::new())
}

fn framework_command(framework: &Framework, file: &str, object: &str) -> StartCommand {
    let module = module_of(file);
    let mut argv = vec!["python".to_owned()];
    argv.extend(framework.command.iter().map(|word| {
        word.replace("{module}", &module)
            .replace("{object}", object)
            .replace("{file}", file)
    }));
    StartCommand {
        argv,
        env: std::collections::BTreeMap::new(),
        from: format!("{} and `{object}` in {file}", framework.package),
    }
}

/// `src/x/app.py` is `x.app`: `src` is put on the module path.
fn module_of(file: &str) -> String {
    let path = file.strip_prefix("src/").unwrap_or(file);
    let path = path.strip_suffix(".py").unwrap_or(path);
    path.replace('/', ".")
        .trim_end_matches(".__init__")
        .to_owned()
}

/// The files, up to one package deep, with a line `object = Constructor(`.
fn defining_files(
    context: &Context<'_>,
    constructors: &[&str],
) -> Result<Vec<(String, String)>, TreeError> {
    let mut found = Vec::new();
    for file in python_files(context)? {
        let Some(text) = context.read_root(&file)? else {
            continue;
        };
        let object = text
            .lines()
            .find_map(|line| defined_object(line, constructors));
        found.extend(object.map(|object| (file.clone(), object)));
    }
    Ok(found)
}

/// `app` of `app: FastAPI = fastapi.FastAPI(title="x")`, at the line's beginning.
fn defined_object(line: &str, constructors: &[&str]) -> Option<String> {
    let (left, right) = line.split_once('=')?;
    let object = left.split(':').next()?.trim_end();
    let plain = !object.is_empty() && object.chars().all(|c| c.is_alphanumeric() || c == '_');
    let (called, _) = right.trim_start().split_once('(')?;
    let called = called.rsplit('.').next()?.trim();
    (plain && constructors.contains(&called)).then(|| object.to_owned())
}

/// Python files of the folder, of `src/`, and of the packages in both.
fn python_files(context: &Context<'_>) -> Result<Vec<String>, TreeError> {
    /// A project with more is told by its manifest, or asked for its start command.
    const MAX_FILES: usize = 500;
    let mut files = Vec::new();
    let mut folders = vec![String::new()];
    folders.extend(
        packages(context)?
            .into_iter()
            .map(|package| format!("{package}/")),
    );
    if context.root_has_dir("src") {
        folders.push("src/".to_owned());
    }
    for folder in folders {
        for name in list(context, &folder)? {
            if name.ends_with(".py") && files.len() < MAX_FILES {
                files.push(format!("{folder}{name}"));
            }
        }
    }
    Ok(files)
}

/// Folders with Python modules, in the folder and in `src/`; not tests.
fn packages(context: &Context<'_>) -> Result<Vec<String>, TreeError> {
    let mut packages = Vec::new();
    for parent in ["", "src/"] {
        for name in list(context, parent)? {
            let folder = format!("{parent}{name}");
            let skipped = [
                "test", "tests", "docs", "vendor", "examples", "scripts", "src",
            ];
            let is_module = name.chars().all(|c| c.is_alphanumeric() || c == '_');
            if !skipped.contains(&name.as_str()) && is_module && context.root_has_dir(&folder) {
                packages.push(folder);
            }
        }
    }
    Ok(packages)
}

/// `python -m package` for the packages that are made for it.
fn packages_with_main(context: &Context<'_>) -> Result<Vec<StartCommand>, PlanError> {
    let mut commands = Vec::new();
    for package in packages(context)? {
        let file = format!("{package}/__main__.py");
        if context.root_has(&file) {
            let module = package.strip_prefix("src/").unwrap_or(&package);
            commands.push(StartCommand::new(["python", "-m", module], file));
        }
    }
    Ok(commands)
}

/// Entry files; of several, those that are guarded with `if __name__ == "__main__"`.
fn files(context: &Context<'_>) -> Result<Vec<StartCommand>, PlanError> {
    let mut entries = entry_files(context)?;
    if entries.len() > 1 {
        let mut guarded = Vec::new();
        for entry in &entries {
            if context
                .read_root(entry)?
                .is_some_and(|text| is_guarded(&text))
            {
                guarded.push(entry.clone());
            }
        }
        if !guarded.is_empty() {
            entries = guarded;
        }
    }
    Ok(entries
        .iter()
        .map(|file| StartCommand::new(["python", file], "an entry file"))
        .collect())
}

fn is_guarded(text: &str) -> bool {
    text.lines().any(|line| {
        line.strip_prefix("if ")
            .is_some_and(|test| test.contains("__name__") && test.contains("__main__"))
    })
}

fn entry_files(context: &Context<'_>) -> Result<Vec<String>, TreeError> {
    for folder in ["", "src/"] {
        let files: Vec<String> = ENTRY_NAMES
            .iter()
            .filter(|name| **name != "index")
            .map(|name| format!("{folder}{name}.py"))
            .filter(|file| context.root_has(file))
            .collect();
        if !files.is_empty() {
            return Ok(files);
        }
    }
    Ok(Vec::new())
}

fn list(context: &Context<'_>, folder: &str) -> Result<Vec<String>, TreeError> {
    let Some(path) = context.at_root(folder) else {
        return Ok(Vec::new());
    };
    context.tree.list(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_objects_are_found_where_they_are_made() {
        let found = |line| defined_object(line, &["FastAPI"]);
        assert_eq!(found("app = FastAPI()").as_deref(), Some("app"));
        assert_eq!(
            found("api: FastAPI = fastapi.FastAPI(title='x')").as_deref(),
            Some("api")
        );
        assert_eq!(found("    app = FastAPI()"), None);
        assert_eq!(found("# app = FastAPI()"), None);
        assert_eq!(found("app = MyFastAPI()"), None);
        assert_eq!(found("if x == FastAPI("), None);
        assert_eq!(module_of("src/pkg/app.py"), "pkg.app");
    }
}
