//! The group as its callers and its agents see it: real channels, no server, no clock but tokio's.

mod cancels;
mod durable;
mod scheduling;
mod sessions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use parallax_core::id::{AgentId, ConnectionId, KeyId, ReplicaId, TaskId, TenantId};
use parallax_core::instance::{Capability, Sdk};
use parallax_core::task::{Outcome, Payload, Success, TaskContext, transition};
use parallax_core::time::Timestamp;
use parallax_proto::v1;
pub(crate) use parallax_proto::v1::agent_down::Frame;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::group::Joining;
use super::*;

const TTL: Duration = Duration::from_secs(15);
const GRACE: Duration = Duration::from_secs(10);

static NEXT: AtomicU8 = AtomicU8::new(1);

pub(crate) fn at() -> Timestamp {
    Timestamp::from_unix_millis(1_790_000_000_000)
}

pub(crate) fn entropy() -> [u8; 10] {
    let mut bytes = [0; 10];
    bytes[0] = NEXT.fetch_add(1, Ordering::Relaxed);
    bytes[1..9].copy_from_slice(&crate::clock::random::<8>());
    bytes
}

pub(crate) fn group() -> Arc<Group> {
    let tenant = TenantId::new(at(), [1; 10]);
    let name = "scorer".parse().expect("a name");
    Arc::new(Group::new(tenant, name, Arc::default()))
}

pub(crate) fn capability(name: &str, max_concurrency: u32, idempotent: bool) -> Capability {
    Capability {
        name: name.to_owned(),
        version: String::new(),
        description: String::new(),
        max_concurrency,
        input_schema: None,
        idempotent,
    }
}

pub(crate) fn score() -> Vec<Capability> {
    vec![capability("score", 0, false)]
}

/// A connected agent: what the session of a real one would hold.
pub(crate) struct Agent {
    pub(crate) group: Arc<Group>,
    pub(crate) slot: SlotId,
    pub(crate) frames: mpsc::Receiver<Result<Box<v1::AgentDown>, Status>>,
    pub(crate) closed: CancellationToken,
    pub(crate) welcome: v1::Welcome,
}

/// How an agent joins.
pub(crate) struct Entry {
    pub(crate) uuid: &'static str,
    pub(crate) hosted: Option<(AgentId, ReplicaId)>,
    pub(crate) key: Option<KeyId>,
    pub(crate) connected_at: Timestamp,
    pub(crate) epoch: u64,
    pub(crate) credit: u32,
    pub(crate) capabilities: Vec<Capability>,
    pub(crate) inventory: Vec<v1::InventoryItem>,
    /// Frames that may wait for it.
    pub(crate) room: usize,
}

impl Entry {
    pub(crate) fn new(uuid: &'static str, credit: u32) -> Self {
        Self {
            uuid,
            hosted: None,
            key: None,
            connected_at: at(),
            epoch: 1,
            credit,
            capabilities: score(),
            inventory: Vec::new(),
            room: 4096,
        }
    }

    pub(crate) fn again(mut self, epoch: u64, inventory: Vec<v1::InventoryItem>) -> Self {
        self.epoch = epoch;
        self.inventory = inventory;
        self
    }

    pub(crate) fn offering(mut self, capabilities: Vec<Capability>) -> Self {
        self.capabilities = capabilities;
        self
    }

    pub(crate) fn join(self, group: &Arc<Group>) -> Agent {
        self.try_join(group).expect("no newer session is there")
    }

    pub(crate) fn try_join(self, group: &Arc<Group>) -> Option<Agent> {
        let (frames, mut received) = mpsc::channel(self.room);
        let closed = CancellationToken::new();
        let joined = group.join(Joining {
            peer: Peer {
                uuid: self.uuid.to_owned(),
                hosted: self.hosted,
                key: self.key,
                sdk: Sdk::default(),
                capabilities: self.capabilities,
                labels: BTreeMap::new(),
            },
            link: Link {
                connection: ConnectionId::new(at(), entropy()),
                frames,
                closed: closed.clone(),
            },
            lease_epoch: self.epoch,
            lease_until: Instant::now() + TTL,
            connected_at: self.connected_at,
            credit: self.credit,
            draining: false,
            inventory: self.inventory,
            welcome: v1::Welcome::default(),
        })?;
        if let Some(old) = joined.superseded {
            old.go_away(v1::goaway::Reason::Superseded, "a newer one");
        }
        let first = received.try_recv().expect("a frame is there").expect("ok");
        let Some(Frame::Welcome(welcome)) = first.frame else {
            panic!("the first frame down is {first:?}")
        };
        Some(Agent {
            group: Arc::clone(group),
            slot: joined.slot,
            frames: received,
            closed,
            welcome,
        })
    }
}

impl Agent {
    pub(crate) fn join(group: &Arc<Group>, uuid: &'static str, credit: u32) -> Self {
        Entry::new(uuid, credit).join(group)
    }

    pub(crate) fn next(&mut self) -> Option<Frame> {
        self.frames.try_recv().ok()?.expect("no status").frame
    }

    pub(crate) fn next_task(&mut self) -> v1::Task {
        match self.next() {
            Some(Frame::Task(task)) => task,
            other => panic!("expected a task, found {other:?}"),
        }
    }

    /// The ids of the tasks that were sent and not looked at yet.
    pub(crate) fn tasks(&mut self) -> Vec<TaskId> {
        let frames = std::iter::from_fn(|| self.next());
        frames
            .filter_map(|frame| match frame {
                Frame::Task(task) => Some(id_of(&task)),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn accept(&self, task: &v1::Task) {
        self.group
            .accepted(self.slot, id_of(task), reference(task).attempt);
    }

    pub(crate) fn finish(&self, task: &v1::Task, credit: u32) {
        let outcome = Outcome::Success(Success::of(Payload::default()));
        self.group
            .ended(self.slot, reference(task), id_of(task), outcome, credit);
    }

    pub(crate) fn verdicts(&self) -> Vec<v1::verdict::Verdict> {
        let verdicts = self.welcome.verdicts.iter();
        verdicts.filter_map(|v| v.verdict.clone()).collect()
    }
}

pub(crate) fn reference(task: &v1::Task) -> v1::TaskRef {
    task.r#ref.clone().expect("a task has a reference")
}

pub(crate) fn id_of(task: &v1::Task) -> TaskId {
    reference(task).task_id.parse().expect("an id")
}

pub(crate) fn listed(task: &v1::Task, state: v1::inventory_item::State) -> v1::InventoryItem {
    v1::InventoryItem {
        r#ref: task.r#ref.clone(),
        state: state.into(),
        last_up_seq: 0,
    }
}

pub(crate) fn call(capability: &str, within: Option<Duration>) -> Arc<Call> {
    Arc::new(Call {
        tenant: TenantId::new(at(), [1; 10]),
        id: TaskId::new(at(), entropy()),
        agent: "scorer".parse().expect("a name"),
        capability: capability.to_owned(),
        input: Payload::default(),
        idempotency_key: "once".to_owned(),
        deadline: within.map(|within| CallDeadline {
            at: Instant::now() + within,
            unix_ms: 0,
        }),
        context: TaskContext::default(),
        span: parallax_telemetry::trace::CallSpan::default(),
    })
}

pub(crate) type Reply = oneshot::Receiver<Outcome>;

pub(crate) fn submit_call(group: &Group, call: &Arc<Call>) -> Reply {
    let (reply, outcome) = oneshot::channel();
    let taken = group.submit(Arc::clone(call), 1, Sink::Reply(reply));
    taken.expect("the group takes the call on");
    outcome
}

pub(crate) fn submit(group: &Group, capability: &str) -> (TaskId, Reply) {
    let call = call(capability, None);
    let outcome = submit_call(group, &call);
    (call.id, outcome)
}

pub(crate) fn sweep(group: &Group) -> Vec<SlotId> {
    group.sweep(Instant::now(), GRACE)
}

/// How a call ended: `ok`, the code of its problem, or `open`.
pub(crate) fn outcome(reply: &mut Reply) -> String {
    match reply.try_recv() {
        Ok(Outcome::Success(_)) => "ok".to_owned(),
        Ok(Outcome::Problem(problem)) => problem.code.as_str().to_owned(),
        Err(oneshot::error::TryRecvError::Empty) => "open".to_owned(),
        Err(oneshot::error::TryRecvError::Closed) => "dropped".to_owned(),
    }
}

/// What the commit job would be told.
pub(crate) struct News(mpsc::UnboundedReceiver<DurableEvent>);

impl News {
    pub(crate) fn channel() -> (mpsc::UnboundedSender<DurableEvent>, Self) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (sender, Self(receiver))
    }

    pub(crate) fn words(&mut self) -> Vec<String> {
        let events = std::iter::from_fn(|| self.0.try_recv().ok());
        events.map(|event| word(&event.news)).collect()
    }
}

pub(crate) fn word(news: &transition::News) -> String {
    match news {
        transition::News::Ended { .. } => "ended".to_owned(),
        transition::News::Expired { asked } => format!("expired asked={asked}"),
        transition::News::CancelAcked(outcome) => format!("cancel {outcome:?}"),
        transition::News::InstanceLost { idempotent } => format!("lost idempotent={idempotent}"),
        other => format!("{other:?}"),
    }
}
