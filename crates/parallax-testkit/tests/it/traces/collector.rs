//! A small OTLP collector: what it receives over gRPC, it keeps.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What a test looks at of a span; ids in hexadecimal digits.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) name: String,
    pub(super) is_server: bool,
    pub(super) service: String,
}

/// A running collector; it ends with this value.
pub(super) struct Collector {
    pub(super) url: String,
    spans: Spans,
    _server: JoinSet<Result<(), tonic::transport::Error>>,
}

#[derive(Clone, Debug, Default)]
struct Spans(Arc<Mutex<Vec<Received>>>);

impl Collector {
    pub(super) async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let spans = Spans::default();
        let service = TraceServiceServer::new(spans.clone());
        let server = tonic::transport::Server::builder().add_service(service);
        let mut tasks = JoinSet::new();
        tasks.spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self {
            url,
            spans,
            _server: tasks,
        })
    }

    /// The span with this id, once it has come.
    pub(super) fn span(&self, id: &str) -> Option<Received> {
        self.spans
            .held(|spans| spans.iter().find(|span| span.id == id).cloned())
    }

    /// The names of all spans that have come.
    pub(super) fn names(&self) -> Vec<String> {
        self.spans
            .held(|spans| spans.iter().map(|span| span.name.clone()).collect())
    }
}

impl Spans {
    fn held<T>(&self, look: impl FnOnce(&mut Vec<Received>) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[tonic::async_trait]
impl TraceService for Spans {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for resource in request.into_inner().resource_spans {
            let attributes = resource
                .resource
                .map(|it| it.attributes)
                .unwrap_or_default();
            let service = attributes.into_iter().find(|it| it.key == "service.name");
            let service = match service.and_then(|it| it.value).and_then(|it| it.value) {
                Some(Value::StringValue(name)) => name,
                _ => String::new(),
            };
            for span in resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                let received = Received {
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    is_server: span.kind == SpanKind::Server as i32,
                    name: span.name,
                    service: service.clone(),
                };
                self.held(|spans| spans.push(received));
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
