//! JSON that is carried and not read: values of tasks, schemas of capabilities.

use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

/// Well-formed JSON in UTF-8, byte for byte as it came but for blanks around it. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Bytes);

/// Why bytes are not JSON.
#[derive(Debug, thiserror::Error)]
#[error("not JSON")]
pub struct NotJson(#[source] serde_json::Error);

impl Json {
    pub const NULL: Self = Self(Bytes::from_static(b"null"));

    /// Looks through the bytes once and builds nothing.
    ///
    /// # Errors
    /// [`NotJson`] with the place where it ends to be JSON.
    pub fn parse(bytes: Bytes) -> Result<Self, NotJson> {
        let raw: &RawValue = serde_json::from_slice(&bytes).map_err(NotJson)?;
        Ok(Self(bytes.slice_ref(raw.get().as_bytes())))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("it was checked when it was made")
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Never: even `null` has four bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As other JSON embeds it.
    #[must_use]
    pub fn to_raw(&self) -> Box<RawValue> {
        RawValue::from_string(self.as_str().to_owned()).expect("it was checked when it was made")
    }
}

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        Self(String::from(Box::<str>::from(raw)).into())
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for Json {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue =
            serde_json::from_str(self.as_str()).expect("it was checked when it was made");
        raw.serialize(serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static [u8]) -> Result<Json, NotJson> {
        Json::parse(Bytes::from_static(text))
    }

    #[test]
    fn a_value_keeps_its_bytes_here_and_inside_other_json() {
        let text = br#"{"b": 1.0,"a":123456789012345678901,"n":"\u0000"}"#;
        let json = parse(text).expect("well-formed");
        assert_eq!(json.as_bytes(), text);
        let inside = serde_json::to_string(&[&json]).expect("a list");
        assert_eq!(inside.as_bytes(), [b"[", &text[..], b"]"].concat());
        let back: [Json; 1] = serde_json::from_str(&inside).expect("a list");
        assert_eq!(back, [json]);
    }

    #[test]
    fn blanks_around_a_value_go() {
        assert_eq!(parse(b" \n1\t").expect("well-formed").as_bytes(), b"1");
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let bad: [&[u8]; 7] = [
            b"",
            b"{\"a\":",
            b"1 2",
            b"\"\xff\"",
            b"\xff",
            b"nul",
            b"\"\n\"",
        ];
        for text in bad {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = "[".repeat(200_000) + &"]".repeat(200_000);
        assert!(Json::parse(deep.into()).is_ok());
    }
}
