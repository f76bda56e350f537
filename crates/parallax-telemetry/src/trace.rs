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

/// The server's part of one call as a span, from when it was taken on until this is dropped.
///
/// Nothing, and of no size, in a build that sends no traces.
#[derive(Debug, Default)]
pub struct CallSpan {
    #[cfg(feature = "otel")]
    _span: Option<tracing::Span>,
}

/// What marks the spans that are sent.
#[cfg(feature = "otel")]
const CALLS: &str = "parallax::call";

/// What a span says of its call.
#[derive(Debug, Clone, Copy)]
pub struct CallNames<'a> {
    pub agent: &'a str,
    pub capability: &'a str,
    pub task: &'a str,
}

impl CallSpan {
    /// Begins a span that goes on with the caller's trace, or begins one, and puts its own context
    /// in the caller's place for whoever comes after. Where no collector is set up, what the caller
    /// sent stays as it is: nothing is invented.
    #[cfg(feature = "otel")]
    #[must_use]
    pub fn begin(names: CallNames<'_>, traceparent: &mut String, tracestate: &mut String) -> Self {
        let span = tracing::info_span!(
            target: CALLS,
            "call",
            otel.name = format!("invoke {}/{}", names.agent, names.capability),
            otel.kind = "server",
            parallax.agent = names.agent,
            parallax.capability = names.capability,
            parallax.task = names.task,
        );
        go_on(&span, traceparent, tracestate);
        let Some((parent, state)) = context_of(&span) else {
            return Self::default();
        };
        (*traceparent, *tracestate) = (parent, state);
        Self { _span: Some(span) }
    }

    /// Nothing: this build sends no traces, and what the caller sent stays as it is.
    #[cfg(not(feature = "otel"))]
    #[must_use]
    pub fn begin(_: CallNames<'_>, _: &mut String, _: &mut String) -> Self {
        Self::default()
    }
}

#[cfg(feature = "otel")]
pub(crate) use otlp::Exporter;

#[cfg(feature = "otel")]
mod otlp {
    use opentelemetry::propagation::{Extractor, Injector};
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::WithExportConfig;
    use opentelemetry_sdk::Resource;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::Layer;
    use tracing_subscriber::filter::{LevelFilter, Targets};
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

        /// Takes the spans of calls alone: those of the connection to the collector would beget
        /// more of themselves.
        pub(crate) fn layer<S>(&self) -> impl Layer<S> + use<S>
        where
            S: tracing::Subscriber + for<'span> LookupSpan<'span>,
        {
            let ours = Targets::new().with_target(super::CALLS, LevelFilter::INFO);
            let layer = tracing_opentelemetry::layer().with_tracer(self.0.tracer(SERVICE));
            layer
                .with_location(false)
                .with_threads(false)
                .with_filter(ours)
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

    #[test]
    fn a_call_passes_on_its_own_span_and_without_a_collector_the_callers() {
        let names = CallNames {
            agent: "a",
            capability: "c",
            task: "t",
        };
        let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let begin = |parent: &str| {
            let (mut parent, mut state) = (parent.to_owned(), String::new());
            let span = CallSpan::begin(names, &mut parent, &mut state);
            (span, parent)
        };
        assert_eq!(begin(caller).1, caller);
        assert_eq!(begin("").1, "");
        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let (_span, parent) = begin(caller);
            assert!(
                parent.starts_with(&caller[..36]) && parent != caller,
                "{parent}"
            );
            let (_span, fresh) = begin("nonsense");
            assert_eq!(fresh.len(), caller.len(), "{fresh}");
        });
    }
}
