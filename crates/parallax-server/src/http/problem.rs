//! Errors as RFC 9457 has them: the one place where HTTP's statuses are chosen.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use parallax_api::Problem;
use parallax_api::problem::MEDIA_TYPE;
use parallax_core::error::{Code, Error};
use parallax_proto::v1;

use super::observe::request_id;

/// What a handler answers when it cannot do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Error,
    task_id: Option<String>,
    agent_code: Option<String>,
    retryable: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let retryable = matches!(
            error.code,
            Code::AgentUnavailable
                | Code::ResourceExhausted
                | Code::ShuttingDown
                | Code::StoreUnavailable
                | Code::HostUnavailable
        );
        Self {
            error,
            task_id: None,
            agent_code: None,
            retryable,
        }
    }
}

impl Failure {
    /// A call's own problem.
    pub(crate) fn of_task(problem: v1::TaskProblem, task_id: String) -> Self {
        let code = problem.code.parse().unwrap_or(Code::AgentFailed);
        Self {
            error: Error::new(code, problem.message),
            task_id: Some(task_id),
            agent_code: Some(problem.agent_code).filter(|code| !code.is_empty()),
            retryable: problem.retryable,
        }
    }

    /// The document, for streams that are under way already.
    pub(crate) fn document(&self) -> Problem {
        let code = self.error.code;
        let title = code
            .explanation()
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        Problem {
            kind: format!("urn:parallax:error:{code}"),
            title,
            status: status(code).as_u16(),
            code: code.as_str().to_owned(),
            detail: self.error.message.to_string(),
            request_id: request_id(),
            task_id: self.task_id.clone(),
            agent_code: self.agent_code.clone(),
            retryable: self.retryable,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        if self.error.code == Code::Internal {
            tracing::error!(error = %self.error, source = ?self.error.source, request_id = request_id(), "request failed");
        }
        let status = status(self.error.code);
        let body = serde_json::to_vec(&self.document()).expect("a problem has only string keys");
        let mut response = (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.retryable && status == StatusCode::SERVICE_UNAVAILABLE {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The HTTP status of a code.
pub(crate) fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest => StatusCode::BAD_REQUEST,
        Code::InvalidSpec | Code::InvalidSource | Code::InvalidInput | Code::AgentFailed => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Code::Unauthenticated | Code::CredentialExpired => StatusCode::UNAUTHORIZED,
        Code::Forbidden => StatusCode::FORBIDDEN,
        Code::NotFound | Code::CapabilityUnknown => StatusCode::NOT_FOUND,
        Code::AlreadyExists
        | Code::Conflict
        | Code::IdempotencyMismatch
        | Code::ManagedElsewhere
        | Code::IsolationUnavailable
        | Code::Cancelled => StatusCode::CONFLICT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::AgentUnavailable
        | Code::HostUnavailable
        | Code::StoreUnavailable
        | Code::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
        Code::AgentLost => StatusCode::BAD_GATEWAY,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::NotImplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_an_error_status() {
        for code in Code::ALL {
            let status = status(*code);
            assert!(
                status.is_client_error() || status.is_server_error(),
                "{code}"
            );
        }
    }

    #[test]
    fn a_tasks_problem_keeps_the_agents_own_word() {
        let problem = v1::TaskProblem {
            code: "agent_failed".to_owned(),
            message: "no such language".to_owned(),
            retryable: true,
            agent_code: "unsupported".to_owned(),
        };
        let document = Failure::of_task(problem, "tsk_1".to_owned()).document();
        assert_eq!(document.status, 422);
        assert_eq!(document.agent_code.as_deref(), Some("unsupported"));
        assert!(document.retryable);
    }
}
