//! `parallax tasks`: durable tasks.

use anyhow::Result;
use parallax_api::tasks::{CancelRequest, TaskEntry, TaskOutcome, TaskProblem, TaskView};
use parallax_core::error::Code;
use parallax_core::task::{CancelState, TaskState};
use reqwest::Method;

use super::answer;
use super::life::SignsOfLife;
use crate::client::Api;
use crate::context::Context;
use crate::exit::{Ended, Exit};
use crate::format;
use crate::output::{Output, Progress, Tone};
use crate::printable;
use crate::table::{Cell, Row};
use crate::waiting::{Patience, pause, unless_interrupted};

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// The newest tasks (also without a subcommand)
    List(List),
    /// One task with its answer
    Show {
        /// The task's id
        id: String,
    },
    /// Ask for a stop
    Cancel {
        /// The task's id
        id: String,
        /// Told to the agent
        #[arg(long, default_value = "cancelled from the command line")]
        reason: String,
    },
    /// Follow a task to its end, with what its agent says meanwhile, and print its answer
    Watch {
        /// The task's id
        id: String,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Only in this state, such as running or failed
    #[arg(long)]
    state: Option<TaskState>,
    /// How many
    #[arg(long, short = 'n', default_value_t = 50)]
    limit: usize,
}

/// Lists, shows, cancels or follows tasks.
pub(crate) async fn run(args: Args, context: &Context) -> Result<()> {
    let api = context.api()?;
    let output = &context.output;
    let newest = List {
        agent: None,
        state: None,
        limit: 50,
    };
    match args.action.unwrap_or(Action::List(newest)) {
        Action::List(filter) => list(filter, &api, output).await,
        Action::Show { id } => {
            let task: TaskView = api.get(&["tasks", &id], &[]).await?;
            match output.json {
                true => output.object(&task),
                false => show(&task, &api, output).await,
            }
        }
        Action::Cancel { id, reason } => {
            let request = CancelRequest { reason };
            let path = ["tasks", id.as_str(), "cancel"];
            let task: TaskView = api.send(Method::POST, &path, &request).await?;
            match output.json {
                true => output.object(&task),
                false => output.line(cancelled(&task)),
            }
        }
        Action::Watch { id } => {
            let task: TaskView = api.get(&["tasks", &id], &[]).await?;
            wait(task, context).await
        }
    }
}

async fn list(filter: List, api: &Api, output: &Output) -> Result<()> {
    let filtered = filter.agent.is_some() || filter.state.is_some();
    let mut query = vec![("limit", filter.limit.clamp(1, 500).to_string())];
    query.extend(filter.agent.map(|agent| ("agent", agent)));
    query.extend(filter.state.map(|state| ("state", state.to_string())));
    let tasks: Vec<TaskView> = api.list(&["tasks"], &query, filter.limit).await?;
    if output.json {
        return tasks.iter().try_for_each(|task| output.object(task));
    }
    if tasks.is_empty() {
        output.note(match filtered {
            true => "No such task; `parallax tasks` lists the newest of all.",
            false => {
                "No durable tasks yet. Ask for one with `parallax invoke NAME CAPABILITY INPUT --async`."
            }
        });
        return Ok(());
    }
    let header = [
        "TASK",
        "AGENT",
        "CAPABILITY",
        "STATE",
        "ATTEMPT",
        "CALLER",
        "AGE",
    ];
    let rows: Vec<_> = tasks.iter().map(row).collect();
    output.table(header, &rows)
}

fn row(task: &TaskView) -> Row<7> {
    Row::new([
        task.id.to_string().into(),
        task.agent.as_str().into(),
        task.capability.as_str().into(),
        Cell::toned(state(task), tone(task.state)),
        task.attempt.to_string().into(),
        task.caller.as_str().into(),
        format::age(task.created_at).into(),
    ])
}

fn state(task: &TaskView) -> String {
    match task.cancel {
        CancelState::None | CancelState::Stopped => task.state.to_string(),
        cancel => format!("{}, cancel {}", task.state, cancel.as_str()),
    }
}

fn tone(state: TaskState) -> Tone {
    match state {
        TaskState::Succeeded => Tone::Good,
        TaskState::Cancelled => Tone::Quiet,
        state if state.is_terminal() => Tone::Bad,
        _ => Tone::Warning,
    }
}

async fn show(task: &TaskView, api: &Api, output: &Output) -> Result<()> {
    let (state, ago) = (state(task), format::ago(task.created_at));
    output.note(format_args!(
        "{}: {} on {}",
        task.id,
        printable::line(&task.capability),
        task.agent
    ));
    output.note(format_args!(
        "  {state}, attempt {}, asked for by {} {ago}",
        task.attempt, task.caller
    ));
    if let Some(deadline) = task.deadline {
        output.note(format_args!("  deadline {}", format::when(deadline)));
    }
    match &task.outcome {
        Some(outcome) => print_outcome(task, outcome, api, output).await,
        None => Ok(()),
    }
}

/// Follows a task to its end; prints its answer, or fails as it failed.
pub(crate) async fn wait(task: TaskView, context: &Context) -> Result<()> {
    let output = &context.output;
    let id = task.id;
    let goes_on = format!("{id} goes on; follow it with `parallax tasks watch {id}`");
    let task = unless_interrupted(follow(task, context), goes_on).await?;
    if output.json {
        output.object(&task)?;
    }
    let outcome = task.outcome.clone().unwrap_or(TaskOutcome {
        answer: None,
        problem: None,
    });
    print_outcome(&task, &outcome, &context.api()?, output).await
}

/// To the end, also across a server's restart: a durable task survives it.
async fn follow(mut task: TaskView, context: &Context) -> Result<TaskView> {
    let progress = context.output.progress();
    let mut patience = Patience::default();
    let mut cursor = None;
    let mut said = String::new();
    let mut life = SignsOfLife::new(&progress);
    while !task.state.is_terminal() {
        say(&task, &mut said, &progress);
        let read = async {
            let path = ["tasks", &task.id.to_string(), "events"];
            // Asked each time: a server that comes back may have another address.
            let mut stream = context.api()?.stream(&path, &[], cursor.as_deref()).await?;
            patience.answered(&progress);
            while let Some(message) = stream.next().await? {
                cursor = message.id.clone().or_else(|| cursor.take());
                let entry: TaskEntry = message.read()?;
                life.show(&entry);
                let Some(event) = entry.event else { continue };
                life.flush();
                task = event.task;
                if task.state.is_terminal() {
                    break;
                }
                say(&task, &mut said, &progress);
            }
            anyhow::Ok(())
        };
        match read.await {
            Ok(()) if task.state.is_terminal() => {}
            Ok(()) => pause().await,
            Err(error) => patience.after(error, &progress).await?,
        }
    }
    Ok(task)
}

/// Each state once: events of one state differ in what is not shown.
fn say(task: &TaskView, said: &mut String, progress: &Progress) {
    let words = format!("{} is {}", task.id, state(task));
    if words != *said {
        progress.step(&words);
        *said = words;
    }
}

async fn print_outcome(
    task: &TaskView,
    outcome: &TaskOutcome,
    api: &Api,
    output: &Output,
) -> Result<()> {
    match (&outcome.answer, &outcome.problem) {
        (Some(_), _) if output.json => Ok(()),
        (Some(answer), _) => answer::print(answer, api, output).await,
        (None, Some(problem)) => Err(failed(task, problem).into()),
        (None, None) => {
            let message = format!("task {} is {} and has no answer", task.id, task.state);
            Err(Ended::new(Exit::Failed, message).into())
        }
    }
}

fn failed(task: &TaskView, problem: &TaskProblem) -> Ended {
    let exit = problem
        .code
        .parse::<Code>()
        .map_or(Exit::Failed, Exit::from);
    let agent = problem.agent_code.as_ref();
    let agent = agent.map_or_else(String::new, |word| {
        format!(", the agent says `{}`", printable::line(word))
    });
    let message = format!(
        "{} [{}{agent}, task {}]",
        printable::block(&problem.message),
        problem.code,
        task.id
    );
    Ended::new(exit, message)
}

fn cancelled(task: &TaskView) -> String {
    let id = task.id;
    match task.cancel {
        _ if task.state == TaskState::Cancelled => format!("{id} is cancelled"),
        CancelState::Unresolved => {
            format!("{id}: the agent did not answer the cancel; the work may still go on")
        }
        CancelState::Acked => {
            format!(
                "{id}: the agent answered that it is too late, or that it does not know the task"
            )
        }
        CancelState::None | CancelState::Requested | CancelState::Stopped => {
            // Whether it has reached the agent, nobody says before the agent does.
            let when = match task.state {
                TaskState::Suspect => "; its agent is not connected, and is told when it is back",
                _ => "",
            };
            format!("{id}: a stop is asked for{when}; follow it with `parallax tasks watch {id}`")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancel_says_what_was_heard_and_no_more() {
        let said = |state: &str, cancel: &str| {
            let then = "2026-01-01T00:00:00.000000Z";
            let task: TaskView = serde_json::from_value(serde_json::json!({
                "id": "tsk_01m827453av134er6b511ct0b2", "agent": "a", "capability": "c",
                "state": state, "cancel": cancel, "attempt": 1, "caller": "me",
                "created_at": then, "updated_at": then,
            }))
            .expect("as the server answers");
            let words = cancelled(&task);
            let (_, words) = words.split_at(task.id.to_string().len());
            words
                .split("; follow")
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(said("cancelled", "stopped"), " is cancelled");
        assert_eq!(said("running", "requested"), ": a stop is asked for");
        assert_eq!(
            said("suspect", "requested"),
            ": a stop is asked for; its agent is not connected, and is told when it is back"
        );
        assert_eq!(
            said("running", "acked"),
            ": the agent answered that it is too late, or that it does not know the task"
        );
    }
}
