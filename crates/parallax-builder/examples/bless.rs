//! Rewrites what the corpus expects. Read the difference before you commit it.

#[path = "../tests/it/corpus.rs"]
mod corpus;

fn main() {
    for case in corpus::cases() {
        let expected = case.join("expected.json");
        std::fs::write(expected, corpus::outcome(&case)).expect("the corpus is writable");
    }
}
