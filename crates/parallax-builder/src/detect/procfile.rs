//! A `Procfile` names processes and their commands.

use parallax_core::manifest::split_words;

use super::StartCommand;
use super::entry::split_assignments;
use crate::plan::{Context, LoserKind, PlanError};

/// Which process is the agent, from the clearest name; a single one needs no such name.
const NAMES: [&str; 4] = ["agent", "worker", "web", "main"];

pub(super) fn start(context: &mut Context<'_>) -> Result<Option<StartCommand>, PlanError> {
    let Some(text) = context.read_root("Procfile")? else {
        return Ok(None);
    };
    let mut processes: Vec<(String, String)> = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .filter_map(|line| line.split_once(':'))
        .map(|(name, command)| (name.trim().to_owned(), command.trim().to_owned()))
        .filter(|(name, command)| !name.is_empty() && !command.is_empty() && name != "release")
        .collect();
    let named = NAMES
        .iter()
        .find_map(|name| processes.iter().position(|(process, _)| process == name));
    let at = match (named, processes.len()) {
        (Some(at), _) => at,
        (None, 0) => return Ok(None),
        (None, 1) => 0,
        (None, _) => {
            return Err(PlanError::StartCommandMissing {
                candidates: processes
                    .iter()
                    .map(|(name, command)| format!("`{command}` ({name} in Procfile)"))
                    .collect(),
                hint: format!("start = \"{}\"", processes[0].1),
            });
        }
    };
    let (name, command) = processes.remove(at);
    for (other, command) in processes {
        let why = format!("the Procfile's `{name}` is taken for the agent");
        context.lose(
            LoserKind::Start,
            format!("`{command}` ({other} in Procfile)"),
            why,
        );
    }
    let from = format!("{name} in Procfile");
    let words = split_words(&command).map_err(|error| PlanError::BadFile {
        path: "Procfile".to_owned(),
        message: format!("{name}: {error}"),
    })?;
    let (env, argv) = split_assignments(words);
    Ok(Some(StartCommand { argv, env, from }))
}
