//! Structured logs on standard error.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, Default)]
pub struct Config {
    pub format: Format,
    /// A level (`info`), or directives such as `info,parallax_server=debug`.
    pub level: String,
    /// Whether text lines may be coloured.
    pub color: bool,
    /// Where an OTLP collector listens over gRPC, such as `http://127.0.0.1:4317`.
    #[cfg(feature = "otel")]
    pub otlp_endpoint: Option<String>,
}

/// Kept for as long as the process logs. Dropping it sends what was not sent yet.
#[derive(Debug, Default)]
#[must_use = "what is not sent when the process ends is lost"]
pub struct Guard {
    #[cfg(feature = "otel")]
    exporter: Option<crate::trace::Exporter>,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    #[error(
        "`{level}` is no log level; write error, warn, info, debug or trace, or directives such as info,parallax_server=debug"
    )]
    Level {
        level: String,
        #[source]
        source: Option<tracing_subscriber::filter::ParseError>,
    },
    #[error("logging was set up twice in this process")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
    #[cfg(feature = "otel")]
    #[error("`{endpoint}` does not do as the address of an OTLP collector")]
    Otlp {
        endpoint: String,
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
}

/// Sets up logging for this process. With a collector, within an async runtime.
///
/// # Errors
/// See [`InitError`].
pub fn init(config: &Config) -> Result<Guard, InitError> {
    let filter = filter(&config.level)?;
    let subscriber = tracing_subscriber::registry().with(lines(config).with_filter(filter));
    #[cfg(feature = "otel")]
    if let Some(endpoint) = &config.otlp_endpoint {
        let exporter = crate::trace::Exporter::new(endpoint)?;
        let subscriber = subscriber.with(exporter.layer());
        subscriber.try_init().map_err(InitError::Twice)?;
        return Ok(Guard {
            exporter: Some(exporter),
        });
    }
    subscriber.try_init().map_err(InitError::Twice)?;
    Ok(Guard::default())
}

fn filter(level: &str) -> Result<EnvFilter, InitError> {
    let refused = |source| InitError::Level {
        level: level.to_owned(),
        source,
    };
    // The filter takes any word for the name of a module, of which everything is to be logged.
    // An empty word would mean `error`, which nobody asked for.
    let is_word = |part: &str| !part.is_empty() && part.parse::<LevelFilter>().is_ok();
    let is_level = |part: &str| part.contains(['=', '[']) || is_word(part);
    if !level.split(',').map(str::trim).all(is_level) {
        return Err(refused(None));
    }
    let parsed = EnvFilter::builder().parse(level);
    parsed.map_err(|source| refused(Some(source)))
}

#[cfg(feature = "otel")]
impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(exporter) = &self.exporter {
            exporter.finish();
        }
    }
}

fn lines(config: &Config) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(config.color);
    match config.format {
        Format::Text => layer.boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_that_does_not_exist_is_refused_with_those_that_do() {
        for level in ["loud", "info,parallax=loud", ""] {
            let error = filter(level).expect_err("no level");
            assert!(matches!(&error, InitError::Level { level: named, .. } if named == level));
            assert!(
                error
                    .to_string()
                    .contains("error, warn, info, debug or trace")
            );
        }
        for level in ["info", "WARN", "off", "info,parallax_server=debug"] {
            filter(level).expect("a level");
        }
    }
}
