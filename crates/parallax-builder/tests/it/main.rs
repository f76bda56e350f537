//! Integration tests of the builder.

mod corpus;
