//! Calling agents.

use std::time::Duration;

use anyhow::{Result, bail};
use parallax_api::Problem;
use parallax_api::tasks::{InvokeRequest, InvokeResponse, TaskView};
use parallax_core::task::TaskState;
use reqwest::Method;
use serde_json::Value;
use serde_json::value::RawValue;

use super::api::{Refusal, read};
use super::{PATIENCE, World};

/// A call of an agent, attached unless it is submitted.
#[derive(Clone, Debug)]
pub struct Call {
    agent: String,
    capability: &'static str,
    input: Value,
    deadline: Duration,
    key: Option<String>,
}

/// How an attached call ended for its caller.
#[derive(Debug)]
pub enum CallEnd {
    Answer(Box<InvokeResponse>),
    /// The server said why there is no answer.
    Problem(Box<Problem>),
    /// The connection broke: the caller knows that the server is gone.
    Broken(reqwest::Error),
}

impl Call {
    /// Calls the capability that is never retried.
    #[must_use]
    pub fn echo(agent: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            capability: "echo",
            input: Value::Object(serde_json::Map::new()),
            deadline: PATIENCE,
            key: None,
        }
    }

    /// Calls the idempotent capability.
    #[must_use]
    pub fn again(agent: &str) -> Self {
        Self {
            capability: "again",
            ..Self::echo(agent)
        }
    }

    /// With an input.
    #[must_use]
    pub fn input(mut self, input: Value) -> Self {
        self.input = input;
        self
    }

    /// With an idempotency key, for a durable task.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.key = Some(key.to_owned());
        self
    }

    /// With another deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

impl CallEnd {
    /// The answer's value.
    ///
    /// # Errors
    /// When there is none.
    pub fn value(self) -> Result<Value> {
        match self {
            Self::Answer(answer) => match answer.value {
                Some(value) => Ok(serde_json::from_str(value.get())?),
                None => bail!("the answer has no inline value: {answer:#?}"),
            },
            other => bail!("the call has no answer: {other:#?}"),
        }
    }

    /// The problem.
    ///
    /// # Errors
    /// When the call ended otherwise.
    pub fn problem(self) -> Result<Problem> {
        match self {
            Self::Problem(problem) => Ok(*problem),
            other => bail!("the call was expected to fail: {other:#?}"),
        }
    }
}

impl World {
    /// Makes an attached call and waits for its end.
    ///
    /// # Errors
    /// When the answer is none that a Parallax server gives.
    pub async fn invoke(&self, call: &Call) -> Result<CallEnd> {
        let path = format!("agents/{}/invoke", call.agent);
        let request = self
            .request(Method::POST, &path)
            .timeout(call.deadline + PATIENCE)
            .json(&request(call)?);
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Ok(CallEnd::Broken(error)),
        };
        match read(&Method::POST, &path, response).await {
            Ok(answer) => Ok(CallEnd::Answer(Box::new(answer))),
            Err(error) => match error.downcast::<Refusal>() {
                Ok(refusal) => Ok(CallEnd::Problem(refusal.problem)),
                Err(error) => match error.downcast::<reqwest::Error>() {
                    Ok(broken) => Ok(CallEnd::Broken(broken)),
                    Err(error) => Err(error),
                },
            },
        }
    }

    /// Makes a durable task; it is accepted when this returns.
    ///
    /// # Errors
    /// When it is refused, or the server cannot be reached.
    pub async fn submit(&self, call: &Call) -> Result<TaskView> {
        let path = format!("agents/{}/invoke", call.agent);
        let mut post = self
            .request(Method::POST, &path)
            .header("prefer", "respond-async")
            .json(&request(call)?);
        if let Some(key) = &call.key {
            post = post.header("idempotency-key", key);
        }
        read(&Method::POST, &path, post.send().await?).await
    }

    /// Waits for the end of a durable task.
    ///
    /// # Errors
    /// When it does not end.
    pub async fn task_ended(&self, id: &str) -> Result<TaskView> {
        self.until(&format!("task {id} has ended"), async || {
            let task = self.task(id).await?;
            Ok(task.state.is_terminal().then_some(task))
        })
        .await
    }

    /// Waits until a durable task is being worked on.
    ///
    /// # Errors
    /// When that does not happen.
    pub async fn task_started(&self, id: &str) -> Result<TaskView> {
        self.until(&format!("task {id} is at an agent"), async || {
            let task = self.task(id).await?;
            Ok((task.state != TaskState::Queued).then_some(task))
        })
        .await
    }
}

fn request(call: &Call) -> Result<InvokeRequest> {
    Ok(InvokeRequest {
        capability: call.capability.to_owned(),
        input: Some(RawValue::from_string(call.input.to_string())?),
        deadline_ms: Some(u64::try_from(call.deadline.as_millis())?),
        context_id: None,
    })
}
