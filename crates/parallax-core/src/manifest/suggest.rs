//! The nearest known word to a misspelt one.

/// Words that other tools use for ours.
const SYNONYMS: [(&str, &str); 22] = [
    ("command", "start"),
    ("cmd", "start"),
    ("entrypoint", "start"),
    ("run", "start"),
    ("lang", "language"),
    ("runtime", "language"),
    ("scale", "replicas"),
    ("instances", "replicas"),
    ("count", "replicas"),
    ("environment", "env"),
    ("variables", "env"),
    ("vars", "env"),
    ("limits", "resources"),
    ("root", "root_dir"),
    ("context", "context_dir"),
    ("healthcheck", "probe"),
    ("health", "probe"),
    ("path", "http"),
    ("mem", "memory"),
    ("cpus", "cpu"),
    ("processes", "pids"),
    ("tags", "labels"),
];

/// The one of `known` that was probably meant, if any is near enough.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let synonym = SYNONYMS.iter().find(|(other, _)| *other == word);
    if let Some(meant) = synonym.and_then(|(_, ours)| known.iter().find(|k| *k == ours)) {
        return Some(meant);
    }
    // Beyond a third of the word it would be a guess.
    let tolerance = (word.chars().count() / 3).clamp(1, 3);
    known
        .iter()
        .map(|candidate| (edits(&word, candidate), *candidate))
        .filter(|(distance, _)| *distance <= tolerance)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn edits(left: &str, right: &str) -> usize {
    let left: Vec<char> = left.chars().take(64).collect();
    let right: Vec<char> = right.chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, r) in right.iter().enumerate() {
            let replaced = previous[j] + usize::from(l != r);
            let mut best = replaced.min(previous[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *l == right[j - 1] && left[i - 1] == *r {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut previous, row);
    }
    previous[right.len()]
}
