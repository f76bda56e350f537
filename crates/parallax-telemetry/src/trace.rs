//! The context of a trace as the agent protocol carries it: `traceparent` and `tracestate`, as
//! <https://www.w3.org/TR/trace-context/> has them.

/// Makes `span` go on with the trace that `traceparent` names. A text that is none is ignored: the
/// caller's mistake must not cost it its task.
#[cfg(feature = "otel")]
pub fn go_on(span: &tracing::Span, traceparent: &str, tracestate: &str) {
    use opentelemetry::propagation::TextMapPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let carrier = otlp::Carrier {
        traceparent: traceparent.to_owned(),
        tracestate: tracestate.to_owned(),
    };
    let propagator = opentelemetry_sdk::propagation::TraceContextPropagator::new();
    // Fails only where no collector is set up, and then there is no trace to go on with.
    let _ = span.set_parent(propagator.extract(&carrier));
}

/// Does nothing: this build sends no traces.
#[cfg(not(feature = "otel"))]
pub fn go_on(_: &tracing::Span, _: &str, _: &str) {}

/// `traceparent` and `tracestate` of `span`, for whoever goes on with it; `None` while no trace is
/// recorded.
#[cfg(feature = "otel")]
#[must_use]
pub fn context_of(span: &tracing::Span) -> Option<(String, String)> {
    use opentelemetry::propagation::TextMapPropagator;
    use tracing_opentelemetry::OpenTelemetrySpanExt;

    let mut carrier = otlp::Carrier::default();
    let propagator = opentelemetry_sdk::propagation::TraceContextPropagator::new();
    propagator.inject_context(&span.context(), &mut carrier);
    (!carrier.traceparent.is_empty()).then_some((carrier.traceparent, carrier.tracestate))
}

/// Nothing: this build sends no traces.
#[cfg(not(feature = "otel"))]
#[must_use]
pub fn context_of(_: &tracing::Span) -> Option<(String, String)> {
    None
}

#[cfg(feature = "otel")]
pub(crate) use otlp::Exporter;

#[cfg(feature = "otel")]
mod otlp {
    use opentelemetry::propagation::{Extractor, Injector};
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::WithExportConfig;
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
    use tracing_opentelemetry::OpenTelemetryLayer;
    use tracing_subscriber::registry::LookupSpan;

    use crate::InitError;

    const SERVICE: &str = "parallax";

    /// Sends spans in batches.
    #[derive(Debug)]
    pub(crate) struct Exporter(SdkTracerProvider);

    impl Exporter {
        pub(crate) fn new(endpoint: &str) -> Result<Self, InitError> {
            let exporter = opentelemetry_otlp::SpanExporter::builder()
                .with_tonic()
                .with_endpoint(endpoint)
                .build()
                .map_err(|source| InitError::Otlp {
                    endpoint: endpoint.to_owned(),
                    source,
                })?;
            let provider = SdkTracerProvider::builder()
                .with_batch_exporter(exporter)
                .with_resource(Resource::builder().with_service_name(SERVICE).build())
                .build();
            Ok(Self(provider))
        }

        pub(crate) fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
        where
            S: tracing::Subscriber + for<'span> LookupSpan<'span>,
        {
            tracing_opentelemetry::layer().with_tracer(self.0.tracer(SERVICE))
        }

        /// Sends what is left, for as long as the collector's timeout allows.
        pub(crate) fn finish(&self) {
            if let Err(error) = self.0.shutdown() {
                tracing::warn!(%error, "the last spans could not be sent");
            }
        }
    }

    /// The two headers.
    #[derive(Debug, Default)]
    pub(crate) struct Carrier {
        pub(crate) traceparent: String,
        pub(crate) tracestate: String,
    }

    impl Extractor for Carrier {
        fn get(&self, key: &str) -> Option<&str> {
            match key {
                "traceparent" => Some(&self.traceparent),
                "tracestate" => Some(&self.tracestate),
                _ => None,
            }
        }

        fn keys(&self) -> Vec<&str> {
            vec!["traceparent", "tracestate"]
        }
    }

    impl Injector for Carrier {
        fn set(&mut self, key: &str, value: String) {
            match key {
                "traceparent" => self.traceparent = value,
                "tracestate" => self.tracestate = value,
                _ => {}
            }
        }
    }
}

#[cfg(all(test, feature = "otel"))]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn a_span_goes_on_with_the_trace_of_its_caller() {
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let trace = "0af7651916cd43dd8448eb211c80319c";
            let span = tracing::info_span!("task");
            go_on(&span, &format!("00-{trace}-b7ad6b7169203331-01"), "a=b");
            let (parent, state) = context_of(&span).expect("the span is recorded");
            assert!(parent.starts_with(&format!("00-{trace}-")), "{parent}");
            assert_eq!(state, "a=b");
        });
    }
}
