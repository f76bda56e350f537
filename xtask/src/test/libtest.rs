//! Counts from what `cargo test` prints, and from the log of tests that skipped themselves.

use std::collections::BTreeMap;

use super::counts::{Counts, Skip};

/// Reads libtest's plain output line by line.
#[derive(Debug, Default)]
pub struct Reader {
    counts: Counts,
    started: usize,
    ended: usize,
    ignored: usize,
}

impl Reader {
    /// Takes one line of standard output.
    pub fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("test result: ") {
            self.ended += 1;
            self.counts.passed += number_before(rest, " passed");
            self.counts.failed += number_before(rest, " failed");
            self.ignored += number_before(rest, " ignored");
        } else if is_start(line) {
            self.started += 1;
        } else if let Some((name, verdict)) = verdict(line) {
            self.verdict(name, verdict);
        }
    }

    fn verdict(&mut self, name: &str, verdict: &str) {
        if verdict.starts_with("FAILED") {
            self.counts.failures.push(name.to_owned());
        } else if let Some(reason) = verdict.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            let reason = if reason.is_empty() {
                "#[ignore] without a reason"
            } else {
                reason
            };
            self.counts.skip(name, reason);
        }
    }

    /// The counts of the whole run. `log` is what skipped tests appended; `succeeded` is what cargo
    /// said: a run that failed without a failed test did not compile, or lost a test binary.
    pub fn finish(mut self, log: &str, succeeded: bool) -> Counts {
        for _ in self.counts.skipped.len()..self.ignored {
            self.counts.skip("a test", "#[ignore], not named");
        }
        for _ in self.ended..self.started {
            self.counts
                .fail("a test binary that ended without a result");
        }
        if !succeeded && self.counts.failed == 0 {
            self.counts.fail("cargo test itself; see its output");
        }
        let skipped: BTreeMap<&str, &str> = log
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        // libtest took each of them for a success.
        self.counts.passed = self.counts.passed.saturating_sub(skipped.len());
        let skipped = skipped.into_iter().map(|(name, reason)| Skip {
            name: name.to_owned(),
            reason: reason.to_owned(),
        });
        self.counts.skipped.extend(skipped);
        self.counts
    }
}

/// `running 3 tests`, which each binary prints first.
fn is_start(line: &str) -> bool {
    line.strip_prefix("running ")
        .and_then(|rest| {
            rest.strip_suffix(" tests")
                .or_else(|| rest.strip_suffix(" test"))
        })
        .is_some_and(|count| count.parse::<usize>().is_ok())
}

/// `test path::name ... verdict`; a `should panic` note belongs to neither.
fn verdict(line: &str) -> Option<(&str, &str)> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((name.trim_end_matches(" - should panic"), verdict))
}

fn number_before(text: &str, word: &str) -> usize {
    let Some((before, _)) = text.split_once(word) else {
        return 0;
    };
    let digits = before.rsplit(' ').next().unwrap_or(before);
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 4 tests
test a::one ... ok
test a::two ... FAILED
test a::three ... ignored, needs a cluster
test a::four - should panic ... ok

failures:
    a::two

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s

running 1 test
test it::five ... ok
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.02s
";

    fn read(output: &str, log: &str, succeeded: bool) -> Counts {
        let mut reader = Reader::default();
        output.lines().for_each(|line| reader.line(line));
        reader.finish(log, succeeded)
    }

    #[test]
    fn every_binary_adds_to_the_sum() {
        let counts = read(OUTPUT, "", false);
        assert_eq!(counts.to_string(), "3 passed, 1 failed, 1 skipped");
        assert_eq!(counts.failures, ["a::two"]);
        assert_eq!(counts.skipped[0].reason, "needs a cluster");
    }

    #[test]
    fn a_test_that_skipped_itself_moves_from_passed_to_skipped_once() {
        let log = "it::five\tno database\nit::five\tno database\n";
        let counts = read(OUTPUT, log, false);
        assert_eq!(counts.to_string(), "2 passed, 1 failed, 2 skipped");
        assert_eq!(counts.skipped[1].name, "it::five");
    }

    #[test]
    fn a_binary_that_dies_is_a_failure() {
        let counts = read("running 2 tests\ntest a ... ok\n", "", false);
        assert_eq!(counts.to_string(), "0 passed, 1 failed, 0 skipped");
    }

    #[test]
    fn a_run_that_does_not_compile_is_a_failure() {
        assert_eq!(read("", "", false).failed, 1);
        assert_eq!(read("", "", true).failed, 0);
    }
}
