//! Splitting a command line into words, without a shell.

/// Why a text is not a plain command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WordsError {
    /// No word at all.
    #[error("the command is empty")]
    Empty,
    /// An opening quote without its end, or a backslash at the end.
    #[error("the quote {0} is never closed")]
    Unterminated(char),
    /// Something that only a shell understands.
    #[error(
        "`{0}` needs a shell, and none is involved; write it as [\"sh\", \"-c\", \"…\"] if you want one"
    )]
    ShellSyntax(String),
}

/// Splits `line` into words as a POSIX shell quotes them, and refuses everything else that a shell
/// would interpret: operators, variables, substitutions and redirections.
///
/// # Errors
/// The first obstacle, as [`WordsError`].
pub fn split_words(line: &str) -> Result<Vec<String>, WordsError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '"' => quoted(c, &mut chars, word.get_or_insert_default())?,
            '\\' => {
                let next = chars.next().ok_or(WordsError::Unterminated('\\'))?;
                word.get_or_insert_default().push(next);
            }
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '$' | '`' | '\n' => {
                return Err(shell_syntax(c, chars.as_str()));
            }
            '#' if word.is_none() => return Err(shell_syntax(c, chars.as_str())),
            c if c.is_whitespace() => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if words.is_empty() {
        return Err(WordsError::Empty);
    }
    Ok(words)
}

fn quoted(
    quote: char,
    chars: &mut std::str::Chars<'_>,
    word: &mut String,
) -> Result<(), WordsError> {
    while let Some(c) = chars.next() {
        match c {
            c if c == quote => return Ok(()),
            '$' | '`' if quote == '"' => return Err(shell_syntax(c, chars.as_str())),
            '\\' if quote == '"' => match chars.next() {
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some(other) => word.extend(['\\', other]),
                None => return Err(WordsError::Unterminated('"')),
            },
            c => word.push(c),
        }
    }
    Err(WordsError::Unterminated(quote))
}

/// The operator with its neighbour or name, so that the message shows `&&` or `$PORT`.
fn shell_syntax(first: char, rest: &str) -> WordsError {
    let mut shown = String::from(first);
    match first {
        '$' => shown.extend(
            rest.chars()
                .take_while(|c| c.is_alphanumeric() || "_{}".contains(*c))
                .take(30),
        ),
        '\n' => shown = "a line break".to_owned(),
        _ => shown.extend(rest.chars().next().filter(|next| *next == first)),
    }
    WordsError::ShellSyntax(shown)
}
