//! What a statement is given: integers, text and bytes, and nothing else.

use parallax_core::agent::ManagedBy;
use parallax_core::build::BuildPhase;
use parallax_core::event::Subject;
use parallax_core::id::{AgentId, BuildId, HostId, KeyId, ReplicaId, RevisionId, TaskId, TenantId};
use parallax_core::key::Scopes;
use parallax_core::name::Name;
use parallax_core::replica::{ReplicaPhase, Want};
use parallax_core::status::{Phase, Reason};
use parallax_core::task::{CancelState, TaskState};
use parallax_core::time::Timestamp;

/// One value for a placeholder. `None` is SQL's NULL, which PostgreSQL wants typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
}

/// What can be given to a statement.
pub(crate) trait Bind {
    const NULL: Value;

    fn value(&self) -> Value;
}

/// Lists values for a statement, in the order of its placeholders.
macro_rules! values {
    ($($value:expr),* $(,)?) => {
        &[$($crate::value::Bind::value(&$value)),*]
    };
}
pub(crate) use values;

/// Binds what it holds as JSON text.
pub(crate) struct Json<'a, T>(pub(crate) &'a T);

impl<T: serde::Serialize> Bind for Json<'_, T> {
    const NULL: Value = Value::Text(None);

    fn value(&self) -> Value {
        let text = serde_json::to_string(self.0)
            .expect("what is stored as JSON has only string keys and no failing serializer");
        Value::Text(Some(text))
    }
}

impl<T: Bind> Bind for Option<T> {
    const NULL: Value = T::NULL;

    fn value(&self) -> Value {
        self.as_ref().map_or(T::NULL, Bind::value)
    }
}

impl<T: Bind + ?Sized> Bind for &T {
    const NULL: Value = T::NULL;

    fn value(&self) -> Value {
        (**self).value()
    }
}

macro_rules! bind {
    ($variant:ident: $($type:ty => |$value:ident| $convert:expr;)*) => {$(
        impl Bind for $type {
            const NULL: Value = Value::$variant(None);

            fn value(&self) -> Value {
                let $value = self;
                Value::$variant(Some($convert))
            }
        }
    )*};
}

bind! { Int:
    i64 => |v| *v;
    i32 => |v| i64::from(*v);
    u16 => |v| i64::from(*v);
    u32 => |v| i64::from(*v);
    bool => |v| i64::from(*v);
    // Saturates: the counts that are stored never come near, and what a peer claims must not panic.
    u64 => |v| i64::try_from(*v).unwrap_or(i64::MAX);
    Timestamp => |v| v.unix_micros();
}

bind! { Bytes:
    Vec<u8> => |v| v.clone();
    [u8] => |v| v.to_vec();
}

bind! { Text:
    str => |v| text(v);
    String => |v| text(v);
    Name => |v| v.as_str().to_owned();
    Scopes => |v| v.to_string();
    TenantId => |v| v.to_string();
    AgentId => |v| v.to_string();
    RevisionId => |v| v.to_string();
    ReplicaId => |v| v.to_string();
    BuildId => |v| v.to_string();
    HostId => |v| v.to_string();
    TaskId => |v| v.to_string();
    KeyId => |v| v.to_string();
    ManagedBy => |v| v.as_str().to_owned();
    Phase => |v| v.as_str().to_owned();
    Reason => |v| v.as_str().to_owned();
    BuildPhase => |v| v.as_str().to_owned();
    ReplicaPhase => |v| v.as_str().to_owned();
    Want => |v| v.as_str().to_owned();
    TaskState => |v| v.as_str().to_owned();
    CancelState => |v| v.as_str().to_owned();
    Subject => |v| v.as_str().to_owned();
}

/// PostgreSQL's text cannot hold NUL, SQLite's can: neither gets one.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
