//! Restart back-off.

use std::time::Duration;

/// The first wait after a crash.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait: a mended dependency is noticed within this time.
const LONGEST: Duration = Duration::from_secs(60);
/// A replica that ran this long is forgiven its earlier crashes.
pub const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
/// From this many crashes in a row on, the replica is in a crash loop.
pub const CRASH_LOOP_AFTER: u32 = 3;

/// How long to wait before start number `crashes + 1`: 0.5 s, doubled for each crash in a row, at
/// most 60 s.
#[must_use]
pub fn restart_delay(crashes: u32) -> Duration {
    match crashes {
        0 => Duration::ZERO,
        n => FIRST.saturating_mul(1 << (n - 1).min(10)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_a_minute() {
        let millis: Vec<_> = (0..9).map(|n| restart_delay(n).as_millis()).collect();
        assert_eq!(
            millis,
            [0, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000]
        );
        assert_eq!(restart_delay(u32::MAX), LONGEST);
    }
}
