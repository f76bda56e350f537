//! What hosts report, into the store and the event log.

use std::collections::{HashMap, HashSet};

use parallax_core::build::{Build, BuildPhase};
use parallax_core::error::{Error, Result};
use parallax_core::id::{BuildId, ReplicaId};
use parallax_core::replica::{Exit, Observation, Replica, ReplicaPhase, Want};
use parallax_core::status::Reason;
use parallax_core::time::Timestamp;
use parallax_proto::v1;
use parallax_store::{agents, builds, events, replicas};

use crate::app::App;
use crate::app::events::{ForAgent, agent_event};
use crate::hosts::{Connection, Usage};

impl App {
    /// Records an observation. Rows of other hosts and tenants cannot be reached by it.
    ///
    /// # Errors
    /// `invalid_request` for what makes no sense, and whatever the store says.
    pub async fn observed(&self, connection: &Connection, observed: v1::Observed) -> Result<()> {
        let mut reports = HashMap::with_capacity(observed.replicas.len());
        for report in observed.replicas {
            let (id, observation, usage) = parse_report(report)?;
            reports.insert(id, (observation, usage));
        }
        let now = self.clock.now();
        let complete = observed.complete;
        let mut tx = self.store.system_read().await?;
        let mut listed = replicas::list_for_host(&mut tx, connection.host).await?;
        drop(tx);
        listed.retain(|row| row.tenant == connection.tenant);
        let changed: Vec<ReplicaId> = listed
            .iter()
            .filter(|row| observation_of(row, &reports, complete).is_some())
            .map(|row| row.id)
            .collect();
        for row in &listed {
            if let Some((_, (cpu_ns, memory_bytes))) = reports.get(&row.id) {
                self.measured(row, *cpu_ns, *memory_bytes);
            }
        }
        // What this host keeps and nobody knows any more, it may remove.
        let known: HashSet<ReplicaId> = listed.iter().map(|row| row.id).collect();
        connection.forget(reports.keys().copied().filter(|id| !known.contains(id)));
        if changed.is_empty() {
            return Ok(());
        }
        let changed = self.store.write(
            connection.tenant,
            (reports, changed),
            move |tx, (reports, changed)| {
                Box::pin(async move {
                    let mut rows: Vec<(Replica, Option<Timestamp>)> = Vec::new();
                    for id in changed {
                        let Some(mut row) = replicas::get(tx, *id).await? else {
                            continue;
                        };
                        let Some(seen) = observation_of(&row, reports, complete) else {
                            continue;
                        };
                        replicas::set_observed(tx, row.id, &seen, now).await?;
                        if (seen.phase, seen.reason) != (row.observed.phase, row.observed.reason) {
                            events::append(tx, &replica_event(&row, &seen, now)).await?;
                        }
                        if row.want == Want::Run
                            && let Some(end) = end_event(&row, &seen, now)
                        {
                            events::append(tx, &end).await?;
                        }
                        let ended = ended_before(&row.observed, &seen, now);
                        row.observed = seen;
                        rows.push((row, ended));
                    }
                    Ok::<_, Error>(rows)
                })
            },
        );
        for (row, ended) in changed.await? {
            if row.observed.phase.is_over() {
                self.hosts.forget_usage(row.id);
            }
            self.dirty.mark(row.tenant, row.agent);
            if let Some(ended) = ended {
                self.end_dead_sessions(&row, ended).await?;
            }
        }
        Ok(())
    }

    fn measured(&self, row: &Replica, cpu_ns: Option<u64>, memory_bytes: Option<u64>) {
        if cpu_ns.is_none() && memory_bytes.is_none() {
            // No process, or one that cannot be measured: what was before is not now.
            self.hosts.forget_usage(row.id);
            return;
        }
        let usage = Usage {
            tenant: row.tenant,
            cpu_ns,
            memory_bytes,
            cpu_millis: None,
            at: self.clock.now(),
        };
        self.hosts.measured(row.id, usage);
    }

    /// A process that was seen to end holds no lease any more: its callers are told now.
    async fn end_dead_sessions(&self, row: &Replica, ended: Timestamp) -> Result<()> {
        let mut tx = self.store.read(row.tenant).await?;
        let Some(agent) = agents::get(&mut tx, row.agent).await? else {
            return Ok(());
        };
        drop(tx);
        let Some(group) = self.directory.find(row.tenant, &agent.name) else {
            return Ok(());
        };
        for slot in group.slots_of_replica(row.id, Some(ended)) {
            self.instance_lost(&group, slot, None);
        }
        Ok(())
    }

    /// Records how far a build has come.
    ///
    /// # Errors
    /// As [`Self::observed`].
    pub async fn build_reported(
        &self,
        connection: &Connection,
        state: v1::BuildState,
    ) -> Result<()> {
        let id: BuildId = state
            .build_id
            .parse()
            .map_err(|e| Error::invalid(format!("build_id: {e}")))?;
        let phase: BuildPhase = state
            .phase
            .parse()
            .map_err(|e| Error::invalid(format!("phase `{}`: {e}", state.phase)))?;
        let reason = reason(&state.reason)?;
        let plan = String::from_utf8(state.plan_json.to_vec())
            .map_err(|_| Error::invalid("plan_json is not UTF-8"))?;
        let (now, host) = (self.clock.now(), connection.host);
        let given = (state, plan);
        let changed = self
            .store
            .write(connection.tenant, given, move |tx, (state, plan)| {
                Box::pin(async move {
                    let row = builds::get(tx, id).await?.filter(|b| b.host == host);
                    let Some(mut build) = row.filter(|b| b.phase.may_become(phase)) else {
                        return Ok::<_, Error>(None);
                    };
                    let announced = build.phase != phase;
                    build.phase = phase;
                    build.reason = reason;
                    build.message = if state.message.is_empty() {
                        state.step.clone()
                    } else {
                        state.message.clone()
                    };
                    build.cached = state.cached;
                    if !plan.is_empty() {
                        build.plan_json = Some(plan.clone());
                    }
                    build.started_at = micros(state.started_unix_us).or(build.started_at);
                    build.ended_at = micros(state.ended_unix_us).or(build.ended_at);
                    builds::update_progress(tx, &build).await?;
                    if announced {
                        events::append(tx, &build_event(&build, now)).await?;
                    }
                    Ok(Some(build))
                })
            });
        if let Some(build) = changed.await? {
            self.dirty.mark(build.tenant, build.agent);
        }
        Ok(())
    }
}

type Measured = (Option<u64>, Option<u64>);

/// What a report says of a replica: its phase and what was measured.
fn parse_report(report: v1::ObservedReplica) -> Result<(ReplicaId, Observation, Measured)> {
    let id: ReplicaId = report
        .replica_id
        .parse()
        .map_err(|e| Error::invalid(format!("replica_id: {e}")))?;
    let exit = report.exit.map(|exit| Exit {
        code: exit.code,
        signal: exit.signal,
        out_of_memory: exit.out_of_memory,
        ended_at: Timestamp::from_unix_micros(exit.ended_unix_us),
        last_log_line: exit.last_log_line,
    });
    let observation = Observation {
        phase: report
            .phase
            .parse()
            .map_err(|e| Error::invalid(format!("phase `{}`: {e}", report.phase)))?,
        reason: reason(&report.reason)?,
        message: report.message,
        incarnation: report.incarnation,
        restarts: report.restarts,
        exit,
        probe_ok: report.probe_ok,
        isolation: report.isolation,
        pid: Some(report.pid).filter(|&pid| pid != 0),
        started_at: micros(report.started_unix_us),
    };
    Ok((id, observation, (report.cpu_ns, report.memory_bytes)))
}

/// The moment before which, by this report, every process of the replica had begun that has ended;
/// `None` when it tells of no end.
fn ended_before(before: &Observation, seen: &Observation, now: Timestamp) -> Option<Timestamp> {
    let recorded = seen.exit.as_ref().map(|exit| exit.ended_at);
    // A later process, or a loss: an end that nobody recorded lies before this report.
    let next = before.incarnation > 0 && seen.incarnation > before.incarnation;
    let unrecorded = next || seen.reason == Some(Reason::ShimLost) || seen.phase.is_over();
    match seen.phase {
        ReplicaPhase::Pending => None,
        // What runs now must not be taken for what ran before.
        ReplicaPhase::Running | ReplicaPhase::Stopping => {
            let started = next.then_some(seen.started_at).flatten();
            started.map(|started| started.min(now))
        }
        _ => recorded.or_else(|| unrecorded.then_some(now)),
    }
}

/// What the row should say from now on, if that is something else than it says.
fn observation_of(
    row: &Replica,
    reports: &HashMap<ReplicaId, (Observation, Measured)>,
    complete: bool,
) -> Option<Observation> {
    let report = reports.get(&row.id);
    let report = report.map(|(seen, _)| seen.clone().following(&row.observed));
    report
        .or_else(|| vanished(row, complete))
        .filter(|seen| *seen != row.observed)
}

/// A replica that a complete observation does not name, although the host had reported it before.
fn vanished(row: &Replica, complete: bool) -> Option<Observation> {
    let known = row.observed.phase != ReplicaPhase::Pending && !row.observed.phase.is_over();
    (complete && known).then(|| Observation {
        phase: ReplicaPhase::Lost,
        reason: Some(Reason::HostLost),
        message: "the host has no record of this replica any more".to_owned(),
        // What is known is of an earlier process.
        exit: None,
        pid: None,
        ..row.observed.clone()
    })
}

fn micros(us: i64) -> Option<Timestamp> {
    Some(us)
        .filter(|&us| us != 0)
        .map(Timestamp::from_unix_micros)
}

fn reason(text: &str) -> Result<Option<Reason>> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|e| Error::invalid(format!("reason `{text}`: {e}")))
}

fn replica_event(row: &Replica, seen: &Observation, now: Timestamp) -> events::NewEvent {
    let reason = seen.reason.map_or_else(String::new, |r| format!(" ({r})"));
    let message = format!(
        "replica {} is {}{reason} {}",
        row.id, seen.phase, seen.message
    );
    let data = ForAgent {
        replica: Some(row.id),
        build: None,
        phase: seen.phase.as_str(),
        reason: seen.reason,
    };
    agent_event(
        now,
        row.agent,
        "replica_phase_changed",
        message.trim_end(),
        &data,
    )
}

/// The particulars of an event about the end of a process.
#[derive(Debug, serde::Serialize)]
struct Ended<'a> {
    replica: ReplicaId,
    /// Of the replica as it was reported: the process that ended, or the one after it.
    incarnation: u64,
    restarts: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    out_of_memory: bool,
    /// RFC 3339; absent when nobody recorded the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<String>,
    last_log_line: &'a str,
}

/// The end of a process that was meant to go on: told once, and kept when the replica runs again.
fn end_event(row: &Replica, seen: &Observation, now: Timestamp) -> Option<events::NewEvent> {
    let unseen = seen.incarnation > row.observed.incarnation
        && row.observed.phase == ReplicaPhase::Running
        && seen.phase.goes_on();
    let exit = seen.exit.as_ref();
    let exit = exit.filter(|_| seen.has_new_exit(&row.observed));
    let how = match exit {
        Some(exit) => exit.to_string(),
        None if unseen => "nobody reported how".to_owned(),
        None => return None,
    };
    let data = Ended {
        replica: row.id,
        incarnation: seen.incarnation,
        restarts: seen.restarts,
        code: exit.and_then(|exit| exit.code),
        signal: exit.and_then(|exit| exit.signal),
        out_of_memory: exit.is_some_and(|exit| exit.out_of_memory),
        ended_at: exit.map(|exit| exit.ended_at.to_string()),
        last_log_line: exit.map_or("", |exit| &exit.last_log_line),
    };
    let message = format!("a process of replica {} ended: {how}", row.id);
    Some(agent_event(
        now,
        row.agent,
        "replica_exited",
        &message,
        &data,
    ))
}

fn build_event(build: &Build, now: Timestamp) -> events::NewEvent {
    let message = format!("build {} is {}: {}", build.id, build.phase, build.message);
    let data = ForAgent {
        replica: None,
        build: Some(build.id),
        phase: build.phase.as_str(),
        reason: build.reason,
    };
    agent_event(
        now,
        build.agent,
        "build_phase_changed",
        message.trim_end_matches([':', ' ']),
        &data,
    )
}
