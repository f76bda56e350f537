//! One session as the server sees it: the frames that came, and the frames to send.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, bail};
use parallax_proto::v1::{
    AgentDown, AgentUp, Cancel, CancelVerdict, Forget, Goaway, Hello, Input, InventoryItem, Keep,
    PartialCredit, Payload, Ping, ResultAck, SendResult, TaskRef, Verdict, Welcome, agent_down,
    agent_up, goaway, inventory_item::State, payload, verdict,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use tonic::{Status, Streaming};

use super::breach::{Breach, check};
use super::door::Scissors;
use super::frames::Order;
use super::journal::Journal;
use super::ledger::Ledger;
use super::server::{Call, Terms, down_stream};
use super::{CONNECT_PATIENCE, PATIENCE};

/// Frames that wait for the agent to read them.
const DOWN_QUEUE: usize = 256;

/// An agent that said Hello and waits for its Welcome.
pub struct Arrival {
    /// The first frame.
    pub hello: Hello,
    /// The `authorization` metadata, verbatim.
    pub authorization: Option<String>,
    call: Call,
    terms: Terms,
    epoch: u64,
    concurrency: u32,
    journal: Journal,
}

/// The server's word on one inventory item.
#[derive(Clone, Copy, Debug)]
pub enum Ruling {
    /// Go on; the server has partials up to this number.
    Keep(u64),
    /// Send the finished result again.
    SendResult,
    /// Stop the work.
    Cancel,
    /// Drop it.
    Forget,
}

impl Arrival {
    /// Reads the Hello of a call.
    pub(super) async fn greet(
        mut call: Call,
        terms: Terms,
        epoch: u64,
        concurrency: u32,
        journal: Journal,
    ) -> anyhow::Result<Self> {
        let first = tokio::time::timeout(CONNECT_PATIENCE, call.up.message()).await;
        let Ok(first) = first else {
            bail!(Breach::new(
                "Hello is sent at once when a session opens, without waiting for the server",
                format!("opened a session and sent nothing within {CONNECT_PATIENCE:?}"),
            ));
        };
        let first = first
            .context("the session broke before its Hello")?
            .and_then(|up| up.frame);
        journal.note("agent→", &format!("{first:?}"));
        let Some(agent_up::Frame::Hello(hello)) = first else {
            bail!(Breach::new(
                "Hello is the first frame",
                format!("sent {first:?} first"),
            ));
        };
        Ok(Self {
            hello,
            authorization: call.authorization.clone(),
            call,
            terms,
            epoch,
            concurrency,
            journal,
        })
    }

    /// The only inventory item.
    ///
    /// # Errors
    /// A [`Breach`] when there are none or several.
    pub fn only_item(&self) -> Result<&InventoryItem, Breach> {
        match self.hello.inventory.as_slice() {
            [item] => Ok(item),
            items => Err(Breach::new(
                "the inventory lists each running task and each unacknowledged result, once, \
                 and nothing else; here: one item",
                format!("listed {items:?}"),
            )),
        }
    }

    /// Cuts the TCP connection before the Welcome.
    pub fn cut(self) {
        self.journal
            .note("server", "cuts the connection before its Welcome");
        self.call.scissors.cut();
    }

    /// As [`Arrival::welcome`], by a server that takes `delay` to answer: what happens to the
    /// agent's tasks meanwhile has happened since its Hello.
    ///
    /// # Errors
    /// As [`Arrival::welcome`].
    pub async fn welcome_late(self, delay: Duration, rulings: &[Ruling]) -> anyhow::Result<Link> {
        tokio::time::sleep(delay).await;
        self.welcome(rulings).await
    }

    /// Ends the session with a status in place of a Welcome.
    pub fn refuse(self, status: Status) {
        self.journal
            .note("server→", &format!("refuses: {status:?}"));
        refuse(self.call, status);
    }

    /// Lets the agent in, with one ruling for each inventory item, in order.
    ///
    /// # Errors
    /// When the rulings are not as many as the items, or the agent is gone.
    pub async fn welcome(self, rulings: &[Ruling]) -> anyhow::Result<Link> {
        let items = &self.hello.inventory;
        check(
            rulings.len() == items.len(),
            &format!("an inventory of {} items here", rulings.len()),
            || format!("listed {items:?}"),
        )?;
        let running = items.iter().filter(|item| item.state() == State::Running);
        let running = u32::try_from(running.count()).context("a short inventory")?;
        let credit = self.hello.credit;
        check(
            credit + running <= self.concurrency,
            "Hello.credit and the running tasks of the inventory stay within the concurrency",
            || format!("asked for {credit} with {running} running"),
        )?;
        let limits = self.terms.limits;
        let mut ledger = Ledger::open(&self.hello, limits, self.epoch, self.concurrency);
        for (item, ruling) in items.iter().zip(rulings) {
            let task = item
                .r#ref
                .as_ref()
                .context("an inventory item without ref")?;
            match ruling {
                Ruling::Keep(after_seq) => ledger.kept(task, *after_seq),
                Ruling::SendResult => ledger.asked_again(task),
                Ruling::Cancel | Ruling::Forget => {}
            }
        }
        let welcome = Welcome {
            session_id: format!("con_{}", self.epoch),
            lease_epoch: self.epoch,
            ttl_ms: self.terms.ttl_ms,
            proto_version: 1,
            features: Vec::new(),
            limits: Some(limits),
            verdicts: items.iter().zip(rulings).map(verdict_on).collect(),
        };
        let (down, frames) = mpsc::channel(DOWN_QUEUE);
        self.call
            .reply
            .send(Ok(down_stream(frames)))
            .map_err(|_| Breach::new("the agent waits for its Welcome", "closed the session"))?;
        let mut link = Link {
            hello: self.hello,
            ledger,
            up: self.call.up,
            down,
            scissors: self.call.scissors,
            mailbox: VecDeque::new(),
            journal: self.journal,
            epoch: self.epoch,
            given: 0,
        };
        link.send(agent_down::Frame::Welcome(welcome)).await?;
        Ok(link)
    }
}

pub(super) fn refuse(call: Call, status: Status) {
    // The agent may have hung up already, which is as good as refused.
    let _ = call.reply.send(Err(status));
}

fn verdict_on((item, ruling): (&InventoryItem, &Ruling)) -> Verdict {
    let verdict = match ruling {
        Ruling::Keep(after_seq) => verdict::Verdict::Keep(Keep {
            after_seq: *after_seq,
        }),
        Ruling::SendResult => verdict::Verdict::SendResult(SendResult {}),
        Ruling::Cancel => verdict::Verdict::Cancel(CancelVerdict {
            reason: "nobody waits".to_owned(),
        }),
        Ruling::Forget => verdict::Verdict::Forget(Forget {}),
    };
    Verdict {
        r#ref: item.r#ref.clone(),
        verdict: Some(verdict),
    }
}

/// One session with a welcomed agent.
pub struct Link {
    /// The session's Hello.
    pub hello: Hello,
    pub(super) ledger: Ledger,
    up: Streaming<AgentUp>,
    down: mpsc::Sender<Result<AgentDown, Status>>,
    scissors: Scissors,
    pub(super) mailbox: VecDeque<agent_up::Frame>,
    journal: Journal,
    epoch: u64,
    given: u64,
}

/// What a wait for a frame came to.
pub(super) enum Heard {
    /// A frame came and is the newest in the mailbox.
    Frame,
    /// The deadline passed.
    Silence,
    /// The session ended, in these words.
    Ended(String),
}

impl Link {
    /// What is open and running.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Gives a task, waiting for credit when there is none.
    ///
    /// # Errors
    /// When no credit comes or the session is over.
    pub async fn give(&mut self, order: Order) -> anyhow::Result<TaskRef> {
        self.credit_reaches(1).await?;
        let mut task = order.task;
        self.given += 1;
        let id = format!("tsk_{}_{}", self.epoch, self.given);
        let named = task.r#ref.get_or_insert_default();
        named.attempt = named.attempt.max(1);
        named.run = format!("run_of_{id}");
        named.step = "stęp 1".to_owned();
        named.task_id.clone_from(&id);
        let named = named.clone();
        task.idempotency_key = format!("key_of_{id}");
        self.ledger.gave(&named);
        self.send(agent_down::Frame::Task(task)).await?;
        Ok(named)
    }

    /// Gives a task for `capability` with an inline JSON input.
    ///
    /// # Errors
    /// As [`Link::give`].
    pub async fn ask(&mut self, capability: &str, input: Value) -> anyhow::Result<TaskRef> {
        self.give(Order::of(capability, &input)).await
    }

    /// Acknowledges a result.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn acknowledge(&mut self, task: &TaskRef) -> anyhow::Result<()> {
        let ack = ResultAck {
            r#ref: Some(task.clone()),
        };
        self.send(agent_down::Frame::ResultAck(ack)).await
    }

    /// Asks the agent to stop a task.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn cancel(&mut self, task: &TaskRef, grace: Duration) -> anyhow::Result<()> {
        let cancel = Cancel {
            r#ref: Some(task.clone()),
            reason: "the caller left".to_owned(),
            grace_ms: u64::try_from(grace.as_millis()).expect("a grace is short"),
        };
        self.send(agent_down::Frame::Cancel(cancel)).await
    }

    /// Sends a running task an input.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn input(&mut self, task: &TaskRef, value: &Value) -> anyhow::Result<()> {
        let json = value.to_string().into_bytes();
        let input = Input {
            r#ref: Some(task.clone()),
            id: "inp_1".to_owned(),
            value: Some(Payload {
                content: Some(payload::Content::Json(json.into())),
            }),
        };
        self.send(agent_down::Frame::Input(input)).await
    }

    /// Lets a task send further bytes of Partial.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn widen(&mut self, task: &TaskRef, bytes: u32) -> anyhow::Result<()> {
        self.ledger.granted_window(task, bytes);
        let credit = PartialCredit {
            r#ref: Some(task.clone()),
            bytes,
        };
        self.send(agent_down::Frame::PartialCredit(credit)).await
    }

    /// Asks for a sign of life.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn ping(&mut self, nonce: u64) -> anyhow::Result<()> {
        self.send(agent_down::Frame::Ping(Ping { nonce })).await
    }

    /// Says Goaway; the stream stays open until [`Link::close`] or the agent's own end.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn goaway(&mut self, reason: goaway::Reason, after_ms: u64) -> anyhow::Result<()> {
        let goaway = Goaway {
            reason: reason.into(),
            message: format!("the case says {}", reason.as_str_name()),
            reconnect_after_ms: after_ms,
        };
        self.send(agent_down::Frame::Goaway(goaway)).await
    }

    /// Sends a frame without content: what a frame of a newer protocol looks like to the agent.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn send_unknown(&mut self) -> anyhow::Result<()> {
        self.journal.note("server→", "a frame of an unknown kind");
        self.post(Ok(AgentDown { frame: None })).await
    }

    /// Sends any frame.
    ///
    /// # Errors
    /// When the session is over.
    pub async fn send(&mut self, frame: agent_down::Frame) -> anyhow::Result<()> {
        self.journal.note("server→", &format!("{frame:?}"));
        self.post(Ok(AgentDown { frame: Some(frame) })).await
    }

    /// Ends the session with a status.
    ///
    /// # Errors
    /// When it was over already.
    pub async fn fail(self, status: Status) -> anyhow::Result<()> {
        self.journal.note("server→", &format!("{status:?}"));
        self.post(Err(status)).await
    }

    /// Ends the stream well.
    pub fn close(self) {
        self.journal.note("server→", "closes the stream");
    }

    /// Cuts the TCP connection, as a failing network does.
    pub fn cut(self) {
        self.journal.note("server", "cuts the connection");
        self.scissors.cut();
    }

    /// Lets nothing through any more while the connection looks open: a network that swallows
    /// packets, or a host that lost its power.
    pub fn freeze(self) {
        self.journal.note("server", "freezes the connection");
        self.scissors.freeze();
    }

    async fn post(&self, frame: Result<AgentDown, Status>) -> anyhow::Result<()> {
        match tokio::time::timeout(PATIENCE, self.down.send(frame)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => bail!(Breach::new(
                "the agent keeps the session open",
                "closed the session",
            )),
            Err(_) => bail!(Breach::new(
                "the agent reads its frames",
                format!("read nothing for {PATIENCE:?}"),
            )),
        }
    }

    /// Takes one frame off the wire, books it and keeps it.
    pub(super) async fn hear(&mut self, deadline: Instant) -> Result<Heard, Breach> {
        let frame = match tokio::time::timeout_at(deadline, self.up.message()).await {
            Err(_) => return Ok(Heard::Silence),
            Ok(Ok(Some(AgentUp { frame: Some(frame) }))) => frame,
            Ok(Ok(Some(AgentUp { frame: None }))) => {
                return Err(Breach::new(
                    "every AgentUp carries a frame of the contract",
                    "sent an empty one",
                ));
            }
            Ok(Ok(None)) => return Ok(Heard::Ended("ended the stream".to_owned())),
            Ok(Err(status)) => {
                return Ok(Heard::Ended(format!(
                    "broke the stream off ({}: {})",
                    status.code(),
                    status.message()
                )));
            }
        };
        self.journal.note("agent→", &format!("{frame:?}"));
        self.ledger.book(&frame)?;
        self.mailbox.push_back(frame);
        Ok(Heard::Frame)
    }
}
