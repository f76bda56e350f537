//! The agent's loop: frames, commands and ends of slow tasks.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use parallax_proto::v1::{
    Cancel, CancelAck, Confidence, Credit, Drain, Evidence, Heartbeat, InventoryItem, Partial,
    Payload, Pong, Progress, Task, TaskAccepted, TaskFailed, TaskRef, TaskResult, Verdict,
    agent_down, agent_up, cancel_ack, goaway, inventory_item, payload, verdict,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::wire::{Event, Identity, Wire};
use super::{AgentError, Behaviour, End, Pace, Reply, Say, Standing};

/// What a handle asks of its agent.
pub(super) enum Command {
    Drop(oneshot::Sender<()>),
    Reconnect {
        token: Option<String>,
        done: oneshot::Sender<Result<(), AgentError>>,
    },
    Release(oneshot::Sender<()>),
    Speak {
        says: Vec<Say>,
        done: oneshot::Sender<()>,
    },
    Drain {
        deadline: Duration,
        done: oneshot::Sender<()>,
    },
}

type Key = (String, u32);

struct Running {
    task: TaskRef,
    input: Option<Payload>,
    /// The partials that were sent of it.
    partials: u64,
    /// The timer of a slow task.
    timer: Option<AbortHandle>,
}

struct Unacknowledged {
    task: TaskRef,
    end: agent_up::Frame,
}

pub(super) struct Actor {
    identity: Identity,
    behaviour: Behaviour,
    wire: Option<Wire>,
    standing: watch::Sender<Standing>,
    running: HashMap<Key, Running>,
    /// In a stable order, which the inventory and the verdicts follow.
    unacknowledged: BTreeMap<Key, Unacknowledged>,
    /// The Goaway that the open session has received.
    farewell: Option<End>,
    /// Each ends with the key of the slow task that is due; the actor's end aborts them.
    timers: JoinSet<Key>,
}

impl Actor {
    pub(super) async fn connect(
        identity: Identity,
        behaviour: Behaviour,
    ) -> Result<(Self, watch::Receiver<Standing>), AgentError> {
        let wire = Wire::dial(&identity, &behaviour, behaviour.concurrency, Vec::new()).await?;
        let lease_epoch = wire.welcome.lease_epoch;
        let (standing, watched) = watch::channel(Standing::Connected { lease_epoch });

        let actor = Self {
            identity,
            behaviour,
            wire: Some(wire),
            standing,
            running: HashMap::new(),
            unacknowledged: BTreeMap::new(),
            farewell: None,
            timers: JoinSet::new(),
        };
        Ok((actor, watched))
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => break,
                },
                event = next_event(&mut self.wire) => self.handle(event).await,
                Some(rang) = self.timers.join_next() => {
                    // The timer of a cancelled task ends with an error.
                    if let Ok(key) = rang {
                        self.finish(&key).await;
                    }
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        // A handle that stopped waiting needs no answer.
        match command {
            Command::Drop(done) => {
                self.wire = None;
                self.standing.send_replace(Standing::Away(End::Dropped));
                let _ = done.send(());
            }
            Command::Reconnect { token, done } => {
                if let Some(token) = token {
                    self.identity.token = token;
                }
                let _ = done.send(self.reconnect().await);
            }
            Command::Release(done) => {
                let held: Vec<Key> = self.running.keys().cloned().collect();
                for key in held {
                    self.finish(&key).await;
                }
                let _ = done.send(());
            }
            Command::Speak { says, done } => {
                let held: Vec<Key> = self.running.keys().cloned().collect();
                for key in held {
                    self.speak(&key, &says).await;
                }
                let _ = done.send(());
            }
            Command::Drain { deadline, done } => {
                let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
                self.send(agent_up::Frame::Drain(Drain { deadline_ms }))
                    .await;
                let _ = done.send(());
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Frame(frame) => self.read(frame).await,
            Event::BeatDue => self.beat().await,
            Event::Ended(end) => {
                self.wire = None;
                let end = self.farewell.take().unwrap_or(end);
                self.standing.send_replace(Standing::Away(end));
            }
        }
    }

    async fn beat(&self) {
        let Some(wire) = &self.wire else { return };
        if !self.behaviour.beats {
            return;
        }
        wire.send(agent_up::Frame::Heartbeat(Heartbeat {
            lease_epoch: wire.welcome.lease_epoch,
            inflight: u32::try_from(self.running.len()).unwrap_or(u32::MAX),
            load_ppm: None,
        }))
        .await;
    }

    async fn read(&mut self, frame: agent_down::Frame) {
        use agent_down::Frame;
        match frame {
            Frame::Task(task) => self.take(task).await,
            Frame::ResultAck(ack) => {
                if let Some(task) = ack.r#ref {
                    self.unacknowledged.remove(&key(&task));
                }
            }
            Frame::Cancel(cancel) => self.cancel(cancel).await,
            Frame::Ping(ping) => {
                if self.behaviour.beats {
                    let pong = Pong { nonce: ping.nonce };
                    self.send(agent_up::Frame::Pong(pong)).await;
                }
            }
            Frame::Goaway(goaway) => {
                let reason = goaway.reason();
                self.farewell = Some(End::Goaway {
                    reason,
                    message: goaway.message,
                });
                if reason == goaway::Reason::Drained {
                    // Closing first tells the server that the Goaway arrived.
                    self.handle_end().await;
                }
            }
            Frame::Welcome(_) | Frame::Input(_) | Frame::PartialCredit(_) => {}
        }
    }

    async fn handle_end(&mut self) {
        Box::pin(self.handle(Event::Ended(End::Closed))).await;
    }

    async fn take(&mut self, task: Task) {
        let Some(named) = task.r#ref else { return };
        if !self.behaviour.accepts {
            return;
        }
        let accepted = TaskAccepted {
            r#ref: Some(named.clone()),
        };
        self.send(agent_up::Frame::Accepted(accepted)).await;
        self.behaviour
            .tally
            .count_start(&named.task_id, named.attempt);
        let key = key(&named);
        let timer = match self.behaviour.pace {
            Pace::AtOnce | Pace::OnRelease => None,
            Pace::After(delay) => Some(self.wake_after(delay, key.clone())),
        };
        let running = Running {
            task: named,
            input: task.input,
            partials: 0,
            timer,
        };
        self.running.insert(key.clone(), running);
        let says = self.behaviour.says.clone();
        self.speak(&key, &says).await;
        if self.behaviour.pace == Pace::AtOnce {
            self.finish(&key).await;
        }
    }

    async fn speak(&mut self, key: &Key, says: &[Say]) {
        for say in says {
            let Some(running) = self.running.get_mut(key) else {
                return;
            };
            let r#ref = Some(running.task.clone());
            let frame = match say {
                Say::Progress(ppm, message) => agent_up::Frame::Progress(Progress {
                    r#ref,
                    ppm: *ppm,
                    message: message.clone(),
                }),
                Say::Partial(chunk) => {
                    running.partials += 1;
                    agent_up::Frame::Partial(Partial {
                        r#ref,
                        seq: running.partials,
                        chunk: chunk.clone().into(),
                    })
                }
            };
            self.send(frame).await;
        }
    }

    fn wake_after(&mut self, delay: Duration, key: Key) -> AbortHandle {
        self.timers.spawn(async move {
            tokio::time::sleep(delay).await;
            key
        })
    }

    async fn finish(&mut self, key: &Key) {
        let Some(running) = self.running.remove(key) else {
            return; // Cancelled while its timer rang.
        };
        stop_timer(&running);
        self.behaviour.tally.count_finish(&key.0);
        let task = running.task.clone();
        let end = self.outcome(running);
        self.send(with_credit(end.clone(), 1)).await;
        self.unacknowledged
            .insert(key.clone(), Unacknowledged { task, end });
    }

    fn outcome(&self, running: Running) -> agent_up::Frame {
        let value = match &self.behaviour.reply {
            Reply::Echo => running.input,
            Reply::Value(value) => Some(json(value)),
            Reply::Supported {
                value,
                confidence: (ppm, source),
                evidence,
            } => {
                let evidence = evidence.iter().map(|(kind, summary)| Evidence {
                    kind: kind.clone(),
                    summary: summary.clone(),
                    ..Evidence::default()
                });
                return agent_up::Frame::Result(TaskResult {
                    r#ref: Some(running.task),
                    value: Some(json(value)),
                    confidence: Some(Confidence {
                        ppm: *ppm,
                        source: source.clone(),
                    }),
                    evidence: evidence.collect(),
                    ..TaskResult::default()
                });
            }
            Reply::Failure {
                code,
                message,
                retryable,
            } => {
                return agent_up::Frame::Failed(TaskFailed {
                    r#ref: Some(running.task),
                    code: code.clone(),
                    message: message.clone(),
                    retryable: *retryable,
                    retry_after_ms: 0,
                    credit: 0,
                });
            }
        };
        agent_up::Frame::Result(TaskResult {
            r#ref: Some(running.task),
            value,
            ..TaskResult::default()
        })
    }

    async fn cancel(&mut self, cancel: Cancel) {
        let (Some(task), true) = (cancel.r#ref, self.behaviour.heeds_cancel) else {
            return;
        };
        let key = key(&task);
        let stopped = self.stop(&key);
        let outcome = if stopped {
            cancel_ack::Outcome::Stopped
        } else if self.unacknowledged.contains_key(&key) {
            cancel_ack::Outcome::TooLate
        } else {
            cancel_ack::Outcome::Unknown
        };
        let ack = CancelAck {
            r#ref: Some(task),
            outcome: outcome.into(),
        };
        self.send(agent_up::Frame::CancelAck(ack)).await;
        if stopped {
            self.send(agent_up::Frame::Credit(Credit { n: 1 })).await;
        }
    }

    fn stop(&mut self, key: &Key) -> bool {
        let Some(running) = self.running.remove(key) else {
            return false;
        };
        stop_timer(&running);
        self.behaviour.tally.count_cancel(&key.0);
        true
    }

    async fn reconnect(&mut self) -> Result<(), AgentError> {
        self.wire = None;
        self.farewell = None;
        let running = self.running.values().map(|running| (&running.task, true));
        let finished = self.unacknowledged.values().map(|kept| (&kept.task, false));
        let inventory = running
            .chain(finished)
            .map(|(task, runs)| item(task, runs))
            .collect();
        let busy = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let credit = self.behaviour.concurrency.saturating_sub(busy);
        let wire = Wire::dial(&self.identity, &self.behaviour, credit, inventory).await?;
        let verdicts = wire.welcome.verdicts.clone();
        let lease_epoch = wire.welcome.lease_epoch;
        self.wire = Some(wire);
        for verdict in verdicts {
            self.follow(verdict).await;
        }
        self.standing
            .send_replace(Standing::Connected { lease_epoch });
        Ok(())
    }

    async fn follow(&mut self, verdict: Verdict) {
        let Some(task) = verdict.r#ref else { return };
        let key = key(&task);
        match verdict.verdict {
            Some(verdict::Verdict::SendResult(_)) => {
                if let Some(kept) = self.unacknowledged.get(&key) {
                    // Without credit: Hello has restated it.
                    self.send(kept.end.clone()).await;
                }
            }
            Some(verdict::Verdict::Cancel(_) | verdict::Verdict::Forget(_)) => {
                self.unacknowledged.remove(&key);
                if self.stop(&key) {
                    self.send(agent_up::Frame::Credit(Credit { n: 1 })).await;
                }
            }
            Some(verdict::Verdict::Keep(_)) | None => {}
        }
    }

    async fn send(&self, frame: agent_up::Frame) {
        if let Some(wire) = &self.wire {
            wire.send(frame).await;
        }
    }
}

async fn next_event(wire: &mut Option<Wire>) -> Event {
    match wire {
        Some(wire) => wire.next().await,
        None => std::future::pending().await,
    }
}

fn json(value: &Value) -> Payload {
    let text = value.to_string().into_bytes();
    Payload {
        content: Some(payload::Content::Json(text.into())),
    }
}

fn stop_timer(running: &Running) {
    if let Some(timer) = &running.timer {
        timer.abort();
    }
}

fn with_credit(mut end: agent_up::Frame, credit: u32) -> agent_up::Frame {
    match &mut end {
        agent_up::Frame::Result(result) => result.credit = credit,
        agent_up::Frame::Failed(failed) => failed.credit = credit,
        _ => {}
    }
    end
}

fn item(task: &TaskRef, runs: bool) -> InventoryItem {
    let state = if runs {
        inventory_item::State::Running
    } else {
        inventory_item::State::Finished
    };
    InventoryItem {
        r#ref: Some(task.clone()),
        state: state.into(),
        last_up_seq: 0,
    }
}

fn key(task: &TaskRef) -> Key {
    (task.task_id.clone(), task.attempt)
}
