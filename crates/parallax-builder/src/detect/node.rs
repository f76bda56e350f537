//! TypeScript and JavaScript.

use parallax_core::manifest::{Language, split_words};

use super::entry::{ENTRY_NAMES, split_assignments};
use super::package_json::PackageJson;
use super::{Offer, StartCommand};
use crate::plan::{Context, PlanError};

/// Endings of files that Node starts, or starts with a helper.
const ENDINGS: [&str; 6] = ["js", "mjs", "cjs", "ts", "mts", "cts"];

/// Whether the folder is a Node project, of which language, and by what.
pub(super) fn evidence(context: &Context<'_>) -> Result<Option<(Language, String)>, PlanError> {
    let package = PackageJson::of_root(context)?;
    let entries = entry_files(context);
    let manifest = if package.is_some() {
        "package.json".to_owned()
    } else if let Some(entry) = entries.first() {
        entry.clone()
    } else {
        return Ok(None);
    };
    let package = package.unwrap_or_default();
    let starts_ts = package
        .scripts
        .get("start")
        .is_some_and(|start| start.split_whitespace().any(is_typescript));
    let (language, sign) = if context.root_has("tsconfig.json") {
        (Language::TypeScript, Some("tsconfig.json"))
    } else if package.depends_on("typescript") {
        (Language::TypeScript, Some("the dependency typescript"))
    } else if starts_ts || entries.iter().any(|entry| is_typescript(entry)) {
        (Language::TypeScript, Some("a .ts file to start"))
    } else {
        (Language::JavaScript, None)
    };
    let evidence = match sign {
        Some(sign) if manifest != sign => format!("{manifest} and {sign}"),
        _ => manifest,
    };
    Ok(Some((language, evidence)))
}

pub(crate) fn is_typescript(path: &str) -> bool {
    [".ts", ".mts", ".cts"]
        .iter()
        .any(|end| path.ends_with(end))
        && !path.ends_with(".d.ts")
}

/// `scripts.start` → `main` → an entry file.
pub(super) fn offer(context: &Context<'_>) -> Result<Offer, PlanError> {
    let package = PackageJson::of_root(context)?.unwrap_or_default();
    let mut rules: Vec<Vec<StartCommand>> = Vec::new();
    if let Some(script) = package.scripts.get("start") {
        rules.push(vec![from_script(&package, script)]);
    }
    let main = package.main.as_deref().filter(|main| {
        let exists = context.root_has(main) || context.root_has(&format!("{main}.js"));
        // Without the file, only a build could make it; `npm init` writes `index.js` unasked.
        exists || (package.scripts.contains_key("build") && *main != "index.js")
    });
    if let Some(main) = main {
        rules.push(vec![StartCommand::new(
            ["node", main],
            "main of package.json",
        )]);
    }
    let files: Vec<StartCommand> = entry_files(context)
        .iter()
        .map(|file| StartCommand::new(["node", file], "an entry file"))
        .collect();
    // `index` is Node's own default, so it needs no tie-break.
    let index = files.iter().position(|f| f.argv[1].starts_with("index."));
    match index {
        Some(at) => rules.push(vec![files[at].clone()]),
        None if !files.is_empty() => rules.push(files),
        None => {}
    }
    Ok(strongest(rules))
}

/// The first rule wins; the commands of the others lose to it.
pub(super) fn strongest(rules: Vec<Vec<StartCommand>>) -> Offer {
    let mut rules = rules.into_iter().filter(|commands| !commands.is_empty());
    let Some(commands) = rules.next() else {
        return Offer::default();
    };
    let outranked = rules
        .flatten()
        .filter(|command| commands.iter().all(|winner| winner.argv != command.argv))
        .map(|command| (command.shown(), format!("{} comes first", commands[0].from)))
        .collect();
    Offer {
        commands,
        outranked,
    }
}

/// A plain command is executed itself: npm does not forward SIGTERM to what it runs.
fn from_script(package: &PackageJson, script: &str) -> StartCommand {
    let from = "scripts.start of package.json";
    let has_hooks = ["prestart", "poststart"]
        .iter()
        .any(|hook| package.scripts.contains_key(*hook));
    let plain = split_words(script).ok().filter(|_| !has_hooks); // Otherwise npm's shell runs it.
    match plain.map(split_assignments) {
        Some((env, argv)) if !argv.is_empty() => StartCommand {
            argv,
            env,
            from: from.to_owned(),
        },
        _ => StartCommand::new(["npm", "run", "--silent", "start"], from),
    }
}

/// Entry files of the folder and of `src/`, from the clearest name.
fn entry_files(context: &Context<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for folder in ["", "src/"] {
        for name in ENTRY_NAMES.iter().rev() {
            let files = ENDINGS.iter().map(|end| format!("{folder}{name}.{end}"));
            found.extend(files.filter(|file| context.root_has(file)));
        }
        if !found.is_empty() {
            break;
        }
    }
    found
}
