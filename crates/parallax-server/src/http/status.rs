//! How an agent is, and what it uses.

use axum::Json;
use axum::extract::State;
use parallax_api::agents::{
    AgentMetrics, BuildView, ExitView, ReplicaMetrics, ReplicaView, StatusView,
};
use parallax_core::build::Build;
use parallax_core::host::Contact;
use parallax_core::replica::Exit;
use parallax_core::status::ReplicaEvidence;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agents;
use super::authenticate::Caller;
use super::problem::Failure;
use super::query::Id;
use super::state::HandlerState;
use crate::app::agents::{AgentDetail, ReplicaDetail};

pub(crate) fn routes() -> OpenApiRouter<HandlerState> {
    OpenApiRouter::new()
        .routes(routes!(agent_status))
        .routes(routes!(agent_metrics))
}

/// How an agent is, with its replicas and newest builds.
#[utoipa::path(get, path = "/api/agents/{id}/status", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name")),
    responses((status = 200, body = StatusView)))]
async fn agent_status(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
) -> Result<Json<StatusView>, Failure> {
    let detail = state.app.agent(&principal, &id.0).await?;
    let agent = &detail.summary.agent;
    Ok(Json(StatusView {
        id: agent.id,
        agent: agent.name.to_string(),
        generation: agent.generation,
        status: agents::status(agent),
        replica_details: detail.replicas.into_iter().map(replica).collect(),
        builds: detail.builds.into_iter().map(build).collect(),
    }))
}

/// What was last measured of an agent.
#[utoipa::path(get, path = "/api/agents/{id}/metrics", tag = "agents",
    params(("id" = String, Path, description = "The agent's id or name")),
    responses((status = 200, body = AgentMetrics)))]
async fn agent_metrics(
    State(state): State<HandlerState>,
    Caller(principal): Caller,
    id: Id,
) -> Result<Json<AgentMetrics>, Failure> {
    let detail = state.app.agent(&principal, &id.0).await?;
    Ok(Json(metrics(detail)))
}

fn metrics(detail: AgentDetail) -> AgentMetrics {
    let agent = detail.summary.agent;
    let replicas: Vec<ReplicaMetrics> = detail.replicas.into_iter().map(measured).collect();
    AgentMetrics {
        id: agent.id,
        agent: agent.name.to_string(),
        requests: replicas.iter().map(|r| r.requests).sum(),
        in_flight: replicas.iter().map(|r| r.in_flight).sum(),
        restarts: replicas.iter().map(|r| u64::from(r.restarts)).sum(),
        cpu_millis: known(replicas.iter().map(|r| r.cpu_millis)),
        memory_bytes: known(replicas.iter().map(|r| r.memory_bytes)),
        replicas,
    }
}

/// The sum of what was measured; nothing when nothing was.
fn known(values: impl Iterator<Item = Option<u64>>) -> Option<u64> {
    values
        .flatten()
        .fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

fn measured(detail: ReplicaDetail) -> ReplicaMetrics {
    ReplicaMetrics {
        id: detail.replica.id,
        requests: detail.requests,
        in_flight: detail.in_flight,
        restarts: detail.replica.observed.restarts,
        cpu_millis: detail.usage.and_then(|u| u.cpu_millis),
        memory_bytes: detail.usage.and_then(|u| u.memory_bytes),
    }
}

fn replica(detail: ReplicaDetail) -> ReplicaView {
    let ReplicaDetail {
        replica,
        registered,
        lost_at,
        host_connected,
        usage,
        requests,
        in_flight,
    } = detail;
    let evidence = ReplicaEvidence {
        replica,
        registered,
        lost_at,
        contact: Contact::Connected,
    };
    let ready = evidence.is_ready();
    let replica = evidence.replica;
    let observed = replica.observed;
    ReplicaView {
        id: replica.id,
        revision: replica.revision_number,
        host: replica.host,
        want: replica.want.as_str().to_owned(),
        phase: observed.phase,
        ready,
        registered,
        lost_at: lost_at.map(Into::into),
        host_connected,
        reason: observed.reason,
        message: observed.message,
        incarnation: observed.incarnation,
        restarts: observed.restarts,
        exit: observed.exit.map(exit),
        isolation: observed.isolation,
        pid: observed.pid,
        cpu_millis: usage.and_then(|u| u.cpu_millis),
        memory_bytes: usage.and_then(|u| u.memory_bytes),
        requests,
        in_flight,
        started_at: observed.started_at.map(Into::into),
    }
}

fn exit(exit: Exit) -> ExitView {
    ExitView {
        code: exit.code,
        signal: exit.signal,
        out_of_memory: exit.out_of_memory,
        ended_at: exit.ended_at.into(),
        last_log_line: exit.last_log_line,
    }
}

fn build(build: Build) -> BuildView {
    BuildView {
        id: build.id,
        host: build.host,
        source_digest: build.source_digest,
        phase: build.phase,
        reason: build.reason,
        message: build.message,
        cached: build.cached,
        created_at: build.created_at.into(),
        started_at: build.started_at.map(Into::into),
        ended_at: build.ended_at.map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parallax_proto::v1::desired_replica::Want;

    use super::*;
    use crate::dispatch::tests as dispatch;
    use crate::testing::{World, observed};

    #[tokio::test]
    async fn what_a_replica_was_given_and_uses_is_counted_for_it() {
        let world = World::new().await;
        let mut host = world.host("one").await;
        let agent = world.deploy(b"one", 2).await;
        world.reconcile(&agent).await;
        host.build("succeeded", "").await;
        world.reconcile(&agent).await;
        let ids = host.wanted(Want::Run).await;
        // The first works, the second is only there.
        let mut entry = dispatch::Entry::new("0192f0c4-7d5e-7a10-8000-000000000001", 9);
        entry.hosted = Some((agent.id, ids[0].parse().expect("an id")));
        let mut session = entry.join(&world.group("scorer"));
        let calls = [(); 3].map(|()| dispatch::submit(&session.group, "score"));
        let done = session.next_task();
        session.finish(&done, 1);
        for cpu_ns in [1_000_000_000, 2_000_000_000] {
            world.app.clock.advance(Duration::from_secs(2));
            let mut first = observed(&ids[0], "running");
            (first.cpu_ns, first.memory_bytes) = (Some(cpu_ns), Some(64 << 20));
            first.restarts = 2;
            host.report(vec![first, observed(&ids[1], "running")]).await;
        }
        let detail = world.app.agent(&world.admin, "scorer").await;
        let is = metrics(detail.expect("it is there"));
        let of = |id: &String| {
            let found = is.replicas.iter().find(|r| r.id.to_string() == *id);
            let r = found.expect("it is shown");
            (r.requests, r.in_flight, r.cpu_millis, r.memory_bytes)
        };
        assert_eq!(of(&ids[0]), (3, 2, Some(500), Some(64 << 20)));
        assert_eq!(of(&ids[1]), (0, 0, None, None), "nobody measured it");
        assert_eq!((is.requests, is.in_flight, is.restarts), (3, 2, 2));
        assert_eq!(
            (is.cpu_millis, is.memory_bytes),
            (Some(500), Some(64 << 20))
        );
        drop(calls);
    }

    #[test]
    fn what_was_not_measured_is_not_zero() {
        assert_eq!(known([None, None].into_iter()), None);
        assert_eq!(known([Some(2), None, Some(3)].into_iter()), Some(5));
    }
}
