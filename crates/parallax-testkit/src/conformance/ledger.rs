//! The rules that hold in every session, checked at each frame whatever the case is about.

use std::collections::HashMap;

use parallax_proto::v1::{
    CancelAck, Credit, Hello, Limits, Partial, Progress, TaskFailed, TaskRef, TaskResult, agent_up,
    cancel_ack, payload,
};
use prost::Message;

use super::breach::{Breach, check};
use super::frames::{ref_name, ref_of};

/// What the server knows of one session: credit, tasks, windows.
#[derive(Debug)]
pub struct Ledger {
    limits: Limits,
    epoch: u64,
    /// The fixture's concurrency: open credit and running tasks never exceed it together.
    concurrency: u32,
    open_credit: u32,
    tasks: HashMap<(String, u32), Entry>,
}

#[derive(Debug)]
struct Entry {
    task: TaskRef,
    accepted: bool,
    ended: bool,
    last_seq: u64,
    window_left: u64,
}

impl Ledger {
    pub(super) fn open(hello: &Hello, limits: Limits, epoch: u64, concurrency: u32) -> Self {
        Self {
            open_credit: hello.credit.min(limits.max_credit),
            limits,
            epoch,
            concurrency,
            tasks: HashMap::new(),
        }
    }

    /// Tasks that the server may still give.
    #[must_use]
    pub fn open_credit(&self) -> u32 {
        self.open_credit
    }

    /// Tasks that were given or kept and have not ended.
    #[must_use]
    pub fn running(&self) -> u32 {
        let running = self.tasks.values().filter(|entry| !entry.ended).count();
        u32::try_from(running).expect("a case gives a handful of tasks")
    }

    pub(super) fn gave(&mut self, task: &TaskRef) {
        self.open_credit = self.open_credit.saturating_sub(1);
        self.enter(task, false, 0);
    }

    pub(super) fn kept(&mut self, task: &TaskRef, after_seq: u64) {
        self.enter(task, true, after_seq);
    }

    pub(super) fn asked_again(&mut self, task: &TaskRef) {
        self.enter(task, true, 0);
    }

    pub(super) fn granted_window(&mut self, task: &TaskRef, bytes: u32) {
        if let Some(entry) = self.tasks.get_mut(&key(task)) {
            entry.window_left += u64::from(bytes);
        }
    }

    fn enter(&mut self, task: &TaskRef, accepted: bool, last_seq: u64) {
        let entry = Entry {
            task: task.clone(),
            accepted,
            ended: false,
            last_seq,
            window_left: u64::from(self.limits.partial_window_bytes),
        };
        self.tasks.insert(key(task), entry);
    }

    /// Books a frame of the agent.
    ///
    /// # Errors
    /// The rule that the frame breaks.
    pub(super) fn book(&mut self, frame: &agent_up::Frame) -> Result<(), Breach> {
        use agent_up::Frame;
        let up = parallax_proto::v1::AgentUp {
            frame: Some(frame.clone()),
        };
        let size = up.encoded_len();
        check(
            size <= self.limits.max_frame_bytes as usize,
            "no frame is larger than Limits.max_frame_bytes",
            || format!("sent a frame of {size} bytes"),
        )?;
        match frame {
            Frame::Hello(_) => Err(Breach::new(
                "Hello is the first frame of a session, and comes once",
                "sent a second Hello",
            )),
            Frame::Credit(Credit { n }) => self.grant(*n),
            Frame::Accepted(_) => self.accept(frame),
            Frame::Progress(progress) => self.progress(frame, progress),
            Frame::Partial(partial) => self.partial(frame, partial),
            Frame::Result(result) => self.result(frame, result),
            Frame::Failed(failed) => self.failed(frame, failed),
            Frame::CancelAck(ack) => self.cancel_ack(ack),
            Frame::Heartbeat(beat) => {
                let epoch = self.epoch;
                check(
                    beat.lease_epoch == epoch,
                    "Heartbeat.lease_epoch is the Welcome's lease_epoch",
                    || {
                        format!(
                            "sent epoch {} in a session of epoch {epoch}",
                            beat.lease_epoch
                        )
                    },
                )
            }
            Frame::Drain(_) | Frame::Pong(_) => Ok(()),
        }
    }

    fn grant(&mut self, credit: u32) -> Result<(), Breach> {
        self.open_credit += credit;
        let (open, running) = (self.open_credit, self.running());
        check(
            open + running <= self.concurrency,
            "open credit and running tasks together never exceed the agent's concurrency \
             (a resent result grants nothing: Hello restated the credit)",
            || {
                format!(
                    "granted {credit}: {open} open and {running} running, with a concurrency of {}",
                    self.concurrency
                )
            },
        )?;
        check(
            open <= self.limits.max_credit,
            "never asks for more than Limits.max_credit",
            || format!("has {open} open, the limit is {}", self.limits.max_credit),
        )
    }

    /// The entry of a running task that `frame` names in full.
    fn running_entry(&mut self, frame: &agent_up::Frame) -> Result<&mut Entry, Breach> {
        let named = ref_of(frame);
        let kind = kind(frame);
        let Some(entry) = named.and_then(|task| self.tasks.get_mut(&key(task))) else {
            return Err(Breach::new(
                "frames name a task and attempt that the server gave in this session or kept",
                format!("sent {kind} for {}", ref_name(named)),
            ));
        };
        check(
            named == Some(&entry.task),
            "TaskRef is echoed whole: task_id, attempt, run and step",
            || format!("answered {:?} with {kind} for {named:?}", entry.task),
        )?;
        check(
            !entry.ended,
            "nothing follows the end of a task, and a task ends once",
            || format!("sent {kind} for {}, which had ended", ref_name(named)),
        )?;
        Ok(entry)
    }

    fn accept(&mut self, frame: &agent_up::Frame) -> Result<(), Breach> {
        let entry = self.running_entry(frame)?;
        check(!entry.accepted, "TaskAccepted comes once", || {
            format!("accepted {} twice", ref_name(Some(&entry.task)))
        })?;
        entry.accepted = true;
        Ok(())
    }

    fn accepted_entry(&mut self, frame: &agent_up::Frame) -> Result<&mut Entry, Breach> {
        let entry = self.running_entry(frame)?;
        check(
            entry.accepted,
            "TaskAccepted comes before the handler starts, so before all else of the task",
            || format!("sent {} for a task that it had not accepted", kind(frame)),
        )?;
        Ok(entry)
    }

    fn progress(&mut self, frame: &agent_up::Frame, progress: &Progress) -> Result<(), Breach> {
        self.accepted_entry(frame)?;
        check(
            progress.ppm.is_none_or(|ppm| ppm <= 1_000_000),
            "Progress.ppm is at most 1 000 000",
            || format!("sent {:?}", progress.ppm),
        )
    }

    fn partial(&mut self, frame: &agent_up::Frame, partial: &Partial) -> Result<(), Breach> {
        let entry = self.accepted_entry(frame)?;
        let expected = entry.last_seq + 1;
        check(
            partial.seq == expected,
            "Partial.seq counts from 1 without holes, and goes on after keep.after_seq",
            || format!("sent seq {} where {expected} was due", partial.seq),
        )?;
        entry.last_seq = partial.seq;
        let bytes = partial.chunk.len() as u64;
        check(
            bytes <= entry.window_left,
            "Partial bytes stay within Limits.partial_window_bytes until PartialCredit arrives",
            || {
                format!(
                    "sent a chunk of {bytes} bytes with {} bytes of window left",
                    entry.window_left
                )
            },
        )?;
        entry.window_left -= bytes;
        Ok(())
    }

    fn result(&mut self, frame: &agent_up::Frame, result: &TaskResult) -> Result<(), Breach> {
        self.accepted_entry(frame)?.ended = true;
        let content = result
            .value
            .as_ref()
            .and_then(|value| value.content.as_ref());
        let inline_limit = self.limits.max_inline_bytes as usize;
        if let Some(payload::Content::Json(json)) = content {
            check(
                json.len() <= inline_limit,
                "values above Limits.max_inline_bytes go through BlobService.Put",
                || {
                    format!(
                        "sent {} bytes inline, the limit is {inline_limit}",
                        json.len()
                    )
                },
            )?;
            check(
                serde_json::from_slice::<serde_json::Value>(json).is_ok(),
                "Payload.json is UTF-8 JSON",
                || format!("sent {json:?}"),
            )?;
        }
        if let Some(confidence) = &result.confidence {
            check(
                confidence.ppm <= 1_000_000 && !confidence.source.is_empty(),
                "Confidence has a ppm of at most 1 000 000 and says its source",
                || format!("sent {confidence:?}"),
            )?;
        }
        self.grant(result.credit)
    }

    fn failed(&mut self, frame: &agent_up::Frame, failed: &TaskFailed) -> Result<(), Breach> {
        // A task that never started, say of an unknown capability, may fail without TaskAccepted.
        self.running_entry(frame)?.ended = true;
        check(
            !failed.code.is_empty(),
            "TaskFailed.code is the agent's own stable word",
            || "sent an empty code".to_owned(),
        )?;
        self.grant(failed.credit)
    }

    fn cancel_ack(&mut self, ack: &CancelAck) -> Result<(), Breach> {
        let outcome = ack.outcome();
        check(
            outcome != cancel_ack::Outcome::Unspecified,
            "CancelAck says stopped, too_late or unknown",
            || "sent OUTCOME_UNSPECIFIED".to_owned(),
        )?;
        let entry = ack
            .r#ref
            .as_ref()
            .and_then(|task| self.tasks.get_mut(&key(task)));
        if let (cancel_ack::Outcome::Stopped, Some(entry)) = (outcome, entry) {
            check(
                !entry.ended,
                "CancelAck{stopped} means that the work ended without a result",
                || {
                    format!(
                        "sent it for {}, whose end it had reported",
                        ref_name(Some(&entry.task))
                    )
                },
            )?;
            entry.ended = true;
        }
        Ok(())
    }
}

fn key(task: &TaskRef) -> (String, u32) {
    (task.task_id.clone(), task.attempt)
}

fn kind(frame: &agent_up::Frame) -> &'static str {
    use agent_up::Frame;
    match frame {
        Frame::Hello(_) => "Hello",
        Frame::Credit(_) => "Credit",
        Frame::Accepted(_) => "TaskAccepted",
        Frame::Progress(_) => "Progress",
        Frame::Partial(_) => "Partial",
        Frame::Result(_) => "TaskResult",
        Frame::Failed(_) => "TaskFailed",
        Frame::CancelAck(_) => "CancelAck",
        Frame::Heartbeat(_) => "Heartbeat",
        Frame::Drain(_) => "Drain",
        Frame::Pong(_) => "Pong",
    }
}

#[cfg(test)]
mod tests;
