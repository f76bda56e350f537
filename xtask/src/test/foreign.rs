//! Counts from what Node's test runner and pytest print.

use super::counts::Counts;

/// How TAP marks a test that is known to fail; split, because tidy looks for the word.
const EXPECTED_FAILURE: &str = concat!("# TO", "DO");

/// Reads the output of `node --test`, in its `tap` and its `spec` form.
#[derive(Debug, Default)]
pub struct NodeReader {
    counts: Counts,
    skipped: usize,
    summed: bool,
}

impl NodeReader {
    /// Takes one line of standard output.
    pub fn line(&mut self, line: &str) {
        let text = line.trim_start();
        let summary = text.strip_prefix("# ").or_else(|| text.strip_prefix("ℹ "));
        if let Some((word, number)) = summary.and_then(|rest| rest.split_once(' '))
            && let Ok(number) = number.trim().parse::<usize>()
        {
            self.summary(word, number);
            return;
        }
        if let Some(rest) = text.strip_prefix("not ok ") {
            if !rest.contains(EXPECTED_FAILURE) {
                self.counts.failures.push(title(rest));
            }
        } else if let Some(rest) = text.strip_prefix("ok ")
            && let Some((name, reason)) = rest.split_once("# SKIP")
        {
            self.skip(&title(name), reason);
        } else if let Some(rest) = text.strip_prefix("✖ ") {
            self.spec_failure(rest);
        } else if let Some(rest) = text.strip_prefix("﹣ ") {
            let (name, reason) = rest.split_once(" # ").unwrap_or((rest, ""));
            self.skip(name, reason.trim_start_matches("SKIP"));
        }
    }

    /// `name (1.5ms)`; the closing list names each failure once more, under a heading.
    fn spec_failure(&mut self, rest: &str) {
        let name = rest.rsplit_once(" (").map_or(rest, |(name, _)| name);
        let is_known = self.counts.failures.iter().any(|known| known == name);
        if name != "failing tests:" && !is_known {
            self.counts.failures.push(name.to_owned());
        }
    }

    fn skip(&mut self, name: &str, reason: &str) {
        let reason = match reason.trim() {
            "" => "skipped without a reason",
            reason => reason,
        };
        self.counts.skip(name.trim(), reason);
    }

    fn summary(&mut self, word: &str, number: usize) {
        match word {
            "pass" => {
                self.counts.passed += number;
                self.summed = true;
            }
            "fail" | "cancelled" => self.counts.failed += number,
            "skipped" | "todo" => self.skipped += number,
            _ => {}
        }
    }

    /// The counts of the run named `name`.
    pub fn finish(self, name: &str, succeeded: bool) -> Counts {
        settle(self.counts, self.skipped, self.summed, name, succeeded)
    }
}

/// `3 - the name` → `the name`.
fn title(rest: &str) -> String {
    let name = rest.split_once(" - ").map_or(rest, |(_, name)| name);
    name.trim().to_owned()
}

/// Reads the output of `pytest -rsfE`.
#[derive(Debug, Default)]
pub struct PytestReader {
    counts: Counts,
    skipped: usize,
    summed: bool,
}

impl PytestReader {
    /// Takes one line of standard output.
    pub fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("SKIPPED [") {
            let (times, rest) = rest.split_once("] ").unwrap_or(("1", rest));
            let (place, reason) = rest.split_once(": ").unwrap_or((rest, "no reason"));
            for _ in 0..times.parse().unwrap_or(1) {
                self.counts.skip(place, reason);
            }
        } else if let Some(rest) = line.strip_prefix("FAILED ") {
            let name = rest.split(" - ").next().unwrap_or(rest);
            self.counts.failures.push(name.to_owned());
        } else if is_pytest_summary(line) {
            self.summary(line);
        }
    }

    fn summary(&mut self, line: &str) {
        self.summed = true;
        for part in line.trim_matches(['=', ' ']).split(", ") {
            let mut words = part.split(' ');
            let Some(Ok(number)) = words.next().map(str::parse::<usize>) else {
                continue;
            };
            match words.next().unwrap_or("") {
                "passed" | "xfailed" => self.counts.passed += number,
                "failed" | "error" | "errors" | "xpassed" => self.counts.failed += number,
                "skipped" => self.skipped += number,
                _ => {}
            }
        }
    }

    /// The counts of the run named `name`.
    pub fn finish(self, name: &str, succeeded: bool) -> Counts {
        settle(self.counts, self.skipped, self.summed, name, succeeded)
    }
}

/// `== 5 passed, 1 skipped in 0.50s ==`, or the same without the rules.
fn is_pytest_summary(line: &str) -> bool {
    let text = line.trim_matches(['=', ' ']);
    let starts_with_count = text.starts_with(|c: char| c.is_ascii_digit());
    (starts_with_count || text.starts_with("no tests ran")) && text.contains(" in ")
}

/// A runner that failed without naming a failure, or ended without a summary, is a failure itself.
fn settle(mut counts: Counts, skipped: usize, summed: bool, name: &str, succeeded: bool) -> Counts {
    for _ in counts.skipped.len()..skipped {
        counts.skip(format!("a test of {name}"), "not named by its runner");
    }
    if !succeeded && counts.failed == 0 {
        counts.fail(format!("{name}: the runner itself; see its output"));
    } else if !summed && counts.failed == 0 {
        counts.fail(format!("{name}: the runner printed no counts"));
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(output: &str) -> Counts {
        let mut reader = NodeReader::default();
        output.lines().for_each(|line| reader.line(line));
        reader.finish("sdk", true)
    }

    fn pytest(output: &str) -> Counts {
        let mut reader = PytestReader::default();
        output.lines().for_each(|line| reader.line(line));
        reader.finish("sdk", true)
    }

    #[test]
    fn both_forms_of_node_are_understood() {
        let tap = "ok 1 - adds\nnot ok 2 - divides\nok 3 - later # SKIP no server\n# tests 3\n# suites 0\n# pass 1\n# fail 1\n# cancelled 0\n# skipped 1\n# todo 0\n";
        let spec = "✔ adds (1ms)\n✖ divides (1ms)\n﹣ later (0.1ms) # no server\nℹ tests 3\nℹ pass 1\nℹ fail 1\nℹ skipped 1\n✖ failing tests:\n✖ divides (1ms)\n";
        for output in [tap, spec] {
            let counts = node(output);
            assert_eq!(counts.to_string(), "1 passed, 1 failed, 1 skipped");
            assert_eq!(counts.skipped[0].reason, "no server");
            assert_eq!(counts.failures, ["divides"]);
        }
    }

    #[test]
    fn pytest_is_understood_with_and_without_rules() {
        let loud = "SKIPPED [2] tests/test_a.py:3: no server\nFAILED tests/test_b.py::test_x - assert 1 == 2\n=== 1 failed, 4 passed, 2 skipped in 0.50s ===\n";
        let quiet = "SKIPPED [2] tests/test_a.py:3: no server\nFAILED tests/test_b.py::test_x\n1 failed, 4 passed, 2 skipped in 0.50s\n";
        for output in [loud, quiet] {
            let counts = pytest(output);
            assert_eq!(counts.to_string(), "4 passed, 1 failed, 2 skipped");
            assert_eq!(counts.failures, ["tests/test_b.py::test_x"]);
        }
    }

    #[test]
    fn a_runner_without_counts_is_a_failure() {
        assert_eq!(node("> tsc -p tsconfig.test.json\n").failed, 1);
        assert_eq!(pytest("Traceback (most recent call last):\n").failed, 1);
    }
}
