//! What credentials look like, and how their secrets are checked.
//!
//! | kind | form | kept by the server |
//! |---|---|---|
//! | API key, host key, join token | `plx_key_<id>_<secret><crc>` | HMAC-SHA-256 of the secret |
//! | hosted agent's credential | `plx_rep_<claims>_<mac>` | nothing: the MAC proves it |
//!
//! Secrets have 160 random bits, so that a plain keyed hash suffices (no password stretching). The
//! CRC-32 lets a scanner tell a leaked key from a random word without asking the server.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use parallax_core::id::{AgentId, KeyId, ReplicaId, TenantId};
use parallax_core::name::Name;
use parallax_core::time::Timestamp;
use sha2::Sha256;

const KEY_PREFIX: &str = "plx_key_";
const REPLICA_PREFIX: &str = "plx_rep_";
const SECRET_BYTES: usize = 20;

/// A text that must not be shown; `Debug` does not.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, for the one place that hands it out.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The server's own key, kept outside the database in `DIR/pepper`.
#[derive(Clone)]
pub struct Pepper([u8; 32]);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

impl Pepper {
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The keyed hash of a text, apart for each purpose.
    #[must_use]
    pub fn hash(&self, purpose: &str, text: &[u8]) -> Vec<u8> {
        self.mac(purpose, text).finalize().into_bytes().to_vec()
    }

    /// Compares in constant time.
    #[must_use]
    pub fn verify(&self, purpose: &str, text: &[u8], expected: &[u8]) -> bool {
        self.mac(purpose, text).verify_slice(expected).is_ok()
    }

    fn mac(&self, purpose: &str, text: &[u8]) -> Hmac<Sha256> {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(purpose.as_bytes());
        mac.update(&[0]);
        mac.update(text);
        mac
    }
}

/// Makes an API key's text.
#[must_use]
pub fn mint_key(id: KeyId, entropy: [u8; SECRET_BYTES]) -> Secret {
    let id = id.to_string();
    let digits = id.trim_start_matches("key_");
    let body = format!("{KEY_PREFIX}{digits}_{}", hex(&entropy));
    let crc = crc32fast::hash(body.as_bytes());
    Secret(format!("{body}{crc:08x}"))
}

/// A credential as it was presented, of the right form but not checked yet.
#[derive(Debug)]
pub enum Presented {
    Key {
        id: KeyId,
        secret: Vec<u8>,
    },
    Replica {
        claims: ReplicaClaims,
        signed: Vec<u8>,
        mac: Vec<u8>,
    },
}

/// Whom a hosted agent's credential speaks for, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaClaims {
    pub tenant: TenantId,
    pub agent: AgentId,
    pub agent_name: Name,
    pub replica: ReplicaId,
    pub expires_at: Timestamp,
}

/// The purposes that keep the pepper's uses apart.
pub const KEY_PURPOSE: &str = "api-key";
const REPLICA_PURPOSE: &str = "replica";

/// Makes a hosted agent's credential.
#[must_use]
pub fn mint_replica(pepper: &Pepper, claims: &ReplicaClaims) -> Secret {
    let text = format!(
        "{} {} {} {} {}",
        claims.tenant,
        claims.agent,
        claims.agent_name,
        claims.replica,
        claims.expires_at.unix_micros()
    );
    let mac = pepper.hash(REPLICA_PURPOSE, text.as_bytes());
    Secret(format!(
        "{REPLICA_PREFIX}{}.{}",
        URL_SAFE_NO_PAD.encode(text),
        URL_SAFE_NO_PAD.encode(mac)
    ))
}

/// Whether the MAC is the server's own.
#[must_use]
pub fn is_signed(pepper: &Pepper, signed: &[u8], mac: &[u8]) -> bool {
    pepper.verify(REPLICA_PURPOSE, signed, mac)
}

/// Takes a credential apart; `None` when it has no form of ours.
#[must_use]
pub fn parse(text: &str) -> Option<Presented> {
    if let Some(rest) = text.strip_prefix(REPLICA_PREFIX) {
        return parse_replica(rest);
    }
    let rest = text.strip_prefix(KEY_PREFIX)?;
    let (digits, secret) = rest.split_once('_')?;
    let (secret, crc) = secret.split_at_checked(SECRET_BYTES * 2)?;
    let body_length = text.len() - crc.len();
    let expected = crc32fast::hash(&text.as_bytes()[..body_length]);
    if u32::from_str_radix(crc, 16) != Ok(expected) {
        return None;
    }
    Some(Presented::Key {
        id: format!("key_{digits}").parse().ok()?,
        secret: secret.as_bytes().to_vec(),
    })
}

fn parse_replica(rest: &str) -> Option<Presented> {
    let (claims, mac) = rest.split_once('.')?;
    let signed = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
    let mut parts = std::str::from_utf8(&signed).ok()?.split(' ');
    let claims = ReplicaClaims {
        tenant: parts.next()?.parse().ok()?,
        agent: parts.next()?.parse().ok()?,
        agent_name: parts.next()?.parse().ok()?,
        replica: parts.next()?.parse().ok()?,
        expires_at: Timestamp::from_unix_micros(parts.next()?.parse().ok()?),
    };
    Some(Presented::Replica {
        claims,
        signed,
        mac,
    })
}

/// The part of an API key's text that is hashed.
#[must_use]
pub fn secret_part(key: &Secret) -> Vec<u8> {
    match parse(key.reveal()) {
        Some(Presented::Key { secret, .. }) => secret,
        _ => unreachable!("only minted keys are passed in"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_unix_millis(ms)
    }

    #[test]
    fn a_minted_key_is_read_back_and_a_mistyped_one_is_not() {
        let id = KeyId::new(at(1), [3; 10]);
        let key = mint_key(id, [9; 20]);
        let Some(Presented::Key { id: read, .. }) = parse(key.reveal()) else {
            panic!("not read")
        };
        assert_eq!(read, id);
        let mistyped = key.reveal().replace("0909", "0908");
        assert!(parse(&mistyped).is_none());
    }

    #[test]
    fn a_replica_credential_cannot_be_altered() {
        let pepper = Pepper::new([1; 32]);
        let claims = ReplicaClaims {
            tenant: TenantId::new(at(1), [1; 10]),
            agent: AgentId::new(at(1), [2; 10]),
            agent_name: "scorer".parse().expect("a name"),
            replica: ReplicaId::new(at(1), [3; 10]),
            expires_at: at(99),
        };
        let token = mint_replica(&pepper, &claims);
        let Some(Presented::Replica {
            claims: read,
            signed,
            mac,
        }) = parse(token.reveal())
        else {
            panic!("not read")
        };
        assert_eq!(read, claims);
        assert!(is_signed(&pepper, &signed, &mac));
        assert!(!is_signed(&Pepper::new([2; 32]), &signed, &mac));
        let mut forged = signed.clone();
        forged[0] ^= 1;
        assert!(!is_signed(&pepper, &forged, &mac));
    }

    #[test]
    fn nothing_shows_a_secret_in_debug_output() {
        let key = mint_key(KeyId::new(at(1), [3; 10]), [9; 20]);
        assert!(!format!("{key:?}{:?}", Pepper::new([7; 32])).contains('7'));
        assert!(!format!("{key:?}").contains("0909"));
    }

    #[test]
    fn arbitrary_text_is_no_credential() {
        for text in [
            "",
            "plx_key_",
            "plx_key_a_b",
            "plx_rep_.",
            "plx_rep_YQ.YQ",
            "Bearer x",
            "plx_key_\u{1F980}_x",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
