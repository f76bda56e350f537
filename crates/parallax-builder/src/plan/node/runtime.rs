//! Which Node: override → `devEngines` → `engines` → version files → the one that a shell runs.

use node_semver::{Range, Version};

use crate::detect::package_json::PackageJson;
use crate::plan::context::Context;
use crate::plan::error::PlanError;
use crate::plan::types::{LoserKind, Resolved, Runtime};
use crate::toolchain::ToolKind;

/// What the project asks for.
struct Wish {
    text: String,
    from: String,
    range: Range,
}

pub(super) fn choose(
    context: &mut Context<'_>,
    package: &PackageJson,
) -> Result<Runtime, PlanError> {
    let wish = wish(context, package)?;
    let toolchain = context.toolchain;
    let found: Vec<_> = toolchain
        .of(ToolKind::Node)
        .filter_map(|tool| Some((Version::parse(&tool.version).ok()?, tool))) // No Node's version.
        .collect();
    if found.is_empty() {
        return Err(PlanError::RuntimeMissing {
            runtime: "node".to_owned(),
        });
    }
    let fits = |version: &Version| {
        wish.as_ref()
            .is_none_or(|wish| version.satisfies(&wish.range))
    };
    let preferred = found.iter().find(|(version, _)| fits(version));
    let Some((version, tool)) = preferred else {
        let wish = wish.expect("without a wish every version fits");
        return Err(PlanError::RuntimeMismatch {
            runtime: "Node".to_owned(),
            requirement: wish.text,
            from: wish.from,
            found: found
                .iter()
                .map(|(version, _)| version.to_string())
                .collect(),
        });
    };
    for (other, _) in found.iter().filter(|(other, _)| other != version) {
        let why = if fits(other) {
            "another comes first on the search path".to_owned()
        } else {
            format!(
                "{} does not accept it",
                wish.as_ref().map_or("", |wish| &wish.from)
            )
        };
        context.lose(LoserKind::Runtime, format!("Node {other}"), why);
    }
    let why = match &wish {
        Some(wish) => format!("{} asks for {}", wish.from, wish.text),
        None => "the project asks for no version; this one comes first on the search path".into(),
    };
    Ok(Runtime {
        name: "node".to_owned(),
        requirement: wish.map(|wish| wish.text),
        resolved: Resolved {
            version: version.to_string(),
            path: tool.path.clone(),
        },
        why,
    })
}

fn wish(context: &mut Context<'_>, package: &PackageJson) -> Result<Option<Wish>, PlanError> {
    let mut stated: Vec<(String, String)> = Vec::new();
    let engines = package.dev_engines.runtime.as_slice().iter();
    let dev_engine = engines
        .filter(|engine| engine.name == "node")
        .find_map(|engine| engine.version.clone());
    stated.extend(dev_engine.map(|text| (text, "devEngines.runtime of package.json".to_owned())));
    let engine = package.engines.get("node").cloned();
    stated.extend(engine.map(|text| (text, "engines.node of package.json".to_owned())));
    for file in [".nvmrc", ".node-version"] {
        if let Some(text) = context.read_root(file)? {
            stated.push((text.trim().to_owned(), file.to_owned()));
        }
    }
    for (text, from) in stated {
        let alias =
            text.is_empty() || text.starts_with("lts") || text == "node" || text == "stable";
        if alias {
            context.warn(format!(
                "{from} says `{text}`, which names no version; it is ignored"
            ));
            continue;
        }
        let range = Range::parse(text.trim_start_matches('v')).map_err(|_| PlanError::BadFile {
            path: from.clone(),
            message: format!("`{text}` is no version range of Node"),
        })?;
        return Ok(Some(Wish { text, from, range }));
    }
    Ok(None)
}
