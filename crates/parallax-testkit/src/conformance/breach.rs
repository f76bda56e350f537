//! What a case says when an SDK breaks the contract.

use std::fmt::Debug;

/// A rule of the contract and what the SDK did instead.
#[derive(Debug, thiserror::Error)]
#[error("the contract wants: {wanted}\n      the SDK: {did}")]
pub struct Breach {
    /// The rule, in words.
    pub wanted: String,
    /// The observation, in words.
    pub did: String,
}

impl Breach {
    /// A breach of `wanted`, observed as `did`.
    pub fn new(wanted: impl Into<String>, did: impl Into<String>) -> Self {
        Self {
            wanted: wanted.into(),
            did: did.into(),
        }
    }
}

/// Passes when `holds`.
///
/// # Errors
/// A [`Breach`] of `wanted`, observed as what `did` says.
pub fn check<D: Into<String>>(
    holds: bool,
    wanted: &str,
    did: impl FnOnce() -> D,
) -> Result<(), Breach> {
    if holds {
        return Ok(());
    }
    Err(Breach::new(wanted, did()))
}

/// Passes when `got` is `expected`; `what` names the compared thing.
///
/// # Errors
/// A [`Breach`] that shows both.
pub fn check_eq<T: PartialEq<U> + Debug, U: Debug>(
    what: &str,
    got: T,
    expected: U,
) -> Result<(), Breach> {
    if got == expected {
        return Ok(());
    }
    Err(Breach::new(
        format!("{what} = {expected:?}"),
        format!("sent {what} = {got:?}"),
    ))
}
