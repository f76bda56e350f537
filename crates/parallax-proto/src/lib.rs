//! The gRPC contract `parallax.v1`: committed generated code and its conversions to core types.
//!
//! `cargo xtask codegen` writes `generated/`; this crate has no build script, so that building
//! needs no protobuf compiler.

mod instance;
mod task;

pub use instance::InvalidSchema;
pub use task::{InvalidAnswer, InvalidValue};

/// The `parallax.v1` package.
#[expect(
    clippy::all,
    clippy::allow_attributes,
    unused_qualifications,
    reason = "generated code"
)]
#[path = "generated/parallax.v1.rs"]
pub mod v1;

/// The serialised `FileDescriptorSet` of `proto/`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/descriptor.bin");
