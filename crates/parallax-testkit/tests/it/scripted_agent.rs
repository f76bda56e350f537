//! The scripted agent, against the scripted server, whose ledger checks its every frame.

use std::time::Duration;

use parallax_proto::v1::cancel_ack::Outcome;
use parallax_proto::v1::goaway::Reason;
use parallax_proto::v1::inventory_item::State;
use parallax_testkit::conformance::{
    Journal, Link, PATIENCE, PrivateCa, Ruling, ScriptedServer, Terms, json_of,
};
use parallax_testkit::scripted_agent::{
    AgentError, Behaviour, End, Pace, Reply, ScriptedAgent, Tally,
};
use serde_json::json;
use tonic::{Code, Status};

type Checked = anyhow::Result<()>;

async fn server() -> anyhow::Result<ScriptedServer> {
    ScriptedServer::start(None, Journal::default()).await
}

/// Dials and welcomes at once: each waits for the other.
async fn pair(
    server: &mut ScriptedServer,
    behaviour: Behaviour,
) -> anyhow::Result<(ScriptedAgent, Link)> {
    let url = server.url();
    let concurrency = behaviour.concurrency;
    let dial = ScriptedAgent::connect(&url, "plx_token", "worker", &["work"], behaviour);
    let (agent, link) = tokio::join!(dial, async {
        let arrival = server.arrival(Terms::default(), concurrency).await?;
        arrival.welcome(&[]).await
    });
    Ok((agent?, link?))
}

async fn meet_again(
    server: &mut ScriptedServer,
    agent: &ScriptedAgent,
    state: State,
    ruling: Ruling,
) -> anyhow::Result<Link> {
    let (dialled, link) = tokio::join!(agent.reconnect(), async {
        let arrival = server.arrival(Terms::default(), 16).await?;
        assert_eq!(arrival.hello.instance_uuid, agent.instance_uuid());
        assert_eq!(arrival.only_item()?.state(), state);
        arrival.welcome(&[ruling]).await
    });
    dialled?;
    link
}

#[tokio::test]
async fn it_echoes_and_counts() -> Checked {
    let mut server = server().await?;
    let (agent, mut link) = pair(&mut server, Behaviour::default()).await?;
    assert_eq!(link.hello.agent_name, "worker");
    let task = link.ask("work", json!({"n": 1})).await?;
    assert_eq!(link.value_of(&task).await?, json!({"n": 1}));
    link.credit_reaches(16).await?;
    let count = agent.tally().of(&task.task_id);
    assert_eq!(
        (count.started, count.finished, count.attempts),
        (1, 1, vec![1])
    );
    assert_eq!(agent.tally().run_twice(), vec![]);
    Ok(())
}

#[tokio::test]
async fn it_replies_and_fails_as_told() -> Checked {
    let mut server = server().await?;
    let value = Behaviour {
        reply: Reply::Value(json!("fixed")),
        ..Behaviour::default()
    };
    let (_agent, mut link) = pair(&mut server, value).await?;
    let task = link.ask("work", json!(1)).await?;
    assert_eq!(link.value_of(&task).await?, json!("fixed"));

    let failure = Behaviour {
        reply: Reply::Failure {
            code: "no".to_owned(),
            message: "not today".to_owned(),
            retryable: true,
        },
        ..Behaviour::default()
    };
    let (_agent, mut link) = pair(&mut server, failure).await?;
    let task = link.ask("work", json!(1)).await?;
    let failed = link.failure_of(&task).await?;
    assert_eq!((failed.code.as_str(), failed.retryable), ("no", true));
    Ok(())
}

#[tokio::test]
async fn a_slow_agent_ends_its_tasks_later_and_all_at_once() -> Checked {
    let mut server = server().await?;
    let slow = Behaviour {
        pace: Pace::After(Duration::from_millis(20)),
        ..Behaviour::default()
    };
    let (agent, mut link) = pair(&mut server, slow).await?;
    let mut tasks = Vec::new();
    for n in 0..16 {
        tasks.push(link.ask("work", json!(n)).await?);
    }
    for (n, task) in tasks.iter().enumerate() {
        assert_eq!(link.value_of(task).await?, json!(n));
    }
    assert_eq!(
        (agent.tally().started(), agent.tally().finished()),
        (16, 16)
    );
    Ok(())
}

#[tokio::test]
async fn held_tasks_survive_a_dropped_connection() -> Checked {
    let mut server = server().await?;
    let held = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let (agent, mut link) = pair(&mut server, held).await?;
    let task = link.ask("work", json!("held")).await?;
    link.accepted(&task).await?;
    agent.drop_connection().await?;
    assert_eq!(agent.ended().await?, End::Dropped);

    let mut link = meet_again(&mut server, &agent, State::Running, Ruling::Keep(0)).await?;
    agent.release().await?;
    let first = link.result_of(&task).await?;
    assert_eq!(json_of(first.value.as_ref())?, json!("held"));

    // Not acknowledged: kept, listed and sent again without new credit.
    link.cut();
    agent.ended().await?;
    let mut link = meet_again(&mut server, &agent, State::Finished, Ruling::SendResult).await?;
    assert_eq!(link.result_of(&task).await?.value, first.value);
    assert_eq!(agent.tally().of(&task.task_id).started, 1);
    Ok(())
}

#[tokio::test]
async fn a_cancel_verdict_gives_the_credit_back() -> Checked {
    let mut server = server().await?;
    let held = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let (agent, mut link) = pair(&mut server, held).await?;
    let task = link.ask("work", json!(1)).await?;
    link.accepted(&task).await?;
    agent.drop_connection().await?;
    let mut link = meet_again(&mut server, &agent, State::Running, Ruling::Cancel).await?;
    link.credit_reaches(16).await?;
    assert_eq!(agent.tally().of(&task.task_id).cancelled, 1);
    Ok(())
}

#[tokio::test]
async fn it_answers_a_cancel_in_three_ways() -> Checked {
    let mut server = server().await?;
    let held = Behaviour {
        pace: Pace::OnRelease,
        ..Behaviour::default()
    };
    let (agent, mut link) = pair(&mut server, held).await?;
    let stopped = link.ask("work", json!(1)).await?;
    link.accepted(&stopped).await?;
    link.cancel(&stopped, PATIENCE).await?;
    assert_eq!(link.cancel_ack_of(&stopped).await?, Outcome::Stopped);
    link.cancel(&stopped, PATIENCE).await?;
    assert_eq!(link.cancel_ack_of(&stopped).await?, Outcome::Unknown);

    let late = link.ask("work", json!(1)).await?;
    link.accepted(&late).await?;
    agent.release().await?;
    link.result_of(&late).await?;
    link.cancel(&late, PATIENCE).await?;
    assert_eq!(link.cancel_ack_of(&late).await?, Outcome::TooLate);
    link.credit_reaches(16).await
}

#[tokio::test]
async fn it_can_refuse_to_accept_and_to_stop() -> Checked {
    let mut server = server().await?;
    let mute = Behaviour {
        accepts: false,
        heeds_cancel: false,
        ..Behaviour::default()
    };
    let (agent, mut link) = pair(&mut server, mute).await?;
    let task = link.ask("work", json!(1)).await?;
    link.cancel(&task, Duration::ZERO).await?;
    link.round_trip().await?;
    link.nothing_of(
        &task,
        "an agent that accepts nothing says nothing of a task",
    )?;
    assert_eq!(agent.tally().of(&task.task_id).started, 0);
    Ok(())
}

#[tokio::test]
async fn it_tells_why_a_session_ended() -> Checked {
    let mut server = server().await?;
    let (agent, mut link) = pair(&mut server, Behaviour::default()).await?;
    agent.drain(PATIENCE).await?;
    assert_eq!(link.drain().await?.deadline_ms, 15_000);
    link.goaway(Reason::Drained, 0).await?;
    let End::Goaway { reason, .. } = agent.ended().await? else {
        anyhow::bail!("the session ended without its Goaway");
    };
    assert_eq!(reason, Reason::Drained);

    let (agent, link) = pair(&mut server, Behaviour::default()).await?;
    link.fail(Status::data_loss("oh")).await?;
    let End::Status { code, message } = agent.ended().await? else {
        anyhow::bail!("the session ended without its status");
    };
    assert_eq!((code, message.as_str()), (Code::DataLoss, "oh"));
    Ok(())
}

#[tokio::test]
async fn a_refusal_is_an_error_with_the_servers_status() -> Checked {
    let mut server = server().await?;
    let url = server.url();
    let dial = ScriptedAgent::connect(&url, "bad", "worker", &[], Behaviour::default());
    let (agent, refused) = tokio::join!(dial, async {
        let arrival = server.arrival(Terms::default(), 16).await?;
        assert_eq!(arrival.authorization.as_deref(), Some("Bearer bad"));
        arrival.refuse(Status::unauthenticated("no such key"));
        anyhow::Ok(())
    });
    refused?;
    match agent {
        Err(AgentError::Refused { source, .. }) => {
            assert_eq!(source.code(), Code::Unauthenticated);
        }
        other => anyhow::bail!("expected a refusal, got {other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn it_trusts_the_ca_that_it_is_given() -> Checked {
    let ca = PrivateCa::new()?;
    let mut server = ScriptedServer::start(Some(&ca), Journal::default()).await?;
    let trusting = Behaviour {
        ca_pem: Some(ca.root_pem.clone()),
        ..Behaviour::default()
    };
    let (_agent, mut link) = pair(&mut server, trusting).await?;
    let task = link.ask("work", json!("tls")).await?;
    assert_eq!(link.value_of(&task).await?, json!("tls"));
    Ok(())
}

#[tokio::test]
async fn hundreds_share_a_tally_in_one_process() -> Checked {
    const AGENTS: u64 = 300;
    let mut server = server().await?;
    let tally = Tally::default();
    let mut pairs = Vec::new();
    for n in 0..AGENTS {
        let behaviour = Behaviour {
            tally: tally.clone(),
            ..Behaviour::default()
        };
        let (agent, mut link) = pair(&mut server, behaviour).await?;
        link.ask("work", json!(n)).await?;
        pairs.push((agent, link));
    }
    assert!(
        tally.finished_reaches(AGENTS, PATIENCE).await,
        "each agent runs its task"
    );
    assert_eq!(tally.run_twice(), vec![]);
    Ok(())
}
