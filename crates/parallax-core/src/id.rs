//! Typed, prefixed ids such as `agt_06f9x2k8…`.
//!
//! 128 bits, shown as 26 characters of Crockford's base 32 in lower case. The upper 48 bits are
//! milliseconds since 1970, so that ids sort by creation; the rest is entropy of the caller's.

use std::fmt;
use std::str::FromStr;

use crate::time::Timestamp;

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LENGTH: usize = 26;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not an id of the form {prefix}_ and 26 characters of 0-9a-z without i, l, o, u"
)]
pub struct IdError {
    text: String,
    prefix: &'static str,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(u128);

        impl $name {
            /// What every id of this kind starts with, before the underscore.
            pub const PREFIX: &'static str = $prefix;

            /// Makes the id for something created at `now`; `entropy` must be random.
            #[must_use]
            pub fn new(now: Timestamp, entropy: [u8; 10]) -> Self {
                Self(compose(now, entropy))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, $prefix, self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_id(f, $prefix, self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse(text, $prefix).map(Self)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A customer.
    TenantId = "ten";
    /// A hosted agent.
    AgentId = "agt";
    /// One immutable version of an agent.
    RevisionId = "rev";
    /// One running copy of a revision.
    ReplicaId = "rpl";
    /// One preparation of a revision on a host.
    BuildId = "bld";
    /// Something that runs replicas.
    HostId = "hst";
    /// One piece of work for an agent.
    TaskId = "tsk";
    /// An API key.
    KeyId = "key";
    /// One connection of an agent instance.
    ConnectionId = "con";
    /// One HTTP or gRPC request.
    RequestId = "req";
}

fn compose(now: Timestamp, entropy: [u8; 10]) -> u128 {
    let mut bytes = [0_u8; 16];
    bytes[6..].copy_from_slice(&entropy);
    let millis = u128::from(now.unix_millis().max(0).unsigned_abs()) & 0xffff_ffff_ffff;
    (millis << 80) | u128::from_be_bytes(bytes)
}

fn write_id(f: &mut fmt::Formatter<'_>, prefix: &str, value: u128) -> fmt::Result {
    let mut text = [0_u8; LENGTH];
    let mut rest = value;
    for slot in text.iter_mut().rev() {
        *slot = ALPHABET[(rest & 31) as usize];
        rest >>= 5;
    }
    let text = std::str::from_utf8(&text).expect("the alphabet is ASCII");
    write!(f, "{prefix}_{text}")
}

fn parse(text: &str, prefix: &'static str) -> Result<u128, IdError> {
    let fail = || IdError {
        text: text.chars().take(64).collect(),
        prefix,
    };
    let digits = text
        .strip_prefix(prefix)
        .and_then(|rest| rest.strip_prefix('_'))
        .filter(|digits| digits.len() == LENGTH)
        .ok_or_else(fail)?;
    let mut value: u128 = 0;
    for (position, byte) in digits.bytes().enumerate() {
        let digit = ALPHABET.iter().position(|&c| c == byte).ok_or_else(fail)?;
        // 26 × 5 = 130 bits: the first digit has only three of them to give.
        if position == 0 && digit > 7 {
            return Err(fail());
        }
        value = (value << 5) | digit as u128;
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_being_shown_and_read() {
        let id = AgentId::new(Timestamp::from_unix_millis(1_790_000_000_123), [7; 10]);
        let text = id.to_string();
        assert!(text.starts_with("agt_"), "{text}");
        assert_eq!(text.parse::<AgentId>(), Ok(id));
        assert!(text.parse::<TaskId>().is_err());
    }

    #[test]
    fn ids_sort_by_creation() {
        let old = TaskId::new(Timestamp::from_unix_millis(1), [255; 10]);
        let new = TaskId::new(Timestamp::from_unix_millis(2), [0; 10]);
        assert!(old < new && old.to_string() < new.to_string());
    }

    #[test]
    fn malformed_ids_are_refused() {
        for text in [
            "",
            "agt_",
            "agt_short",
            "agt_zzzzzzzzzzzzzzzzzzzzzzzzzz",
            "AGT_06f9x2k8000000000000000000",
        ] {
            assert!(text.parse::<AgentId>().is_err(), "{text}");
        }
    }
}
