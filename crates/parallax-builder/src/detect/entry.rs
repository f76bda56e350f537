//! Rules about commands and entry files that all languages share.

use std::collections::BTreeMap;

/// Names of files that people start, from the clearest; the same for every language.
pub(super) const ENTRY_NAMES: [&str; 6] = ["main", "app", "server", "bot", "agent", "index"];

/// `A=1 B=2 node x` as its environment and its command.
pub(super) fn split_assignments(words: Vec<String>) -> (BTreeMap<String, String>, Vec<String>) {
    let mut env = BTreeMap::new();
    let mut argv = Vec::new();
    for word in words {
        let assignment = word.split_once('=').filter(|(key, _)| {
            !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        });
        match assignment {
            Some((key, value)) if argv.is_empty() => {
                env.insert(key.to_owned(), value.to_owned());
            }
            // `cross-env` does for Windows what the assignment alone does here.
            None if argv.is_empty() && word == "cross-env" => {}
            _ => argv.push(word),
        }
    }
    (env, argv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leading_assignments_become_environment() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (env, argv) = split_assignments(words("cross-env NODE_ENV=production node a.js --x=1"));
        assert_eq!(env["NODE_ENV"], "production");
        assert_eq!(argv, words("node a.js --x=1"));
    }
}
