//! Integration tests of the builder.

mod corpus;
mod odd_manifests;
