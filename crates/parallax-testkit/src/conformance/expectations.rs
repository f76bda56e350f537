//! What cases wait for, in their words.

use anyhow::bail;
use parallax_proto::v1::{
    CancelAck, Drain, Evidence, Heartbeat, Partial, Progress, TaskFailed, TaskRef, TaskResult,
    agent_up, cancel_ack,
};
use serde_json::Value;
use tokio::time::Instant;

use super::PATIENCE;
use super::breach::{Breach, check};
use super::frames::{json_of, ref_of};
use super::link::{Heard, Link};

impl Link {
    /// Waits for the first frame that `pick` takes, and removes it from the mailbox.
    ///
    /// Frames that it does not take stay for later calls, in order.
    ///
    /// # Errors
    /// A [`Breach`] of `wanted` when none comes, or of a rule that another frame breaks.
    pub async fn await_frame<T>(
        &mut self,
        wanted: &str,
        mut pick: impl FnMut(&agent_up::Frame) -> Option<T>,
    ) -> Result<T, Breach> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            while let Some(frame) = self.mailbox.get(seen) {
                if let Some(picked) = pick(frame) {
                    self.mailbox.remove(seen);
                    return Ok(picked);
                }
                seen += 1;
            }
            let did = match self.hear(deadline).await? {
                Heard::Frame => continue,
                Heard::Silence => format!("did not within {PATIENCE:?}"),
                Heard::Ended(how) => how,
            };
            let others: Vec<_> = self.mailbox.iter().collect();
            return Err(Breach::new(
                wanted,
                format!("{did}; frames that nothing had asked for: {others:?}"),
            ));
        }
    }

    /// Waits until the agent has accepted the task.
    ///
    /// # Errors
    /// As [`Link::await_frame`].
    pub async fn accepted(&mut self, task: &TaskRef) -> Result<(), Breach> {
        self.await_frame(
            "TaskAccepted before the handler starts",
            |frame| match frame {
                agent_up::Frame::Accepted(accepted) => {
                    (accepted.r#ref.as_ref() == Some(task)).then_some(())
                }
                _ => None,
            },
        )
        .await
    }

    /// Waits for the task's result.
    ///
    /// # Errors
    /// As [`Link::await_frame`], and when the task fails.
    pub async fn result_of(&mut self, task: &TaskRef) -> Result<TaskResult, Breach> {
        match self.end_of(task, "TaskResult").await? {
            Ok(result) => Ok(result),
            Err(failed) => Err(Breach::new("TaskResult", format!("sent {failed:?}"))),
        }
    }

    /// Waits for the task's result and acknowledges it.
    ///
    /// # Errors
    /// As [`Link::result_of`], and when the value is not inline JSON.
    pub async fn value_of(&mut self, task: &TaskRef) -> anyhow::Result<Value> {
        let result = self.result_of(task).await?;
        self.acknowledge(task).await?;
        json_of(result.value.as_ref())
    }

    /// Waits for the task's failure.
    ///
    /// # Errors
    /// As [`Link::await_frame`], and when the task succeeds.
    pub async fn failure_of(&mut self, task: &TaskRef) -> Result<TaskFailed, Breach> {
        match self.end_of(task, "TaskFailed").await? {
            Err(failed) => Ok(*failed),
            Ok(result) => Err(Breach::new("TaskFailed", format!("sent {result:?}"))),
        }
    }

    /// Waits for the task's result or failure.
    ///
    /// # Errors
    /// As [`Link::await_frame`].
    pub async fn end_of(
        &mut self,
        task: &TaskRef,
        wanted: &str,
    ) -> Result<Result<TaskResult, Box<TaskFailed>>, Breach> {
        self.await_frame(wanted, |frame| match frame {
            agent_up::Frame::Result(result) => {
                (result.r#ref.as_ref() == Some(task)).then(|| Ok(result.clone()))
            }
            agent_up::Frame::Failed(failed) => {
                (failed.r#ref.as_ref() == Some(task)).then(|| Err(Box::new(failed.clone())))
            }
            _ => None,
        })
        .await
    }

    /// Waits for the task's next partial.
    ///
    /// # Errors
    /// As [`Link::await_frame`].
    pub async fn partial_of(&mut self, task: &TaskRef) -> Result<Partial, Breach> {
        self.await_frame("Partial", |frame| match frame {
            agent_up::Frame::Partial(partial) => {
                (partial.r#ref.as_ref() == Some(task)).then(|| partial.clone())
            }
            _ => None,
        })
        .await
    }

    /// Waits for the task's next progress.
    ///
    /// # Errors
    /// As [`Link::await_frame`].
    pub async fn progress_of(&mut self, task: &TaskRef) -> Result<Progress, Breach> {
        self.await_frame("Progress", |frame| match frame {
            agent_up::Frame::Progress(progress) => {
                (progress.r#ref.as_ref() == Some(task)).then(|| progress.clone())
            }
            _ => None,
        })
        .await
    }

    /// Waits for the answer to a cancel.
    ///
    /// # Errors
    /// As [`Link::await_frame`].
    pub async fn cancel_ack_of(&mut self, task: &TaskRef) -> Result<cancel_ack::Outcome, Breach> {
        self.await_frame("CancelAck", |frame| match frame {
            agent_up::Frame::CancelAck(ack) => {
                (ack.r#ref.as_ref() == Some(task)).then(|| CancelAck::outcome(ack))
            }
            _ => None,
        })
        .await
    }

    /// Waits for a heartbeat.
    ///
    /// # Errors
    /// As [`Link::await_frame`].
    pub async fn heartbeat(&mut self) -> Result<Heartbeat, Breach> {
        self.await_frame("Heartbeat, at least every ttl/3", |frame| match frame {
            agent_up::Frame::Heartbeat(beat) => Some(*beat),
            _ => None,
        })
        .await
    }

    /// Waits for the agent's wish to stop.
    ///
    /// # Errors
    /// As [`Link::await_frame`].
    pub async fn drain(&mut self) -> Result<Drain, Breach> {
        self.await_frame(
            "Drain once the process is asked to stop",
            |frame| match frame {
                agent_up::Frame::Drain(drain) => Some(*drain),
                _ => None,
            },
        )
        .await
    }

    /// Waits for a Drain (true) or for the end of the session (false).
    ///
    /// # Errors
    /// A [`Breach`] of `wanted` when neither comes.
    pub async fn drain_or_end(&mut self, wanted: &str) -> Result<bool, Breach> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let drains = |frame: &agent_up::Frame| matches!(frame, agent_up::Frame::Drain(_));
            if self.mailbox.iter().any(drains) {
                return Ok(true);
            }
            match self.hear(deadline).await? {
                Heard::Frame => {}
                Heard::Ended(_) => return Ok(false),
                Heard::Silence => {
                    return Err(Breach::new(
                        wanted,
                        format!("did neither within {PATIENCE:?}"),
                    ));
                }
            }
        }
    }

    /// Sends a Ping and waits for its Pong: what the agent did before has arrived by then.
    ///
    /// # Errors
    /// As [`Link::await_frame`].
    pub async fn round_trip(&mut self) -> anyhow::Result<()> {
        let nonce = 0x5eed_0000_0000_0000 + self.mailbox.len() as u64;
        self.ping(nonce).await?;
        self.await_frame("Pong with the Ping's nonce", |frame| match frame {
            agent_up::Frame::Pong(pong) => (pong.nonce == nonce).then_some(()),
            _ => None,
        })
        .await?;
        Ok(())
    }

    /// Waits until the server may give `credit` further tasks.
    ///
    /// # Errors
    /// A [`Breach`] when the agent does not grant as much.
    pub async fn credit_reaches(&mut self, credit: u32) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.ledger.open_credit() < credit {
            let did = match self.hear(deadline).await? {
                Heard::Frame => continue,
                Heard::Silence => format!("did not within {PATIENCE:?}"),
                Heard::Ended(how) => how,
            };
            bail!(Breach::new(
                format!("credit comes back with each end of a task, here to {credit}"),
                format!("{did}; open credit is {}", self.ledger.open_credit()),
            ));
        }
        Ok(())
    }

    /// Passes when the mailbox holds nothing of the task.
    ///
    /// # Errors
    /// A [`Breach`] of `wanted`.
    pub fn nothing_of(&self, task: &TaskRef, wanted: &str) -> Result<(), Breach> {
        let found = self
            .mailbox
            .iter()
            .find(|frame| ref_of(frame) == Some(task));
        check(found.is_none(), wanted, || format!("sent {found:?}"))
    }
}

/// `kind: summary` of each piece of evidence.
#[must_use]
pub fn evidence_lines(evidence: &[Evidence]) -> Vec<String> {
    evidence
        .iter()
        .map(|piece| format!("{}: {}", piece.kind, piece.summary))
        .collect()
}
