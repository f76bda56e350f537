//! What the end of a process means: for the restart policy, and in words.

use parallax_core::backoff;
use parallax_core::replica::Exit;
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_shim::record::{ExitCause, ExitRecord};

use super::record::{LastEnd, Progress};
use crate::link::End;

/// What the host has killed a process for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Excess {
    /// Bytes of memory that it was seen to use.
    pub(crate) used: u64,
    /// Bytes that it may use.
    pub(crate) limit: u64,
}

/// Adds the end of `incarnation` to a replica's record. `wanted` is whether the replica was meant
/// to go on; `started_at` is when its process began, where that is known.
pub(crate) fn account(
    progress: &Progress,
    incarnation: u64,
    end: &End,
    wanted: bool,
    excess: Option<Excess>,
    started_at: Option<Timestamp>,
    now: Timestamp,
) -> Progress {
    let mut next = progress.clone();
    next.accounted = incarnation;
    let mut last = describe(end, wanted, now);
    if let Some(excess) = excess {
        last = overdrawn(last, excess);
    }
    if last.on_purpose {
        next.crashes = 0;
    } else {
        let ran = started_at.map(|started| last.at.since(started));
        let forgiven = ran.is_some_and(|ran| ran >= backoff::FORGIVEN_AFTER);
        next.crashes = if forgiven {
            1
        } else {
            next.crashes.saturating_add(1)
        };
    }
    // A loop is worth more attention than how its last round ended, unless that has a name.
    let plain = matches!(last.reason, None | Some(Reason::CrashLoop));
    if !last.on_purpose && plain && next.crashes >= backoff::CRASH_LOOP_AFTER {
        last.reason = Some(Reason::CrashLoop);
        last.message = format!("{} crashes in a row; {}", next.crashes, last.message);
    }
    next.last = Some(last);
    next
}

/// Adds a start that failed before there was a process or a record of one.
pub(crate) fn account_failed_start(
    progress: &Progress,
    incarnation: u64,
    reason: Reason,
    message: String,
    now: Timestamp,
) -> Progress {
    let mut next = progress.clone();
    next.accounted = incarnation;
    next.crashes = next.crashes.saturating_add(1);
    next.last = Some(LastEnd {
        exit: None,
        at: now,
        reason: Some(reason),
        message,
        on_purpose: false,
        recorded: true,
    });
    next
}

fn describe(end: &End, wanted: bool, now: Timestamp) -> LastEnd {
    let record = match end {
        End::Recorded(record) => record,
        End::Unrecorded => {
            return LastEnd {
                exit: None,
                at: now,
                reason: Some(Reason::ShimLost),
                message: "its shim was killed, so nobody recorded how it ended; what was left of it was killed".to_owned(),
                on_purpose: false,
                recorded: false,
            };
        }
    };
    let exit = exit_of(record);
    let on_purpose = match record.cause {
        ExitCause::Stopped | ExitCause::KilledAfterGrace | ExitCause::Deadline => true,
        ExitCause::Exited => !wanted,
        ExitCause::StartFailed => false,
    };
    let (reason, message) = match (record.cause, &record.start_error) {
        (ExitCause::StartFailed, words) => {
            let words = words.as_deref().unwrap_or("the shim did not say why");
            (Some(Reason::StartFailed), words.to_owned())
        }
        _ if on_purpose => (None, purpose(record, &exit)),
        _ if record.out_of_memory => (Some(Reason::OutOfMemory), exit.to_string()),
        _ if record.code == Some(0) => (Some(Reason::ExitedEarly), early(&exit)),
        _ => (None, exit.to_string()),
    };
    // A command that could not be executed was no process, and nothing of it has ended.
    let was_process = record.cause != ExitCause::StartFailed;
    LastEnd {
        at: exit.ended_at,
        exit: was_process.then_some(exit),
        reason,
        message,
        on_purpose,
        recorded: true,
    }
}

/// An end by the host's hand that the agent's own growth has brought about.
fn overdrawn(last: LastEnd, excess: Excess) -> LastEnd {
    let Excess { used, limit } = excess;
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    LastEnd {
        reason: Some(Reason::OutOfMemory),
        message: format!(
            "killed by its host: it was seen to use {} MiB of memory, and may use {} MiB; {}",
            mib(used),
            mib(limit),
            last.message
        ),
        on_purpose: false,
        exit: last.exit.map(|exit| Exit {
            out_of_memory: true,
            ..exit
        }),
        ..last
    }
}

fn purpose(record: &ExitRecord, exit: &Exit) -> String {
    match record.cause {
        ExitCause::KilledAfterGrace => format!("killed after its grace; {exit}"),
        _ => exit.to_string(),
    }
}

fn early(exit: &Exit) -> String {
    format!("the start command ended although an agent should stay: {exit}")
}

/// The recorded end as the domain has it.
pub(crate) fn exit_of(record: &ExitRecord) -> Exit {
    Exit {
        code: record.code,
        signal: record.signal,
        out_of_memory: record.out_of_memory,
        ended_at: Timestamp::from_unix_micros(
            i64::try_from(record.ended_unix_us).unwrap_or(i64::MAX),
        ),
        last_log_line: record.last_log_line.clone(),
    }
}

#[cfg(test)]
mod tests;
