//! The reference pages that are generated from the code.

use std::fmt::Write;

use parallax_core::error::Code;
use utoipa::openapi::path::{HttpMethod, Operation};

use super::problem::status;

/// `docs/reference/http.md`: every route with what it takes and answers.
#[must_use]
pub fn http() -> String {
    let document = super::openapi();
    let mut text = String::from(
        "# HTTP API\n\nGenerated from the handlers by `cargo xtask codegen`; the whole contract is `openapi/parallax-v1.json`.\n\n\
         Every request needs `Authorization: Bearer plx_key_…`, except `/healthz` and `/readyz`. Errors are \
         `application/problem+json`; their codes are in [errors.md](errors.md). `{id}` of an agent is its id or its name. \
         Lists take `?limit=&cursor=` and answer `{items, next_cursor}`. Streams are server-sent events with `id:` cursors and \
         `Last-Event-ID`; `Accept: application/x-ndjson` gives a document a line.\n",
    );
    for (path, item) in &document.paths.paths {
        let operations: [(HttpMethod, &Option<Operation>); 4] = [
            (HttpMethod::Get, &item.get),
            (HttpMethod::Post, &item.post),
            (HttpMethod::Put, &item.put),
            (HttpMethod::Delete, &item.delete),
        ];
        for (method, operation) in operations {
            if let Some(operation) = operation {
                section(
                    &mut text,
                    &format!("{method:?}").to_uppercase(),
                    path,
                    operation,
                );
            }
        }
    }
    text
}

fn section(text: &mut String, method: &str, path: &str, operation: &Operation) {
    let about = [
        operation.summary.as_deref(),
        operation.description.as_deref(),
    ];
    let about: Vec<&str> = about
        .into_iter()
        .flatten()
        .filter(|part| !part.is_empty())
        .collect();
    put(
        text,
        format_args!("\n## `{method} {path}`\n\n{}\n", about.join("\n\n")),
    );
    let parameters = operation.parameters.iter().flatten();
    for parameter in parameters {
        let words = parameter.description.as_deref().unwrap_or_default();
        put(text, format_args!("\n- `{}`: {words}", parameter.name));
    }
    let statuses: Vec<&str> = operation
        .responses
        .responses
        .keys()
        .map(String::as_str)
        .collect();
    put(text, format_args!("\n\nAnswers {}.\n", statuses.join(", ")));
}

/// `docs/reference/errors.md`: every code.
#[must_use]
pub fn errors() -> String {
    let mut text = String::from(
        "# Error codes\n\nGenerated from the code by `cargo xtask codegen`. A problem document carries the code in `code`; \
         over gRPC it travels in the `parallax-code` metadata.\n\n| code | HTTP | meaning |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        let meaning: Vec<&str> = code.explanation().lines().map(str::trim).collect();
        put(
            &mut text,
            format_args!(
                "| `{code}` | {} | {} |\n",
                status(*code).as_u16(),
                meaning.join(" ").trim()
            ),
        );
    }
    text
}

fn put(text: &mut String, words: std::fmt::Arguments<'_>) {
    text.write_fmt(words)
        .expect("writing to a String cannot fail");
}
