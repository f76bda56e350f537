//! Closed lists of words: one macro makes the enum, its texts and its way back from text.

use std::fmt;

/// A text that is none of a closed list's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct UnknownWord {
    /// What the words are, such as "a scope".
    what: &'static str,
    /// The text, cut to [`SHOWN_CHARS`]: it may come from outside.
    text: String,
    /// Every word that would have been right.
    known: Vec<&'static str>,
}

/// As much of a wrong word as a message repeats.
const SHOWN_CHARS: usize = 40;

impl UnknownWord {
    pub(crate) fn new(
        what: &'static str,
        text: &str,
        known: impl Iterator<Item = &'static str>,
    ) -> Self {
        Self {
            what,
            text: text.chars().take(SHOWN_CHARS).collect(),
            known: known.collect(),
        }
    }
}

impl fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not {}; known are {}",
            self.text,
            self.what,
            self.known.join(", ")
        )
    }
}

/// Declares an enum whose values are words: in JSON, in the database, on the wire and in
/// messages alike. The text after the type says what the words are, for [`UnknownWord`].
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident($what:literal) {
            $($(#[$variant_meta:meta])* $variant:ident = $text:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $($(#[$variant_meta])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in the order that messages list them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word, as JSON, the database and messages have it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::word::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::ALL
                    .iter()
                    .copied()
                    .find(|value| value.as_str() == text)
                    .ok_or_else(|| {
                        let known = Self::ALL.iter().map(|value| value.as_str());
                        $crate::word::UnknownWord::new($what, text, known)
                    })
            }
        }
    };
}

pub(crate) use words;

#[cfg(test)]
mod tests {
    use crate::key::Scope;

    #[test]
    fn a_wrong_word_is_answered_with_the_right_ones() {
        assert_eq!(
            "adimn".parse::<Scope>().expect_err("misspelt").to_string(),
            "`adimn` is not a scope; known are admin, deploy, invoke, read, agent, host, input, \
             approve"
        );
    }

    #[test]
    fn a_word_is_the_same_in_json_and_in_text() {
        for scope in Scope::ALL {
            let json = serde_json::to_string(scope).expect("a word is a string");
            assert_eq!(json, format!("\"{scope}\""));
            assert_eq!(scope.as_str().parse(), Ok(*scope));
        }
    }

    #[test]
    fn a_long_wrong_word_is_cut() {
        let text = "x".repeat(5000);
        let error = text.parse::<Scope>().expect_err("not a word");
        assert!(error.to_string().len() < 200);
    }
}
