//! Whether an environment value looks like a secret, by its key's name or by its own shape.
//!
//! Secrets in a manifest end in version control, in the database and in every copy of both, so a
//! value that looks like one is refused. The rules lean towards letting ordinary settings pass
//! (URLs, paths, model names, versions, commit ids), because a false alarm blocks a deploy.

/// Why a value looks like a secret. Holds nothing of the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looks {
    /// The key names a secret (`DB_PASSWORD`).
    Named,
    /// The value begins as the credentials of this issuer do.
    Issued(&'static str),
    /// A PEM block with a private key.
    PrivateKey,
    /// A signed JSON web token.
    WebToken,
    /// A URL with a password in it.
    UrlPassword,
    /// A long run of characters without pattern.
    Random,
}

impl Looks {
    /// For a message: "… {explanation}".
    #[must_use]
    pub fn explanation(&self) -> String {
        match self {
            Self::Named => "its name says that it is a secret".to_owned(),
            Self::Issued(issuer) => format!("its value begins as {issuer} does"),
            Self::PrivateKey => "its value is a private key".to_owned(),
            Self::WebToken => "its value is a signed web token".to_owned(),
            Self::UrlPassword => "its value is a URL with a password in it".to_owned(),
            Self::Random => "its value looks randomly generated".to_owned(),
        }
    }
}

/// Whether `key = value` looks like a secret.
#[must_use]
pub fn looks_secret(key: &str, value: &str) -> Option<Looks> {
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    by_shape(key, value).or_else(|| {
        (names_a_secret(key) && !is_plain_setting(value) && !is_pointer(value))
            .then_some(Looks::Named)
    })
}

/// Prefixes of well-known credentials, with the fewest characters of a real one: shorter values
/// (`sk-learn`) are names.
const ISSUED: [(&str, usize, &str); 28] = [
    ("sk-ant-", 24, "an Anthropic key"),
    ("sk-", 24, "an OpenAI-style key"),
    ("sk_live_", 20, "a Stripe key"),
    ("rk_live_", 20, "a Stripe key"),
    ("sk_test_", 20, "a Stripe key"),
    ("whsec_", 20, "a webhook secret"),
    ("ghp_", 24, "a GitHub token"),
    ("gho_", 24, "a GitHub token"),
    ("ghu_", 24, "a GitHub token"),
    ("ghs_", 24, "a GitHub token"),
    ("ghr_", 24, "a GitHub token"),
    ("github_pat_", 24, "a GitHub token"),
    ("glpat-", 20, "a GitLab token"),
    ("xoxb-", 16, "a Slack token"),
    ("xoxp-", 16, "a Slack token"),
    ("xoxa-", 16, "a Slack token"),
    ("xapp-", 16, "a Slack token"),
    ("AKIA", 20, "an AWS access key"),
    ("ASIA", 20, "an AWS access key"),
    ("AIza", 30, "a Google API key"),
    ("ya29.", 20, "a Google access token"),
    ("hf_", 20, "a Hugging Face token"),
    ("npm_", 30, "an npm token"),
    ("pypi-AgEI", 20, "a PyPI token"),
    ("SG.", 30, "a SendGrid key"),
    ("dop_v1_", 30, "a DigitalOcean token"),
    ("gsk_", 24, "a Groq key"),
    ("r8_", 24, "a Replicate token"),
];

fn by_shape(key: &str, value: &str) -> Option<Looks> {
    if value.contains("-----BEGIN ") && value.contains("PRIVATE KEY") {
        return Some(Looks::PrivateKey);
    }
    if is_web_token(value) {
        return Some(Looks::WebToken);
    }
    if url_has_password(value) {
        return Some(Looks::UrlPassword);
    }
    let one_word = !value.contains(char::is_whitespace);
    let issued = ISSUED
        .iter()
        .find(|(prefix, shortest, _)| value.starts_with(prefix) && value.len() >= *shortest);
    if let Some((prefix, _, issuer)) = issued
        && one_word
        && value[prefix.len()..].bytes().any(|b| b.is_ascii_digit())
    {
        return Some(Looks::Issued(issuer));
    }
    (!is_pointer(value) && !is_public_id(key, value) && is_random(value)).then_some(Looks::Random)
}

/// `header.payload.signature`, where the first two are base64 of `{"…`.
fn is_web_token(value: &str) -> bool {
    let parts: Vec<&str> = value.split('.').collect();
    matches!(parts.as_slice(), [header, payload, _]
        if header.starts_with("eyJ") && payload.starts_with("eyJ") && header.len() > 10)
}

fn url_has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority
        .rsplit_once('@')
        .and_then(|(user_info, _)| user_info.split_once(':'))
        .is_some_and(|(_, password)| !password.is_empty())
}

/// The last word decides: `OPENAI_API_KEY` is a secret, `TOKEN_LIMIT` and `API_KEY_FILE` are not.
fn names_a_secret(key: &str) -> bool {
    let words = words_of(key);
    let Some((last, before)) = words.split_last() else {
        return false;
    };
    let previous = before.last().map_or("", String::as_str);
    match last.as_str() {
        "secret" | "secrets" | "password" | "passwd" | "pwd" | "passphrase" | "passcode"
        | "token" | "apikey" | "apitoken" | "secretkey" | "accesskey" | "privatekey"
        | "credential" | "credentials" | "pat" | "dsn" => true,
        "key" => matches!(
            previous,
            "api" | "access" | "secret" | "private" | "signing" | "encryption" | "auth" | "master"
        ),
        _ => false,
    }
}

/// `OPENAI_API_KEY`, `openai-api-key` and `openaiApiKey` alike: openai, api, key.
fn words_of(key: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_lower = false;
    for c in key.chars() {
        let boundary = !c.is_ascii_alphanumeric() || (previous_lower && c.is_ascii_uppercase());
        if boundary {
            words.push(String::new());
        }
        if c.is_ascii_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.push(c.to_ascii_lowercase());
        }
        previous_lower = c.is_ascii_lowercase();
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Numbers and switches are no secrets, whatever they are called.
fn is_plain_setting(value: &str) -> bool {
    let lower = value.to_ascii_lowercase();
    matches!(
        lower.as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "none" | "null"
    ) || (value.len() <= 6 && value.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// A place where something is, not the thing: a URL or a path.
fn is_pointer(value: &str) -> bool {
    value.contains("://")
        || ["/", "./", "../", "~/"]
            .iter()
            .any(|start| value.starts_with(start))
        || value.contains('\\')
}

/// Commit ids, digests and UUIDs are long and random but public.
fn is_public_id(key: &str, value: &str) -> bool {
    let uuid = value.len() == 36
        && value.bytes().enumerate().all(|(i, b)| match i {
            8 | 13 | 18 | 23 => b == b'-',
            _ => b.is_ascii_hexdigit(),
        });
    let digest_key = words_of(key).iter().any(|word| {
        [
            "sha", "sha1", "sha256", "commit", "digest", "hash", "checksum", "revision", "rev",
        ]
        .contains(&word.as_str())
    });
    let digest_value = ["sha256:", "sha512:", "sha256-", "sha512-"]
        .iter()
        .any(|prefix| value.starts_with(prefix));
    let hex = value.bytes().all(|b| b.is_ascii_hexdigit());
    uuid || digest_value || (digest_key && hex)
}

/// Fewest characters of a random value: shorter ones are too often ordinary names.
const RANDOM_LENGTH: usize = 20;

/// Words alternate between lower, upper and digit rarely, random text does at every second
/// character; a capital that begins a word does not count.
fn is_random(value: &str) -> bool {
    if value.len() < RANDOM_LENGTH || value.len() > 4096 {
        return false;
    }
    let alphabet = |b: u8| b.is_ascii_alphanumeric() || b"+/=_-".contains(&b);
    if !value.bytes().all(alphabet) {
        return false;
    }
    let longest_word = value
        .split(|c: char| !c.is_ascii_alphanumeric())
        .max_by_key(|word| word.len())
        .unwrap_or("");
    if longest_word.len() >= RANDOM_LENGTH
        && longest_word.bytes().any(|b| b.is_ascii_digit())
        && entropy_bits(longest_word) >= 3.0
        && alternation(longest_word) >= 0.25
    {
        return true;
    }
    let has = |test: fn(&u8) -> bool| value.as_bytes().iter().any(test);
    has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_digit)
        && value.len() >= 32
        && entropy_bits(value) >= 4.2
        && alternation(value) >= 0.35
}

/// Shannon entropy of the characters, in bits per character.
fn entropy_bits(text: &str) -> f64 {
    let mut counts = [0u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / length)
        .map(|share| -share * share.log2())
        .sum()
}

/// The share of neighbours that differ in class; punctuation ends a word.
fn alternation(text: &str) -> f64 {
    fn class(byte: u8) -> u8 {
        match byte {
            b'a'..=b'z' => 1,
            b'A'..=b'Z' => 2,
            b'0'..=b'9' => 3,
            _ => 0,
        }
    }
    let (mut pairs, mut changes) = (0u32, 0u32);
    for pair in text.as_bytes().windows(2) {
        let (left, right) = (class(pair[0]), class(pair[1]));
        if left == 0 || right == 0 {
            continue;
        }
        pairs += 1;
        let begins_word = left == 2 && right == 1;
        changes += u32::from(left != right && !begins_word);
    }
    if pairs == 0 {
        0.0
    } else {
        f64::from(changes) / f64::from(pairs)
    }
}

#[cfg(test)]
mod tests;
