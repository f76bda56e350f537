//! Tracing, metrics and OTLP initialisation for binaries.
