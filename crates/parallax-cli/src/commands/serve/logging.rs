//! Logging of the commands that stay.

use anyhow::Result;
use parallax_telemetry::{Config, Format, Guard};

use super::{LogFormat, LogOptions};
use crate::output::Output;

/// Sets up logging as the command line says, within the async runtime.
///
/// # Errors
/// When the level is none.
pub(crate) fn init(options: &LogOptions, output: &Output) -> Result<Guard> {
    let config = Config {
        format: match options.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        },
        level: options.log_level.clone(),
        color: output.colored_errors(),
        #[cfg(feature = "otel")]
        otlp_endpoint: options.otlp_endpoint.clone(),
    };
    Ok(parallax_telemetry::init(&config)?)
}
