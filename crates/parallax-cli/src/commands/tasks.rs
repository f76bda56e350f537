//! `parallax tasks`: durable tasks.

use anyhow::Result;
use parallax_api::tasks::{CancelRequest, TaskEntry, TaskOutcome, TaskProblem, TaskView};
use parallax_core::error::Code;
use parallax_core::task::{CancelState, TaskState};
use reqwest::Method;

use super::agents::dash;
use super::answer;
use crate::client::Api;
use crate::context::Context;
use crate::exit::{Ended, Exit};
use crate::format;
use crate::output::Output;

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
    /// Follow a task to its end and print its answer
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
    /// Only in this state
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
            wait(task, &api, context).await
        }
    }
}

async fn list(filter: List, api: &Api, output: &Output) -> Result<()> {
    let mut query = vec![("limit", filter.limit.clamp(1, 500).to_string())];
    query.extend(filter.agent.map(|agent| ("agent", agent)));
    query.extend(filter.state.map(|state| ("state", state.to_string())));
    let tasks: Vec<TaskView> = api.list(&["tasks"], &query, filter.limit).await?;
    if output.json {
        return tasks.iter().try_for_each(|task| output.object(task));
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
    output.table(header, tasks.iter().map(row).collect())
}

fn row(task: &TaskView) -> [String; 7] {
    let state = match task.cancel {
        CancelState::None | CancelState::Stopped => task.state.to_string(),
        cancel => format!("{}, cancel {}", task.state, cancel.as_str()),
    };
    [
        task.id.to_string(),
        task.agent.clone(),
        task.capability.clone(),
        state,
        task.attempt.to_string(),
        task.caller.clone(),
        format::age(task.created_at),
    ]
}

async fn show(task: &TaskView, api: &Api, output: &Output) -> Result<()> {
    let [id, agent, capability, state, attempt, caller, age] = row(task);
    output.note(format_args!("{id}: {capability} on {agent}"));
    output.note(format_args!(
        "  {state}, attempt {attempt}, asked for by {caller} {age} ago"
    ));
    let deadline = task
        .deadline
        .map_or_else(dash, |deadline| deadline.to_string());
    output.note(format_args!("  deadline {deadline}"));
    match &task.outcome {
        Some(outcome) => print_outcome(task, outcome, api, output).await,
        None => Ok(()),
    }
}

/// Follows a task to its end; prints its answer, or fails as it failed.
pub(crate) async fn wait(mut task: TaskView, api: &Api, context: &Context) -> Result<()> {
    let output = &context.output;
    let id = task.id.to_string();
    let progress = output.progress();
    let mut cursor: Option<String> = None;
    while !task.state.is_terminal() {
        progress.step(format_args!("{id}: {}", task.state));
        let path = ["tasks", id.as_str(), "events"];
        let mut stream = api.stream(&path, &[], cursor.as_deref()).await?;
        while let Some(message) = stream.next().await? {
            cursor = message.id.clone().or(cursor);
            let entry: TaskEntry = message.read()?;
            let Some(event) = entry.event else { continue };
            task = event.task;
            if task.state.is_terminal() {
                break;
            }
            progress.step(format_args!("{id}: {}", task.state));
        }
    }
    drop(progress);
    if output.json {
        output.object(&task)?;
    }
    let outcome = task.outcome.clone().unwrap_or(TaskOutcome {
        answer: None,
        problem: None,
    });
    print_outcome(&task, &outcome, api, output).await
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
    let agent = agent.map_or_else(String::new, |word| format!(", the agent says `{word}`"));
    let message = format!(
        "{} [{}{agent}, task {}]",
        problem.message, problem.code, task.id
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
        _ => {
            format!("{id}: the agent was asked to stop; follow it with `parallax tasks watch {id}`")
        }
    }
}
