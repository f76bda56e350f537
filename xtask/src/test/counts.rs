//! What all test runners together report: the closing line and the names before it.

use std::fmt;

/// One test that did not run, and why.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skip {
    /// The test, or the group of tests.
    pub name: String,
    /// What was missing.
    pub reason: String,
}

/// Sums over every runner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Tests that ran and held.
    pub passed: usize,
    /// Tests that ran and did not hold, and runners that died.
    pub failed: usize,
    /// The names behind `failed`, as far as the runner named them.
    pub failures: Vec<String>,
    /// Tests that did not run.
    pub skipped: Vec<Skip>,
}

impl Counts {
    /// Adds the counts of another runner.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.skipped.extend(other.skipped);
    }

    /// A group of tests that could not run at all.
    pub fn skip(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.skipped.push(Skip {
            name: name.into(),
            reason: reason.into(),
        });
    }

    /// A failure beside those that the runner counted.
    pub fn fail(&mut self, name: impl Into<String>) {
        self.failed += 1;
        self.failures.push(name.into());
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, .. } = self;
        let skipped = self.skipped.len();
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}
