//! How a command ends: exit codes that scripts can rely on.

use std::process::ExitCode;

use parallax_core::error::Code;

/// The exit codes, documented in `docs/reference/cli.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(crate) enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Denied = 4,
    Unavailable = 5,
    Deadline = 6,
    AgentFailed = 7,
    /// As shells number a command that Ctrl-C has ended.
    Interrupted = 130,
}

impl Exit {
    /// Every code, in order.
    pub(crate) const ALL: [Self; 9] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::NotFound,
        Self::Denied,
        Self::Unavailable,
        Self::Deadline,
        Self::AgentFailed,
        Self::Interrupted,
    ];

    /// What it means, for the reference and `--help`.
    #[must_use]
    pub(crate) const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "it was done",
            Self::Failed => "it failed; the message says why",
            Self::Usage => "the command line is wrong",
            Self::NotFound => "there is no such agent, task, key or capability",
            Self::Denied => "no API key, or one that may not do this",
            Self::Unavailable => "no server, or nobody there to do the work",
            Self::Deadline => "time ran out",
            Self::AgentFailed => "the agent was called and failed the task, or was lost",
            Self::Interrupted => "Ctrl-C ended the waiting; the message says what goes on",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<Code> for Exit {
    fn from(code: Code) -> Self {
        match code {
            Code::NotFound | Code::CapabilityUnknown => Self::NotFound,
            Code::Unauthenticated | Code::CredentialExpired | Code::Forbidden => Self::Denied,
            Code::AgentUnavailable
            | Code::HostUnavailable
            | Code::StoreUnavailable
            | Code::ShuttingDown => Self::Unavailable,
            Code::InvalidRequest | Code::MethodNotAllowed => Self::Usage,
            Code::DeadlineExceeded => Self::Deadline,
            Code::AgentFailed | Code::AgentLost | Code::InvalidInput => Self::AgentFailed,
            Code::InvalidSpec
            | Code::InvalidSource
            | Code::StartCommandMissing
            | Code::PlanFailed
            | Code::AlreadyExists
            | Code::Conflict
            | Code::IdempotencyMismatch
            | Code::ManagedElsewhere
            | Code::TooLarge
            | Code::ResourceExhausted
            | Code::Cancelled
            | Code::IsolationUnavailable
            | Code::StorageFull
            | Code::NotImplemented
            | Code::Internal => Self::Failed,
        }
    }
}

/// An error that ends the command with a code of its own. Anything else ends it with
/// [`Exit::Failed`].
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Ended {
    pub(crate) exit: Exit,
    pub(crate) message: String,
    #[source]
    pub(crate) source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Ended {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            source: None,
        }
    }

    /// Attaches the cause.
    #[must_use]
    pub(crate) fn caused_by(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.source = Some(source.into());
        self
    }
}

/// The code that `error` ends the command with.
#[must_use]
pub(crate) fn of(error: &anyhow::Error) -> Exit {
    let found = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Ended>());
    found.map_or(Exit::Failed, |ended| ended.exit)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_code_survives_added_context() {
        let error = Err::<(), _>(Ended::new(Exit::NotFound, "no agent `a`")).context("showing `a`");
        assert_eq!(of(&error.expect_err("it is one")), Exit::NotFound);
        assert_eq!(of(&anyhow::anyhow!("anything else")), Exit::Failed);
    }

    #[test]
    fn codes_are_numbered_as_documented() {
        let numbers: Vec<u8> = Exit::ALL.into_iter().map(|exit| exit as u8).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 130]);
    }
}
