//! Partial results as text: their bytes may cut a character in two, JSON texts may not.

use parallax_core::task::Partial;
use parallax_core::text::Utf8Pieces;

/// Turns the pieces of one reader into text, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    last: u64,
    text: Utf8Pieces,
}

impl Pieces {
    /// The text of a piece, with what the one before it began. What is no UTF-8 becomes U+FFFD, and
    /// so does a character whose rest never came.
    pub(crate) fn text(&mut self, partial: &Partial) -> String {
        let missed = partial.seq != self.last.saturating_add(1);
        self.last = partial.seq;
        let before = missed.then(|| self.rest()).flatten();
        before.unwrap_or_default() + &self.text.next(&partial.chunk)
    }

    /// What is left of a character that was begun and not ended.
    pub(crate) fn rest(&mut self) -> Option<String> {
        self.text.rest()
    }

    /// The number of the last piece.
    pub(crate) const fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[(u64, &[u8])]) -> (Vec<String>, Option<String>) {
        let mut reader = Pieces::default();
        let texts = pieces.iter().map(|(seq, chunk)| {
            let (seq, chunk) = (*seq, chunk.to_vec().into());
            reader.text(&Partial { seq, chunk })
        });
        (texts.collect(), reader.rest())
    }

    #[test]
    fn a_character_that_was_cut_is_whole_again() {
        let bytes = "a\u{20ac}b\u{1f600}".as_bytes();
        for cut in 0..=bytes.len() {
            let (texts, rest) = read(&[(1, &bytes[..cut]), (2, &bytes[cut..])]);
            assert_eq!(texts.concat().as_bytes(), bytes, "cut at {cut}");
            assert_eq!(rest, None);
        }
        let single: Vec<(u64, &[u8])> = (1..).zip(bytes.chunks(1)).collect();
        assert_eq!(read(&single).0.concat().as_bytes(), bytes);
    }

    #[test]
    fn what_is_no_text_is_replaced_once() {
        let (texts, _) = read(&[(1, b"a\xffb"), (2, b"c")]);
        assert_eq!(texts, ["a\u{fffd}b", "c"]);
        // The rest of the euro sign was in a piece that was missed.
        let (texts, _) = read(&[(1, b"a\xe2\x82"), (3, b"c")]);
        assert_eq!(texts, ["a", "\u{fffd}c"]);
        let (texts, rest) = read(&[(1, b"a\xe2\x82")]);
        assert_eq!(texts, ["a"]);
        assert_eq!(rest.as_deref(), Some("\u{fffd}"));
    }
}
