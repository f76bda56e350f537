//! `parallax openapi`: the HTTP API as a document, for `cargo xtask codegen`.

use anyhow::Result;

use crate::context::Context;

/// Prints the document.
#[cfg(target_os = "linux")]
pub(crate) fn run(context: &Context) -> Result<()> {
    let document = parallax_server::http::reference::openapi_json();
    context.output.line(document.trim_end())
}

/// Refuses.
#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_: &Context) -> Result<()> {
    super::linux_only("openapi")
}
