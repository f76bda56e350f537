//! An app on a real store in a folder of its own, its jobs run by hand.

use std::sync::Arc;

use parallax_core::agent::Agent;
use parallax_core::id::HostId;
use parallax_core::key::Principal;
use parallax_core::manifest::AgentSpec;
use parallax_core::name::Name;
use parallax_core::task::{Payload, Task, TaskContext, TaskState};
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use parallax_store::{BlobStore, Store, agents, replicas, tasks};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tonic::Status;

use crate::app::deploy::{Deployment, StoredSource};
use crate::app::hosts::HandedOut;
use crate::app::invoke::Invocation;
use crate::app::tasks::{Submission, TaskRecord};
use crate::app::{App, Limits, Parts, Receipt};
use crate::auth::bootstrap;
use crate::auth::token::Secret;
use crate::clock::Clock;
use crate::dispatch::{DurableEvent, Group};
use crate::hosts::Connection;
use crate::jobs::reconcile::reconcile;

/// When the manual clock of every test begins.
pub(crate) fn start() -> Timestamp {
    Timestamp::from_unix_millis(1_790_000_000_000)
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a test uses valid names")
}

pub(crate) struct World {
    pub app: Arc<App>,
    pub news: mpsc::UnboundedReceiver<DurableEvent>,
    pub admin: Principal,
    secret: Secret,
    folder: TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let folder = TempDir::new().expect("a folder");
        Self::open(folder, Clock::manual(start()), limits, None).await
    }

    /// Ends this server as if it were killed between two transactions, and starts another.
    pub(crate) async fn restart(self) -> Self {
        self.app.store.close().await;
        let (clock, limits) = (self.app.clock.clone(), self.app.limits.clone());
        drop(self.app);
        let world = Self::open(self.folder, clock, limits, Some(self.secret)).await;
        world
            .app
            .restore_leased()
            .await
            .expect("tasks are restored");
        world
    }

    async fn open(folder: TempDir, clock: Clock, limits: Limits, key: Option<Secret>) -> Self {
        let path = folder.path();
        let url = format!("sqlite:{}", path.join("parallax.db").display());
        let config = parallax_store::Config::new(url);
        let store = Store::open(&config).await.expect("the store opens");
        let identity = bootstrap::run(&store, path, &clock)
            .await
            .expect("it starts");
        let (app, news) = App::assemble(Parts {
            store,
            blobs: BlobStore::open(path.join("blobs")).await.expect("it opens"),
            pepper: identity.pepper,
            clock,
            limits,
            data_dir: path.to_owned(),
        });
        let secret = key.or(identity.new_admin_key).expect("there is a key");
        let admin = app.auth.authenticate(secret.reveal()).await;
        Self {
            admin: admin.expect("the key is known"),
            app,
            news,
            secret,
            folder,
        }
    }

    pub(crate) fn group(&self, agent: &str) -> Arc<Group> {
        let tenant = self.admin.tenant;
        self.app.directory.find_or_create(tenant, &name(agent))
    }

    /// Commits the news that are there; answers how many there were.
    pub(crate) async fn commit(&mut self) -> usize {
        let mut count = 0;
        while let Ok(event) = self.news.try_recv() {
            let committed = self.app.durable_event(&Arc::new(event)).await;
            committed.expect("the store works");
            count += 1;
        }
        count
    }

    /// One look at the queue of durable tasks.
    pub(crate) async fn dispatch(&self) {
        let mut tx = self.app.store.system_read().await.expect("the store works");
        let now = self.app.clock.now();
        let rows = tasks::due_queued(&mut tx, now, None, 100)
            .await
            .expect("rows");
        drop(tx);
        self.app
            .dispatch_queued(rows)
            .await
            .expect("the store works");
    }

    pub(crate) fn submission(key: Option<&str>) -> Submission {
        Submission {
            request: Invocation {
                agent: "scorer".to_owned(),
                capability: "score".to_owned(),
                input: Payload::default(),
                deadline: None,
                context: TaskContext::default(),
            },
            idempotency_key: key.map(str::to_owned),
        }
    }

    pub(crate) async fn submit(&self, key: Option<&str>) -> TaskRecord {
        let submitted = self.app.submit_task(&self.admin, Self::submission(key));
        submitted.await.expect("the task is taken on")
    }

    /// The row as it is stored.
    pub(crate) async fn task(&self, of: &TaskRecord) -> Task {
        let mut tx = self
            .app
            .store
            .read(self.admin.tenant)
            .await
            .expect("it works");
        let row = tasks::get(&mut tx, of.row.id).await.expect("it works");
        row.expect("the task is there")
    }

    pub(crate) async fn state(&self, of: &TaskRecord) -> TaskState {
        self.task(of).await.state
    }

    pub(crate) async fn upload(&self, bytes: &[u8]) -> StoredSource {
        let begun = self.app.blobs.put(self.admin.tenant, 1 << 20).await;
        let mut upload = begun.expect("the disk works");
        upload.write(bytes).await.expect("the disk works");
        let stored = upload.finish(None).await.expect("the disk works");
        StoredSource {
            digest: stored.digest.as_str().to_owned(),
            bytes: stored.size_bytes,
        }
    }

    /// Deploys `source` as agent `scorer`.
    pub(crate) async fn deploy(&self, source: &[u8], replicas: u32) -> Agent {
        let mut spec = AgentSpec::named(name("scorer"));
        spec.replicas = Some(replicas);
        let source = Some(self.upload(source).await);
        self.deploy_as(spec, source, false).await
    }

    pub(crate) async fn deploy_as(
        &self,
        spec: AgentSpec,
        source: Option<StoredSource>,
        suspended: bool,
    ) -> Agent {
        let wanted = Deployment {
            spec,
            source,
            suspended,
        };
        let deployed = self.app.deploy(&self.admin, wanted, Receipt::none()).await;
        deployed.expect("it is deployed").summary.agent
    }

    /// Reconciles until nothing more is to be done at once.
    pub(crate) async fn reconcile(&self, agent: &Agent) {
        for _ in 0..10 {
            self.app.dirty.take();
            let before = self.replicas(agent).await;
            let done = reconcile(&self.app, agent.tenant, agent.id).await;
            done.expect("the store works");
            if self.replicas(agent).await == before && self.app.dirty.take().is_empty() {
                return;
            }
        }
        panic!("the reconciler finds no end");
    }

    pub(crate) async fn agent(&self, agent: &Agent) -> Option<Agent> {
        let mut tx = self.app.store.read(agent.tenant).await.expect("it works");
        agents::get(&mut tx, agent.id).await.expect("it works")
    }

    pub(crate) async fn replicas(&self, agent: &Agent) -> Vec<parallax_core::replica::Replica> {
        let mut tx = self.app.store.read(agent.tenant).await.expect("it works");
        let rows = replicas::list_for_agent(&mut tx, agent.id).await;
        rows.expect("it works")
    }

    /// `phase reason` of the agent's status.
    pub(crate) async fn status(&self, agent: &Agent) -> String {
        let status = self.agent(agent).await.expect("the agent is there").status;
        let reason = status.reason.map_or_else(String::new, |r| format!(" {r}"));
        format!("{}{reason}", status.phase)
    }

    /// A host that has joined and is connected.
    pub(crate) async fn host(&self, text: &str) -> HostDouble {
        let facts = facts();
        let token = self
            .app
            .mint_join_token(&self.admin, Receipt::none())
            .await
            .expect("a token");
        let joiner = self.app.auth.authenticate(token.reveal()).await;
        let joiner = joiner.expect("the token is good");
        let joined = self.app.join_host(&joiner, text, facts.clone()).await;
        let (id, secret) = joined.expect("it joins");
        let principal = self.app.auth.authenticate(secret.reveal()).await;
        let principal = principal.expect("the credential is good");
        let host = HostDouble::connect(
            &self.app,
            principal,
            id,
            v1::Observed::default(),
            Vec::new(),
        )
        .await;
        self.app.host_joined(&host.connection).await;
        host
    }
}

/// What a test's host has to offer.
pub(crate) fn facts() -> v1::HostFacts {
    v1::HostFacts {
        kind: "local".to_owned(),
        cpu_millis: 8000,
        memory_bytes: 8 << 30,
        isolation: "landlock".to_owned(),
        isolation_tiers: vec!["process".to_owned()],
        max_replicas: 50,
        ..v1::HostFacts::default()
    }
}

/// A connected host, that does what a test says.
pub(crate) struct HostDouble {
    pub app: Arc<App>,
    pub principal: Principal,
    pub id: HostId,
    pub connection: Arc<Connection>,
    /// What the server sends. Held, so that the connection counts as open.
    pub frames: mpsc::Receiver<Result<v1::HostDown, Status>>,
    state: HandedOut,
    /// The builds that it keeps.
    pub kept: Vec<v1::BuildState>,
}

impl HostDouble {
    pub(crate) async fn connect(
        app: &Arc<App>,
        principal: Principal,
        id: HostId,
        observed: v1::Observed,
        kept: Vec<v1::BuildState>,
    ) -> Self {
        let (sender, frames) = mpsc::channel(64);
        let hello = v1::HostHello {
            facts: Some(facts()),
            observed: Some(observed),
            builds: kept.clone(),
            ..v1::HostHello::default()
        };
        let admitted = app.admit_host(&principal, id, hello, sender).await;
        let connection = admitted.expect("the host is known");
        app.hosts.join(&connection);
        Self {
            app: Arc::clone(app),
            principal,
            id,
            connection,
            frames,
            state: HandedOut::default(),
            kept,
        }
    }

    /// The same host, after its connection was lost.
    pub(crate) async fn again(self, observed: v1::Observed) -> Self {
        Self::connect(&self.app, self.principal, self.id, observed, self.kept).await
    }

    /// The same host, with a server that was started in the meantime.
    pub(crate) async fn at(self, world: &World, observed: v1::Observed) -> Self {
        let host = Self::connect(&world.app, self.principal, self.id, observed, self.kept).await;
        world.app.host_joined(&host.connection).await;
        host
    }

    pub(crate) async fn desired(&mut self) -> v1::Desired {
        let read = self.app.desired(&self.connection, &mut self.state).await;
        read.expect("the store works")
    }

    /// Says of every build asked for that it has come to `phase`.
    pub(crate) async fn build(&mut self, phase: &str, reason: &str) -> usize {
        let builds = self.desired().await.builds;
        for build in &builds {
            let state = v1::BuildState {
                build_id: build.build_id.clone(),
                phase: phase.to_owned(),
                reason: reason.to_owned(),
                ..v1::BuildState::default()
            };
            self.kept.push(state.clone());
            let told = self.app.build_reported(&self.connection, state).await;
            told.expect("the report makes sense");
        }
        builds.len()
    }

    pub(crate) async fn report(&self, replicas: Vec<v1::ObservedReplica>) {
        let observed = v1::Observed {
            replicas,
            ..v1::Observed::default()
        };
        let told = self.app.observed(&self.connection, observed).await;
        told.expect("the report makes sense");
    }

    /// Says of these replicas that they have come to `phase`.
    pub(crate) async fn say(&self, ids: &[String], phase: &str) {
        let replicas = ids.iter().map(|id| observed(id, phase)).collect();
        self.report(replicas).await;
    }

    /// The replicas that it should run, or stop.
    pub(crate) async fn wanted(&mut self, want: v1::desired_replica::Want) -> Vec<String> {
        let desired = self.desired().await.replicas;
        desired
            .into_iter()
            .filter(|r| r.want() == want)
            .map(|r| r.replica_id)
            .collect()
    }
}

pub(crate) fn observed(id: &str, phase: &str) -> v1::ObservedReplica {
    v1::ObservedReplica {
        replica_id: id.to_owned(),
        phase: phase.to_owned(),
        ..v1::ObservedReplica::default()
    }
}
