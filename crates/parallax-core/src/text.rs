//! Text that comes in pieces of bytes: a piece may end in the middle of a character.

/// Puts characters that were cut in two together again. What is no UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub struct Utf8Pieces {
    /// The beginning of a character whose rest is still to come: at most three bytes.
    begun: Vec<u8>,
}

impl Utf8Pieces {
    /// The text of the next piece, with what the one before it began.
    pub fn next(&mut self, piece: &[u8]) -> String {
        let mut text = String::new();
        let mut bytes = std::mem::take(&mut self.begun);
        bytes.extend_from_slice(piece);
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let at_the_end = invalid.as_ptr_range().end == bytes.as_ptr_range().end;
            if at_the_end && is_beginning(invalid) {
                self.begun = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        text
    }

    /// What is left of a character that was begun and not ended, when its rest will not come.
    pub fn rest(&mut self) -> Option<String> {
        let begun = !std::mem::take(&mut self.begun).is_empty();
        begun.then(|| char::REPLACEMENT_CHARACTER.to_string())
    }
}

/// Whether further bytes could make a character of these.
fn is_beginning(bytes: &[u8]) -> bool {
    let error = std::str::from_utf8(bytes).err();
    error.is_some_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_was_cut_is_whole_again() {
        let bytes = "a\u{20ac}b\u{1f600}".as_bytes();
        for size in 1..=bytes.len() {
            let mut pieces = Utf8Pieces::default();
            let text: String = bytes.chunks(size).map(|piece| pieces.next(piece)).collect();
            assert_eq!(text.as_bytes(), bytes, "in pieces of {size}");
            assert_eq!(pieces.rest(), None);
        }
    }

    #[test]
    fn what_is_no_text_is_replaced_and_what_may_become_one_is_waited_for() {
        let mut pieces = Utf8Pieces::default();
        assert_eq!(pieces.next(b"\xff\xfeok\xe6"), "\u{fffd}\u{fffd}ok");
        assert_eq!(
            pieces.next("日".as_bytes().get(1..).expect("three bytes")),
            "日"
        );
        assert_eq!(pieces.next(b"a\xe2\x82"), "a");
        assert_eq!(pieces.rest().as_deref(), Some("\u{fffd}"));
    }
}
