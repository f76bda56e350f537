//! Amounts of CPU and memory, written as people write them (`500m`, `1.5`, `256Mi`, `1G`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not a number with one of the units.
    #[error("`{0}` is not a CPU amount: write cores (`1.5`) or thousandths of one (`500m`)")]
    Cpu(String),
    /// Not a number with one of the units.
    #[error("`{0}` is not a memory amount: write bytes with a unit, such as `256Mi` or `1G`")]
    Memory(String),
    /// Finer than the smallest unit that is kept.
    #[error("`{0}` is finer than the smallest unit, {1}")]
    TooFine(String, &'static str),
    /// Does not fit.
    #[error("`{0}` is too large")]
    TooLarge(String),
}

/// CPU time per time, in thousandths of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuMillis(u64);

impl CpuMillis {
    /// From thousandths of a core.
    #[must_use]
    pub const fn new(millis: u64) -> Self {
        Self(millis)
    }

    /// In thousandths of a core.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl FromStr for CpuMillis {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let malformed = || QuantityError::Cpu(shorten(text));
        if let Some(millis) = text.strip_suffix('m') {
            return scaled(millis, 1, text, "1m")
                .ok_or_else(malformed)?
                .map(Self);
        }
        scaled(text, 1000, text, "1m")
            .ok_or_else(malformed)?
            .map(Self)
    }
}

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1000) {
            write!(f, "{}", self.0 / 1000)
        } else {
            write!(f, "{}m", self.0)
        }
    }
}

/// Memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemoryBytes(u64);

/// Units with their size in bytes: binary before decimal and larger before smaller, so that the
/// first that divides an amount is the one people would write.
const MEMORY_UNITS: [(&str, u64); 9] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("K", 1_000),
    ("k", 1_000),
];

impl MemoryBytes {
    /// From bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// For people: the largest binary unit, rounded down to a tenth, where `Display` is exact.
    #[must_use]
    pub fn rounded(self) -> String {
        let binary = MEMORY_UNITS.iter().filter(|(unit, _)| unit.ends_with('i'));
        let mut fitting = binary.filter(|(_, size)| self.0 >= *size);
        let Some((unit, size)) = fitting.next() else {
            return self.0.to_string();
        };
        let tenths = u128::from(self.0) * 10 / u128::from(*size);
        match (tenths / 10, tenths % 10) {
            (whole, 0) => format!("{whole}{unit}"),
            (whole, tenth) => format!("{whole}.{tenth}{unit}"),
        }
    }
}

impl FromStr for MemoryBytes {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let (number, size) = MEMORY_UNITS
            .iter()
            .find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)))
            .unwrap_or((text, 1));
        scaled(number, size, text, "one byte")
            .ok_or_else(|| QuantityError::Memory(shorten(text)))?
            .map(Self)
    }
}

impl fmt::Display for MemoryBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = MEMORY_UNITS
            .iter()
            .find(|(_, size)| self.0 != 0 && self.0.is_multiple_of(*size));
        match unit {
            Some((unit, size)) => write!(f, "{}{unit}", self.0 / size),
            None => write!(f, "{}", self.0),
        }
    }
}

/// `number` × `scale` without floats: `None` when it is no plain decimal.
fn scaled(
    number: &str,
    scale: u64,
    whole_text: &str,
    finest: &'static str,
) -> Option<Result<u64, QuantityError>> {
    let (integer, fraction) = match number.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (number, ""),
    };
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if integer.is_empty() || !digits(integer) || !digits(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let too_large = || QuantityError::TooLarge(shorten(whole_text));
    let Ok(denominator) = u32::try_from(fraction.len())
        .map_err(|_| ())
        .and_then(|n| 10u128.checked_pow(n).ok_or(()))
    else {
        return Some(Err(QuantityError::TooFine(shorten(whole_text), finest)));
    };
    let numerator = format!("{integer}{fraction}")
        .parse::<u128>()
        .ok()
        .and_then(|n| n.checked_mul(u128::from(scale)));
    let Some(numerator) = numerator else {
        return Some(Err(too_large()));
    };
    if !numerator.is_multiple_of(denominator) {
        return Some(Err(QuantityError::TooFine(shorten(whole_text), finest)));
    }
    Some(u64::try_from(numerator / denominator).map_err(|_| too_large()))
}

/// At most 40 characters of what was written: error texts stay bounded.
fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

macro_rules! serde_as_text {
    ($type:ty, $expecting:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;

                impl de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }

                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }

                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$type, E> {
                        number.to_string().parse().map_err(E::custom)
                    }
                }

                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

serde_as_text!(CpuMillis, "cores as a number, or a text such as \"500m\"");
serde_as_text!(
    MemoryBytes,
    "bytes as a number, or a text such as \"256Mi\""
);

#[cfg(test)]
mod tests;
