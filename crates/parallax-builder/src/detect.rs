//! What the agent is written in, and what would start it.

mod entry;
pub(crate) mod node;
pub(crate) mod package_json;
mod procfile;
pub(crate) mod pyproject;
pub(crate) mod python;
pub(crate) mod requirements;

use std::collections::BTreeMap;

use parallax_core::manifest::{Language, split_words};

use crate::plan::{Context, LoserKind, PlanError};

/// A command that would start the agent, before it is fitted to the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StartCommand {
    pub(crate) argv: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    /// Where it was found: ``scripts.start of package.json``.
    pub(crate) from: String,
}

impl StartCommand {
    fn new<const N: usize>(argv: [&str; N], from: impl Into<String>) -> Self {
        Self {
            argv: argv.map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            from: from.into(),
        }
    }

    /// For messages: the command and where it was found.
    fn shown(&self) -> String {
        format!("`{}` ({})", self.argv.join(" "), self.from)
    }
}

/// The commands one language offers: those of the strongest rule that found any.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    /// One when the rule is satisfied, several when a person must choose.
    pub(crate) commands: Vec<StartCommand>,
    /// What weaker rules found, and why each lost.
    pub(crate) outranked: Vec<(String, String)>,
}

/// What was detected.
#[derive(Debug)]
pub(crate) struct Detected {
    pub(crate) language: Language,
    pub(crate) why: String,
    pub(crate) start: StartCommand,
}

/// A language that is present in the folder.
struct Present {
    language: Language,
    evidence: String,
    /// Found by a manifest, not by a source file alone.
    by_manifest: bool,
    offer: Offer,
}

/// The manifests and sources that say which languages are there.
const LOOKED_FOR: &str = "package.json, pyproject.toml, requirements.txt, Pipfile, uv.lock, *.py, \
                          *.ts, *.js, Cargo.toml, go.mod";

pub(crate) fn detect(context: &mut Context<'_>) -> Result<Detected, PlanError> {
    let explicit = explicit_start(context)?;
    let present = present_languages(context)?;
    if context.root_has("Dockerfile") {
        context
            .warn("the Dockerfile is not used: agents are built from their manifests on this host");
    }
    let (present, language, why) = choose_language(context, present, explicit.as_ref())?;
    if matches!(language, Language::Rust | Language::Go) {
        return Err(PlanError::LanguageUnsupported { language, why });
    }
    let start = match explicit {
        Some(start) => {
            for command in present.iter().flat_map(|p| &p.offer.commands) {
                let why = format!("{} wins over what is detected", start.from);
                context.lose(LoserKind::Start, command.shown(), why);
            }
            start
        }
        None => only_command(context, present, language)?,
    };
    Ok(Detected {
        language,
        why,
        start,
    })
}

/// The manifest's command, or the Procfile's.
fn explicit_start(context: &mut Context<'_>) -> Result<Option<StartCommand>, PlanError> {
    if let Some(argv) = &context.spec.start {
        return Ok(Some(StartCommand {
            argv: argv.clone(),
            env: BTreeMap::new(),
            from: "start in parallax.toml".to_owned(),
        }));
    }
    procfile::start(context)
}

fn present_languages(context: &Context<'_>) -> Result<Vec<Present>, PlanError> {
    let mut present = Vec::new();
    if let Some((language, evidence)) = node::evidence(context)? {
        present.push(Present {
            language,
            by_manifest: context.root_has("package.json"),
            evidence,
            offer: node::offer(context)?,
        });
    }
    if let Some(evidence) = python::evidence(context)? {
        present.push(Present {
            language: Language::Python,
            by_manifest: python::MANIFESTS.contains(&evidence.as_str()),
            evidence,
            offer: python::offer(context)?,
        });
    }
    for (language, file) in [(Language::Rust, "Cargo.toml"), (Language::Go, "go.mod")] {
        if context.root_has(file) {
            present.push(Present {
                language,
                evidence: file.to_owned(),
                by_manifest: true,
                offer: Offer::default(),
            });
        }
    }
    Ok(present)
}

/// The manifest's word, or the only one there, or the one where the start target lives.
fn choose_language(
    context: &mut Context<'_>,
    mut present: Vec<Present>,
    explicit: Option<&StartCommand>,
) -> Result<(Option<Present>, Language, String), PlanError> {
    if let Some(language) = context.spec.language {
        let at = present
            .iter()
            .position(|p| same_family(p.language, language));
        let winner = at.map(|at| present.remove(at));
        let why = "parallax.toml says so".to_owned();
        lose_languages(context, &present, "parallax.toml names another language");
        return Ok((winner, language, why));
    }
    let by_target = explicit.and_then(|start| family_of(&start.argv).map(|family| (family, start)));
    if let Some((family, start)) = by_target {
        let at = present.iter().position(|p| same_family(p.language, family));
        let winner = at.map(|at| present.remove(at));
        let language = winner.as_ref().map_or(family, |winner| winner.language);
        let why = format!("{} runs `{}`", start.from, start.argv.join(" "));
        lose_languages(
            context,
            &present,
            "the start command is of another language",
        );
        return Ok((winner, language, why));
    }
    // A stray script beside a manifest does not make the project another language's.
    if present.iter().any(|present| present.by_manifest) {
        let (kept, strays): (Vec<_>, Vec<_>) = present.into_iter().partition(|p| p.by_manifest);
        lose_languages(
            context,
            &strays,
            "it has no manifest, and another language has one",
        );
        present = kept;
    }
    if present.len() > 1 {
        return by_offer(context, present);
    }
    let Some(only) = present.pop() else {
        return Err(PlanError::LanguageUnknown {
            root: context.root.clone(),
            looked_for: LOOKED_FOR.to_owned(),
        });
    };
    let (language, why) = (only.language, format!("found {}", only.evidence));
    Ok((Some(only), language, why))
}

/// Several languages: the one that has something to start.
fn by_offer(
    context: &mut Context<'_>,
    present: Vec<Present>,
) -> Result<(Option<Present>, Language, String), PlanError> {
    let (mut startable, rest): (Vec<_>, Vec<_>) = present
        .into_iter()
        .partition(|present| !present.offer.commands.is_empty());
    if startable.len() > 1 {
        return Err(PlanError::LanguageAmbiguous {
            candidates: startable
                .iter()
                .map(|p| format!("{} with {}", p.language, p.offer.commands[0].shown()))
                .collect(),
            hint: startable[0].language,
        });
    }
    let Some(winner) = startable.pop() else {
        let languages: Vec<String> = rest
            .iter()
            .map(|p| format!("{} ({})", p.language, p.evidence))
            .collect();
        return Err(PlanError::StartCommandMissing {
            candidates: Vec::new(),
            hint: format!("start = \"…\" (found {})", languages.join(" and ")),
        });
    };
    lose_languages(context, &rest, "nothing of it could be started");
    let why = format!(
        "found {}, and what would be started is there",
        winner.evidence
    );
    let language = winner.language;
    Ok((Some(winner), language, why))
}

fn lose_languages(context: &mut Context<'_>, losers: &[Present], why: &str) {
    for loser in losers {
        let what = format!("{} ({})", loser.language, loser.evidence);
        context.lose(LoserKind::Language, what, why);
    }
}

fn only_command(
    context: &mut Context<'_>,
    present: Option<Present>,
    language: Language,
) -> Result<StartCommand, PlanError> {
    let offer = present.map(|present| present.offer).unwrap_or_default();
    for (what, why) in offer.outranked {
        context.lose(LoserKind::Start, what, why);
    }
    let mut commands = offer.commands;
    match commands.pop() {
        Some(only) if commands.is_empty() => Ok(only),
        last => {
            commands.extend(last);
            let hint = match commands.first() {
                Some(first) => start_line(&first.argv),
                None if language == Language::Python => "start = \"python main.py\"".to_owned(),
                None => "start = \"node index.js\"".to_owned(),
            };
            Err(PlanError::StartCommandMissing {
                candidates: commands.iter().map(StartCommand::shown).collect(),
                hint,
            })
        }
    }
}

/// The line of `parallax.toml` for a command: as a text where that reads back alike, else a list.
fn start_line(argv: &[String]) -> String {
    let line = argv.join(" ");
    let plain = split_words(&line).is_ok_and(|words| words == argv) && !line.contains(['"', '\\']);
    if plain {
        return format!("start = \"{line}\"");
    }
    let words: Vec<String> = argv.iter().map(|word| format!("{word:?}")).collect();
    format!("start = [{}]", words.join(", "))
}

/// TypeScript and JavaScript share everything but the name.
fn same_family(left: Language, right: Language) -> bool {
    let node = |language| matches!(language, Language::TypeScript | Language::JavaScript);
    left == right || (node(left) && node(right))
}

/// The language of a command, by its program and the files it names.
fn family_of(argv: &[String]) -> Option<Language> {
    let program = argv.first()?.rsplit('/').next()?;
    let is_python = |text: &str| {
        text.strip_prefix("python")
            .is_some_and(|rest| rest.chars().all(|c| c.is_ascii_digit() || c == '.'))
    };
    match program {
        "node" | "npm" | "npx" | "pnpm" | "yarn" | "tsx" | "ts-node" => Some(Language::JavaScript),
        "uvicorn" | "gunicorn" | "hypercorn" | "flask" | "fastapi" | "uv" | "poetry" | "adk" => {
            Some(Language::Python)
        }
        program if is_python(program) || program.ends_with(".py") => Some(Language::Python),
        _ => None,
    }
}
