//! From domain errors to problem documents: the one place where HTTP statuses are chosen.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parallax_api::problem::MEDIA_TYPE;
use parallax_api::{Problem, tasks::TaskProblem};
use parallax_core::error::{Code, Error, chain};
use parallax_core::id::TaskId;
use parallax_core::task;

/// Before trying again, in seconds, where the server is busy rather than broken.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// A request that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Error,
    task: Option<TaskId>,
    agent_code: Option<String>,
    retryable: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let retryable = error.code.is_retryable();
        Self {
            error,
            task: None,
            agent_code: None,
            retryable,
        }
    }
}

impl From<parallax_store::StoreError> for Failure {
    fn from(error: parallax_store::StoreError) -> Self {
        Error::from(error).into()
    }
}

impl Failure {
    /// Of a task that ended without an answer.
    pub(crate) fn of_task(task: TaskId, problem: task::Problem) -> Self {
        Self {
            error: Error::new(problem.code, problem.message),
            task: Some(task),
            agent_code: problem.agent_code,
            retryable: problem.retryable,
        }
    }

    pub(crate) fn code(&self) -> Code {
        self.error.code
    }

    /// The document; the cause goes into the log, for a caller never sees it.
    pub(crate) fn document(&self, request_id: &str) -> Problem {
        let code = self.error.code;
        if matches!(
            code,
            Code::Internal | Code::StorageFull | Code::StoreUnavailable
        ) {
            let cause = self.error.source.as_deref().map(|source| chain(source));
            tracing::error!(code = code.as_str(), detail = %self.error, cause, "request failed");
        }
        Problem {
            kind: format!("urn:parallax:error:{code}"),
            title: title(code),
            status: status(code).as_u16(),
            code: code.as_str().to_owned(),
            detail: self.error.message.to_string(),
            request_id: request_id.to_owned(),
            task_id: self.task.map(|id| id.to_string()),
            agent_code: self.agent_code.clone(),
            retryable: self.retryable,
        }
    }
}

impl IntoResponse for Failure {
    /// The body comes later, from [`finish`], which knows the request's id.
    fn into_response(self) -> Response {
        let code = self.error.code;
        let mut response = Response::new(Body::empty());
        *response.status_mut() = status(code);
        let headers = response.headers_mut();
        match code {
            Code::Unauthenticated => {
                let challenge = HeaderValue::from_static("Bearer realm=\"parallax\"");
                headers.insert(header::WWW_AUTHENTICATE, challenge);
            }
            Code::CredentialExpired => {
                let challenge = "Bearer realm=\"parallax\", error=\"invalid_token\"";
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static(challenge),
                );
            }
            Code::ResourceExhausted | Code::ShuttingDown | Code::StoreUnavailable => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        let document = self.document("");
        response.extensions_mut().insert(document);
        response
    }
}

/// Writes the body of a problem, now that the request's id is known.
pub(crate) fn finish(mut response: Response, request_id: &str) -> Response {
    let Some(mut problem) = response.extensions_mut().remove::<Problem>() else {
        return response;
    };
    request_id.clone_into(&mut problem.request_id);
    let json = serde_json::to_vec(&problem).expect("a problem has only string keys");
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    *response.body_mut() = Body::from(json);
    response
}

/// The HTTP status of a code.
pub(crate) const fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest => StatusCode::BAD_REQUEST,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::InvalidSpec
        | Code::InvalidSource
        | Code::StartCommandMissing
        | Code::PlanFailed
        | Code::InvalidInput
        | Code::AgentFailed => StatusCode::UNPROCESSABLE_ENTITY,
        Code::Unauthenticated | Code::CredentialExpired => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound | Code::CapabilityUnknown => StatusCode::NOT_FOUND,
        Code::AlreadyExists
        | Code::Conflict
        | Code::IdempotencyMismatch
        | Code::ManagedElsewhere
        | Code::Cancelled
        | Code::IsolationUnavailable => StatusCode::CONFLICT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::AgentLost => StatusCode::BAD_GATEWAY,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::AgentUnavailable
        | Code::HostUnavailable
        | Code::StoreUnavailable
        | Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Why a task has no answer, as the API shows it.
pub(crate) fn task_problem(problem: &task::Problem) -> TaskProblem {
    TaskProblem {
        code: problem.code.as_str().to_owned(),
        message: problem.message.clone(),
        retryable: problem.retryable,
        agent_code: problem.agent_code.clone(),
        retry_after_ms: Some(problem.retry_after_ms).filter(|ms| *ms > 0),
    }
}

/// `not_found` → `Not found`.
fn title(code: Code) -> String {
    let words = code.as_str().replace('_', " ");
    let (first, rest) = words.split_at(1);
    format!("{}{rest}", first.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_failing_status_and_a_readable_title() {
        for &code in Code::ALL {
            let status = status(code);
            assert!(
                status.is_client_error() || status.is_server_error(),
                "{code} {status}"
            );
            assert!(!title(code).contains('_'), "{code}");
        }
    }

    #[test]
    fn an_agents_failure_keeps_its_own_word() {
        let task: TaskId = "tsk_00000000000000000000000000".parse().expect("an id");
        let problem = task::Problem {
            code: Code::AgentFailed,
            message: "the model refused".to_owned(),
            retryable: true,
            agent_code: Some("model_refused".to_owned()),
            retry_after_ms: 0,
        };
        let expected = Problem {
            kind: "urn:parallax:error:agent_failed".to_owned(),
            title: "Agent failed".to_owned(),
            status: 422,
            code: "agent_failed".to_owned(),
            detail: "the model refused".to_owned(),
            request_id: "req_x".to_owned(),
            task_id: Some(task.to_string()),
            agent_code: Some("model_refused".to_owned()),
            retryable: true,
        };
        assert_eq!(Failure::of_task(task, problem).document("req_x"), expected);
    }

    #[test]
    fn a_cause_is_never_shown_to_the_caller() {
        let error = Error::internal(std::io::Error::other("password=hunter2"));
        let document = Failure::from(error).document("req_x");
        let text = serde_json::to_string(&document).expect("a problem has only string keys");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
