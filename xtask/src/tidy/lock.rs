//! Crates that must stay free of an async runtime, however indirectly it would come in.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

use super::finding::{Finding, Rule};
use super::manifest::{Kind, Package};
use super::tree::Tree;

/// Pure crates do no I/O; the shim forks and must stay small.
const WITHOUT_TOKIO: [&str; 4] = [
    "parallax-core",
    "parallax-shim",
    "parallax-patterns",
    "parallax-billing",
];
const BANNED: &str = "tokio";

#[derive(Deserialize)]
struct Lock {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// Follows the package's own dependencies through Cargo.lock. Dev-dependencies do not count.
pub fn check(tree: &Tree, package: &Package, findings: &mut Vec<Finding>) -> Result<()> {
    if !WITHOUT_TOKIO.contains(&package.name.as_str()) {
        return Ok(());
    }
    let text = tree.get(Path::new("Cargo.lock")).unwrap_or("");
    let lock: Lock = toml::from_str(text).context("Cargo.lock: reading")?;
    let graph = Graph::from(lock);
    for dependency in &package.dependencies {
        if dependency.kind == Kind::Dev {
            continue;
        }
        if let Some(path) = graph.path_to(&dependency.name, BANNED) {
            let message = format!(
                "{} must stay free of {BANNED}, found {}; use std, or move the code",
                package.name,
                path.join(" → ")
            );
            findings.push(Finding::new(
                &package.manifest(),
                dependency.line,
                Rule::ForbiddenDependency,
                message,
            ));
        }
    }
    Ok(())
}

/// Package name to the names that it depends on; versions do not matter here.
struct Graph(BTreeMap<String, Vec<String>>);

impl From<Lock> for Graph {
    fn from(lock: Lock) -> Self {
        let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for package in lock.package {
            let names = package.dependencies.iter().map(|dependency| {
                let name = dependency.split(' ').next();
                name.expect("split yields at least one part").to_owned()
            });
            edges.entry(package.name).or_default().extend(names);
        }
        Self(edges)
    }
}

impl Graph {
    /// The shortest chain of names from `start` to `goal`, both included.
    fn path_to(&self, start: &str, goal: &str) -> Option<Vec<String>> {
        let mut from: BTreeMap<&str, Option<&str>> = BTreeMap::from([(start, None)]);
        let mut queue = VecDeque::from([start]);
        while let Some(name) = queue.pop_front() {
            if name == goal {
                let chain = std::iter::successors(Some(name), |name| from[name]);
                let mut chain: Vec<_> = chain.map(str::to_owned).collect();
                chain.reverse();
                return Some(chain);
            }
            for next in self.0.get(name).into_iter().flatten() {
                if !from.contains_key(next.as_str()) {
                    from.insert(next, Some(name));
                    queue.push_back(next);
                }
            }
        }
        None
    }
}
