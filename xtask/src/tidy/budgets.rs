//! Files and functions that a person can hold in mind, with an allow-list that only shrinks.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::allow::{self, Allowed};
use super::finding::{Finding, Rule};
use super::is_generated;
use super::manifest::Package;
use super::tree::{Tree, has_extension};

/// Lines of a file. Beyond it a file holds more than one idea.
pub const FILE_LINES: usize = 500;
/// Lines of a function from `fn` to its closing brace: what fits on one screen.
pub const FUNCTION_LINES: usize = 70;

/// The hand-written languages of the repository.
const SOURCES: [&str; 6] = ["rs", "ts", "mts", "mjs", "js", "py"];

/// Something over its budget.
#[derive(Debug)]
pub struct Oversize {
    /// Where it starts, counted from 1.
    pub line: usize,
    /// How long it is.
    pub lines: usize,
}

/// Measures every source against the budgets and the allow-list.
pub fn check(tree: &Tree, packages: &[Package], findings: &mut Vec<Finding>) -> Result<()> {
    let allowed = allow::read(tree)?;
    let files = oversized_files(tree);
    settle(
        &files,
        &allowed.files,
        FILE_LINES,
        Rule::FileBudget,
        findings,
    );
    let functions = oversized_functions(tree, packages);
    let budget = FUNCTION_LINES;
    settle(
        &functions,
        &allowed.functions,
        budget,
        Rule::FunctionBudget,
        findings,
    );
    Ok(())
}

/// Keyed by path, or by `path::function`.
type Oversized = BTreeMap<String, Oversize>;

fn oversized_files(tree: &Tree) -> Oversized {
    let mut found = Oversized::new();
    for (path, text) in tree.iter() {
        let is_source = SOURCES.iter().any(|e| has_extension(path, e));
        let lines = text.lines().count();
        if is_source && !is_generated(path) && lines > FILE_LINES {
            found.insert(key(path), Oversize { line: 1, lines });
        }
    }
    found
}

fn oversized_functions(tree: &Tree, packages: &[Package]) -> Oversized {
    let mut found = Oversized::new();
    for package in packages {
        for (path, text) in tree.rust_below(&package.dir) {
            if is_generated(path) {
                continue;
            }
            // Sources that do not parse are reported where modules are walked.
            let Ok(file) = syn::parse_file(text) else {
                continue;
            };
            let path = key(path);
            let mut measure = Measure {
                path: &path,
                found: &mut found,
            };
            measure.visit_file(&file);
        }
    }
    found
}

fn key(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

struct Measure<'a> {
    path: &'a str,
    found: &'a mut Oversized,
}

impl Measure<'_> {
    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let line = signature.fn_token.span().start().line;
        let lines = block.brace_token.span.close().end().line - line + 1;
        if lines <= FUNCTION_LINES {
            return;
        }
        // Two functions of one name in one file share an entry: the longer one counts.
        let key = format!("{}::{}", self.path, signature.ident);
        let longest = self.found.get(&key).is_none_or(|known| known.lines < lines);
        if longest {
            self.found.insert(key, Oversize { line, lines });
        }
    }
}

impl<'ast> Visit<'ast> for Measure<'_> {
    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// Compares what is over budget with what the allow-list says: it may only shrink.
fn settle(
    found: &Oversized,
    allowed: &BTreeMap<String, Allowed>,
    budget: usize,
    rule: Rule,
    findings: &mut Vec<Finding>,
) {
    for (key, oversize) in found {
        let path = Path::new(key.split("::").next().unwrap_or(key));
        let what = key.rsplit("::").next().unwrap_or(key);
        let lines = oversize.lines;
        let message = match allowed.get(key).map(|entry| entry.lines) {
            None => format!("{what} has {lines} lines, the budget is {budget}; split it"),
            Some(limit) if lines > limit => {
                format!("{what} grew from {limit} to {lines} lines; split it")
            }
            Some(_) => continue,
        };
        findings.push(Finding::new(path, oversize.line, rule, message));
    }
    for (key, entry) in allowed {
        let message = match found.get(key).map(|oversize| oversize.lines) {
            None => format!("`{key}` is within the budget now; remove the entry"),
            Some(lines) if lines < entry.lines => {
                format!("`{key}` shrank to {lines} lines; lower the entry to {lines}")
            }
            Some(_) => continue,
        };
        findings.push(Finding::new(
            Path::new(allow::PATH),
            entry.line,
            Rule::AllowList,
            message,
        ));
    }
}
