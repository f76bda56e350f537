//! Logging of the commands that stay.

use anyhow::Result;
use parallax_telemetry::{Config, Format};

use super::{LogFormat, LogOptions};
use crate::output::Output;

/// Sets up logging as the command line says.
///
/// # Errors
/// When the level is none.
pub(crate) fn init(options: &LogOptions, output: &Output) -> Result<()> {
    let config = Config {
        format: match options.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        level: options.log_level.clone(),
        color: output.colored_errors(),
    };
    Ok(parallax_telemetry::init(&config)?)
}
