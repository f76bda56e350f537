//! Schemas of core's closed word lists, which cannot carry the derive themselves.

use parallax_core::build::BuildPhase;
use parallax_core::error::Code;
use parallax_core::event::Subject;
use parallax_core::key::Scope;
use parallax_core::replica::ReplicaPhase;
use parallax_core::status::{Phase, Reason};
use parallax_core::task::{CancelState, TaskState};
use utoipa::openapi::Schema;
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, Type};

pub(crate) fn phase() -> Schema {
    words(Phase::ALL.iter().map(|w| w.as_str())).into()
}

pub(crate) fn reason() -> Schema {
    words(Reason::ALL.iter().map(|w| w.as_str())).into()
}

pub(crate) fn replica_phase() -> Schema {
    words(ReplicaPhase::ALL.iter().map(|w| w.as_str())).into()
}

pub(crate) fn build_phase() -> Schema {
    words(BuildPhase::ALL.iter().map(|w| w.as_str())).into()
}

pub(crate) fn task_state() -> Schema {
    words(TaskState::ALL.iter().map(|w| w.as_str())).into()
}

pub(crate) fn cancel_state() -> Schema {
    words(CancelState::ALL.iter().map(|w| w.as_str())).into()
}

pub(crate) fn code() -> Schema {
    words(Code::ALL.iter().map(|w| w.as_str())).into()
}

pub(crate) fn subject() -> Schema {
    words(Subject::ALL.iter().map(|w| w.as_str())).into()
}

pub(crate) fn scopes() -> Schema {
    let words = words(Scope::ALL.iter().map(|w| w.as_str()));
    ArrayBuilder::new().items(words).into()
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}
