//! What somebody who waits for a change of an agent is to think of its status.

use super::{Phase, Reason};

/// Whether a status is what was waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Done,
    /// It does not get better before somebody does something about it.
    Failed,
    Wait,
}

/// The verdict on a status of the generation that is waited for. `is_observed` is false while some
/// of it is only carried over from before: see [`is_carried_over`].
#[must_use]
pub fn verdict(phase: Phase, reason: Option<Reason>, is_observed: bool) -> Verdict {
    match phase {
        Phase::Ready if !is_observed || reason == Some(Reason::RollingOut) => Verdict::Wait,
        Phase::Ready | Phase::Suspended | Phase::Deleted => Verdict::Done,
        Phase::Failed | Phase::Degraded if reason.is_some_and(Reason::is_final) => Verdict::Failed,
        Phase::Failed
        | Phase::Degraded
        | Phase::Pending
        | Phase::Building
        | Phase::Starting
        | Phase::Draining => Verdict::Wait,
    }
}

/// Whether a condition says that a status shows what was last observed, of hosts or agents that
/// have not been heard since.
#[must_use]
pub fn is_carried_over(kind: &str, holds: bool) -> bool {
    !holds && matches!(kind, "HostConnected" | "AgentConnected")
}

impl Reason {
    /// Whether somebody has to do something about it. A host that is still joining makes an agent
    /// unschedulable for a moment, and a host that is gone may come back.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Unschedulable
            | Self::HostLost
            | Self::ShimLost
            | Self::NotRegistered
            | Self::Disconnected
            | Self::ProbeFailed
            | Self::ScaledToZero
            | Self::RollingOut => false,
            Self::BuildFailed
            | Self::BuildCancelled
            | Self::BuildTimedOut
            | Self::SourceUnavailable
            | Self::PlanFailed
            | Self::StartCommandMissing
            | Self::StartFailed
            | Self::CrashLoop
            | Self::ExitedEarly
            | Self::OutOfMemory
            | Self::IsolationUnavailable
            | Self::StorageFull => true,
        }
    }

    /// Whether the log of the build says more about it than that of the replicas.
    #[must_use]
    pub const fn is_of_build(self) -> bool {
        matches!(
            self,
            Self::BuildFailed
                | Self::BuildCancelled
                | Self::BuildTimedOut
                | Self::PlanFailed
                | Self::StartCommandMissing
                | Self::SourceUnavailable
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_when_it_is_decided_and_not_before() {
        let check = |phase, reason, expected| {
            assert_eq!(verdict(phase, reason, true), expected, "{phase} {reason:?}");
        };
        check(Phase::Ready, None, Verdict::Done);
        check(Phase::Ready, Some(Reason::ScaledToZero), Verdict::Done);
        check(Phase::Ready, Some(Reason::RollingOut), Verdict::Wait);
        check(Phase::Failed, Some(Reason::BuildFailed), Verdict::Failed);
        check(Phase::Failed, Some(Reason::Unschedulable), Verdict::Wait);
        check(Phase::Starting, Some(Reason::NotRegistered), Verdict::Wait);
        check(Phase::Failed, Some(Reason::Disconnected), Verdict::Wait);
        check(Phase::Degraded, Some(Reason::CrashLoop), Verdict::Failed);
        check(Phase::Degraded, None, Verdict::Wait);
        check(Phase::Draining, None, Verdict::Wait);
        check(Phase::Suspended, None, Verdict::Done);
    }

    #[test]
    fn a_wait_does_not_end_on_what_is_only_carried_over() {
        assert_eq!(verdict(Phase::Ready, None, false), Verdict::Wait);
        assert!(is_carried_over("HostConnected", false));
        assert!(!is_carried_over("HostConnected", true));
        assert!(
            !is_carried_over("Isolated", false),
            "it is known, and no better"
        );
    }

    #[test]
    fn what_a_build_ends_with_is_final() {
        for reason in Reason::ALL.iter().filter(|reason| reason.is_of_build()) {
            assert!(reason.is_final(), "{reason}");
        }
    }
}
