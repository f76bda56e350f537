//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

use parallax_core::time::Timestamp;

/// The time now.
#[expect(clippy::disallowed_methods, reason = "this is the process's one clock")]
pub(crate) fn now() -> Timestamp {
    // A clock before 1970 reads as 1970.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
