//! Spans of time on the command line.

use std::time::Duration;

use jiff::SignedDuration;

/// Reads `30s`, `5m`, `1h30m`, `500ms`.
///
/// # Errors
/// When it is no span, or lies in the past.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let span: SignedDuration = text.parse().map_err(|source| DurationError {
        text: text.to_owned(),
        source: Some(source),
    })?;
    Duration::try_from(span).map_err(|_| DurationError {
        text: text.to_owned(),
        source: None,
    })
}

/// Not a span of time.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is no span of time; write 30s, 5m, 1h30m or 500ms")]
pub(crate) struct DurationError {
    text: String,
    #[source]
    source: Option<jiff::Error>,
}

/// As whole milliseconds for the server.
#[must_use]
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_people_write_them() {
        assert_eq!(parse("30s").expect("a span"), Duration::from_secs(30));
        assert_eq!(parse("1h30m").expect("a span"), Duration::from_secs(5400));
        assert_eq!(parse("500ms").expect("a span"), Duration::from_millis(500));
        for text in ["", "30", "-5s", "soon"] {
            let error = parse(text).expect_err("no span");
            assert!(error.to_string().contains("write 30s"), "{error}");
        }
    }
}
