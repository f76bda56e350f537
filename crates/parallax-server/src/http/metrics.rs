//! What the HTTP side counts. Labels come from route templates and closed lists only, so that no
//! caller can grow them.

use axum::http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    outcome: &'static str,
}

/// Counters since the server started.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Family<Request, Counter>,
    invocations: Family<Outcome, Counter>,
}

impl Metrics {
    /// Counts an answer; of a stream, its beginning.
    pub(crate) fn answered(&self, method: &Method, route: &str, status: StatusCode) {
        let method = known(method);
        let labels = Request {
            method,
            route: route.to_owned(),
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
    }

    /// Counts an attached call by how it ended: `succeeded` or an error's code.
    pub(crate) fn invoked(&self, outcome: &'static str) {
        self.invocations.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn register(&self, registry: &mut Registry) {
        let requests = self.requests.clone();
        registry.register(
            "parallax_http_requests",
            "Requests by route and status",
            requests,
        );
        let (name, help) = (
            "parallax_http_invocations",
            "Attached calls over HTTP by their end",
        );
        registry.register(name, help, self.invocations.clone());
    }
}

fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
