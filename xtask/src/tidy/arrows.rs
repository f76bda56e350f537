//! Which crate may depend on which: the table of ARCHITECTURE.md, and nothing else.

use super::finding::{Finding, Rule};
use super::manifest::{Dependency, Kind, Package};

/// The workspace crates that one crate may depend on.
enum May {
    /// Exactly these.
    Only(&'static [&'static str]),
    /// All but these; the test kit is never among them outside dev-dependencies.
    AllBut(&'static [&'static str]),
}

/// A crate without a row here has to be given one before it may have an arrow.
const TABLE: [(&str, May); 16] = [
    ("parallax-core", May::Only(&[])),
    ("parallax-patterns", May::Only(&["parallax-core"])),
    ("parallax-billing", May::Only(&["parallax-core"])),
    ("parallax-api", May::Only(&["parallax-core"])),
    ("parallax-proto", May::Only(&["parallax-core"])),
    ("parallax-store", May::Only(&["parallax-core"])),
    ("parallax-builder", May::Only(&["parallax-core"])),
    ("parallax-shim", May::Only(&[])),
    (
        "parallax-runtime",
        May::Only(&[
            "parallax-builder",
            "parallax-core",
            "parallax-proto",
            "parallax-shim",
            "parallax-telemetry",
        ]),
    ),
    (
        "parallax-server",
        May::Only(&[
            "parallax-api",
            "parallax-billing",
            "parallax-builder",
            "parallax-core",
            "parallax-patterns",
            "parallax-proto",
            "parallax-store",
            "parallax-telemetry",
        ]),
    ),
    (
        "parallax-operator",
        May::Only(&["parallax-core", "parallax-proto", "parallax-telemetry"]),
    ),
    ("parallax-cli", May::AllBut(&["parallax-operator"])),
    ("parallax-telemetry", May::Only(&[])),
    ("parallax-testkit", May::AllBut(&[])),
    // Measuring programs: their harness is a bench target, so the test kit is a dev-dependency.
    ("benches", May::AllBut(&["parallax-operator"])),
    ("xtask", May::Only(&[])),
];

/// Heavy or impure dependencies, and the only crate that may name each.
const SOLE_USERS: [(&str, &str); 3] = [
    ("sqlx", "parallax-store"),
    ("kube", "parallax-operator"),
    ("k8s-openapi", "parallax-operator"),
];

/// Checks the dependency tables of one package.
pub fn check(package: &Package, findings: &mut Vec<Finding>) {
    for dependency in &package.dependencies {
        if !dependency.inherited {
            let message = format!(
                "`{name}` is not inherited; write `{name}.workspace = true` and put the version into the root's [workspace.dependencies]",
                name = dependency.name
            );
            report(
                package,
                dependency,
                Rule::WorkspaceDependency,
                message,
                findings,
            );
        }
        let sole = SOLE_USERS.iter().find(|(name, _)| *name == dependency.name);
        if let Some((name, user)) = sole.filter(|(_, user)| *user != package.name) {
            let message = format!("`{name}` belongs to {user} alone; move the code there");
            report(
                package,
                dependency,
                Rule::ForbiddenDependency,
                message,
                findings,
            );
        }
        if is_ours(&dependency.name) && !is_allowed(&package.name, dependency) {
            let message = refusal(&package.name, dependency);
            report(package, dependency, Rule::CrateArrow, message, findings);
        }
    }
}

fn report(
    package: &Package,
    dependency: &Dependency,
    rule: Rule,
    message: String,
    findings: &mut Vec<Finding>,
) {
    let finding = Finding::new(&package.manifest(), dependency.line, rule, message);
    findings.push(finding);
}

fn is_ours(name: &str) -> bool {
    name.starts_with("parallax-") || ["benches", "xtask"].contains(&name)
}

fn is_allowed(from: &str, dependency: &Dependency) -> bool {
    let to = dependency.name.as_str();
    if to == "parallax-testkit" {
        return dependency.kind == Kind::Dev;
    }
    match TABLE.iter().find(|(name, _)| *name == from) {
        Some((_, May::Only(names))) => names.contains(&to),
        Some((_, May::AllBut(names))) => !names.contains(&to),
        None => false,
    }
}

fn refusal(from: &str, dependency: &Dependency) -> String {
    let to = &dependency.name;
    if to == "parallax-testkit" {
        return "only dev-dependencies may point at parallax-testkit; move the line".to_owned();
    }
    match TABLE.iter().find(|(name, _)| *name == from) {
        None => format!(
            "{from} has no row in the table of crates; decide what it may depend on, then add it to ARCHITECTURE.md and xtask/src/tidy/arrows.rs"
        ),
        Some((_, May::Only([]))) => {
            format!("{from} may depend on no crate of the workspace, found {to}; remove it")
        }
        Some((_, May::Only(names))) => format!(
            "{from} may depend only on {}, found {to}; remove it or move the code",
            names.join(", ")
        ),
        Some((_, May::AllBut(_))) => format!("{from} may not depend on {to}; remove it"),
    }
}
