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

/// Shorter, and a credential ends before its holder can use it and fetch the next.
const MIN_CREDENTIAL_TTL: Duration = Duration::from_secs(2);
/// A year: longer is no short-lived credential any more.
const MAX_CREDENTIAL_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads how long a credential is good.
///
/// # Errors
/// When it is no span, or one of less than two seconds or more than a year.
pub(crate) fn parse_credential_ttl(text: &str) -> Result<Duration, CredentialTtlError> {
    let span = parse(text)?;
    if (MIN_CREDENTIAL_TTL..=MAX_CREDENTIAL_TTL).contains(&span) {
        Ok(span)
    } else {
        Err(CredentialTtlError::OutOfBounds)
    }
}

/// Not a time that a credential may be good for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialTtlError {
    #[error(transparent)]
    NoSpan(#[from] DurationError),
    #[error("a credential is good for at least 2s and at most 365 days (8760h)")]
    OutOfBounds,
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
        for text in ["0s", "1s", "8761h"] {
            let error = parse_credential_ttl(text).expect_err("out of bounds");
            assert!(error.to_string().contains("at least 2s"), "{error}");
        }
        assert!(parse_credential_ttl("2s").is_ok() && parse_credential_ttl("8760h").is_ok());
        for text in ["", "30", "-5s", "soon"] {
            let error = parse(text).expect_err("no span");
            assert!(error.to_string().contains("write 30s"), "{error}");
        }
    }
}
