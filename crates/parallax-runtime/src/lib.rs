//! The local host: replicas, builds, isolation, log capture.
