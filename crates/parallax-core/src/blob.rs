//! Names of large values.

use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

/// A digest of the form `sha256:` and 64 hexadecimal digits in lower case: nothing that could
/// lead out of a folder of blobs.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct BlobDigest(String);

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest is `sha256:` and 64 hexadecimal digits in lower case")]
pub struct MalformedDigest;

impl BlobDigest {
    /// What every digest begins with.
    pub const PREFIX: &str = "sha256:";

    /// The digest of content with this SHA-256.
    #[must_use]
    pub fn of_sha256(hash: [u8; 32]) -> Self {
        let mut text = Self::PREFIX.to_owned();
        for byte in hash {
            write!(text, "{byte:02x}").expect("a string takes any text");
        }
        Self(text)
    }

    /// With its prefix.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Without its prefix.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.0[Self::PREFIX.len()..]
    }
}

impl TryFrom<String> for BlobDigest {
    type Error = MalformedDigest;

    fn try_from(text: String) -> Result<Self, MalformedDigest> {
        let hex = text.strip_prefix(Self::PREFIX).ok_or(MalformedDigest)?;
        let valid = hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
        if valid {
            Ok(Self(text))
        } else {
            Err(MalformedDigest)
        }
    }
}

impl FromStr for BlobDigest {
    type Err = MalformedDigest;

    fn from_str(text: &str) -> Result<Self, MalformedDigest> {
        text.to_owned().try_into()
    }
}

impl From<BlobDigest> for String {
    fn from(digest: BlobDigest) -> Self {
        digest.0
    }
}

impl fmt::Display for BlobDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stored value: digest, size and media type.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlobRef {
    pub digest: BlobDigest,
    pub size_bytes: u64,
    pub media_type: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_cannot_lead_out_of_the_folder() {
        const HELLO: &str =
            "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        assert!(HELLO.parse::<BlobDigest>().is_ok());
        let upper = HELLO.to_uppercase();
        let traversal = format!("sha256:../../{}", "a".repeat(58));
        for text in [
            "",
            "sha256:",
            "sha1:aa",
            &HELLO[7..],
            &HELLO[..70],
            &upper,
            &traversal,
        ] {
            assert_eq!(text.parse::<BlobDigest>(), Err(MalformedDigest), "{text}");
        }
    }
}
