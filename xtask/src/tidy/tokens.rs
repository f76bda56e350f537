//! Rules on the tokens of the workspace's Rust, so that code inside macros counts too.

use std::path::Path;

use anyhow::Result;
use proc_macro2::{TokenStream, TokenTree};

use super::finding::{Finding, Rule};
use super::is_generated;
use super::manifest::Package;
use super::tree::Tree;

const ENV_READS: [&str; 4] = ["var", "var_os", "vars", "vars_os"];
const ENV_WRITES: [&str; 2] = ["set_var", "remove_var"];
/// How a statement begins; only whole literals that start like this count as SQL.
const SQL: [&str; 9] = [
    "SELECT ",
    "INSERT INTO ",
    "UPDATE ",
    "DELETE FROM ",
    "CREATE TABLE ",
    "CREATE INDEX ",
    "ALTER TABLE ",
    "DROP TABLE ",
    "PRAGMA ",
];
/// Tools and tests may read the environment and speak to a database's own tools.
const TOOLS: [&str; 2] = ["xtask", "parallax-testkit"];
const STORE: &str = "parallax-store";

/// Checks every source of every package.
pub fn check(tree: &Tree, packages: &[Package], findings: &mut Vec<Finding>) -> Result<()> {
    for package in packages {
        for (path, text) in tree.rust_below(&package.dir) {
            if is_generated(path) {
                continue;
            }
            // Sources that do not parse are reported where modules are walked.
            let Ok(stream) = text.parse::<TokenStream>() else {
                continue;
            };
            let mut scan = Scan {
                package: &package.name,
                path,
                findings,
            };
            scan.stream(stream);
        }
    }
    Ok(())
}

struct Scan<'a> {
    package: &'a str,
    path: &'a Path,
    findings: &'a mut Vec<Finding>,
}

impl Scan<'_> {
    fn stream(&mut self, stream: TokenStream) {
        let tokens: Vec<TokenTree> = stream.into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Group(group) => self.group(&tokens[..index], group),
                TokenTree::Ident(ident) => self.ident(&tokens[..index], ident),
                TokenTree::Literal(literal) => self.literal(literal),
                TokenTree::Punct(_) => {}
            }
        }
    }

    /// `use std::env::{var, …}` names its parts inside a group.
    fn group(&mut self, before: &[TokenTree], group: &proc_macro2::Group) {
        if follows_env(before) {
            for token in group.stream() {
                if let TokenTree::Ident(ident) = token {
                    self.env_read(&ident);
                }
            }
        }
        self.stream(group.stream());
    }

    fn ident(&mut self, before: &[TokenTree], ident: &proc_macro2::Ident) {
        if follows_env(before) {
            self.env_read(ident);
        }
        if ENV_WRITES.iter().any(|name| ident == name) {
            let message = "changing the process environment is a data race; pass the value as an argument or set it on the child's Command";
            self.report(ident.span(), Rule::EnvWrite, message);
        }
        if ident == "sqlx" && self.package != STORE {
            let message = "sqlx belongs to parallax-store alone; call a function of the store";
            self.report(ident.span(), Rule::SqlOutsideStore, message);
        }
    }

    fn env_read(&mut self, ident: &proc_macro2::Ident) {
        let in_config = self
            .path
            .file_name()
            .is_some_and(|name| name == "config.rs");
        if in_config || TOOLS.contains(&self.package) {
            return;
        }
        if ENV_READS.iter().any(|name| ident == name) {
            let message = "read the environment in the crate's config.rs and pass the value down";
            self.report(ident.span(), Rule::EnvRead, message);
        }
    }

    fn literal(&mut self, literal: &proc_macro2::Literal) {
        let text = literal.to_string();
        let text = text.trim_start_matches(['r', 'b', 'c', '#']);
        let Some(text) = text.strip_prefix('"') else {
            return;
        };
        let text = text.trim_start();
        let is_test = self.path.iter().any(|part| part == "tests") || TOOLS.contains(&self.package);
        if !is_test && self.package != STORE && is_sql(text) {
            let message = "SQL belongs to parallax-store; write a function there and call it";
            self.report(literal.span(), Rule::SqlOutsideStore, message);
        }
        let is_skip_macro = self.path.ends_with("parallax-testkit/src/skip.rs");
        if text.starts_with(concat!("SKIP", "PED ")) && !is_skip_macro && self.package != "xtask" {
            let message = "the closing counts would miss this; use parallax_testkit::skip!";
            self.report(literal.span(), Rule::SkipUncounted, message);
        }
    }

    fn report(&mut self, span: proc_macro2::Span, rule: Rule, message: &str) {
        let line = span.start().line;
        self.findings
            .push(Finding::new(self.path, line, rule, message));
    }
}

fn is_sql(text: &str) -> bool {
    SQL.iter().any(|start| text.starts_with(start))
}

/// Whether the tokens end in `env ::`.
fn follows_env(before: &[TokenTree]) -> bool {
    let [
        ..,
        TokenTree::Ident(env),
        TokenTree::Punct(first),
        TokenTree::Punct(second),
    ] = before
    else {
        return false;
    };
    env == "env" && first.as_char() == ':' && second.as_char() == ':'
}
