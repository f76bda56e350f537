//! What instances of agents say of themselves.

use crate::json::Json;

/// Something that an agent does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    pub name: String,
    pub version: String,
    pub description: String,
    /// Tasks at a time; 0 means no limit of its own.
    pub max_concurrency: u32,
    /// JSON Schema of the input, an object or a boolean; `None` when undeclared.
    pub input_schema: Option<Json>,
    /// Only such tasks are ever tried again.
    pub idempotent: bool,
}

/// The library that an agent speaks through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sdk {
    pub name: String,
    pub version: String,
    pub language: String,
}
