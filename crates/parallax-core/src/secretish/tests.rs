use super::*;

#[test]
fn secrets_are_seen_by_name_and_by_shape() {
    let body = "A1b2".repeat(9);
    let pem = "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----";
    let cases: Vec<(&str, String, Looks)> = vec![
        ("DB_PASSWORD", "hunter2".into(), Looks::Named),
        ("OPENAI_API_KEY", "x".into(), Looks::Named),
        ("openaiApiKey", "abc".into(), Looks::Named),
        ("SESSION_SECRET", "swordfish".into(), Looks::Named),
        ("ACCESS_TOKEN", "letmein".into(), Looks::Named),
        (
            "X",
            format!("sk-ant-{body}"),
            Looks::Issued("an Anthropic key"),
        ),
        (
            "X",
            format!("sk-proj-{body}"),
            Looks::Issued("an OpenAI-style key"),
        ),
        ("X", format!("ghp_{body}"), Looks::Issued("a GitHub token")),
        (
            "X",
            "AKIA0123456789ABCDEF".into(),
            Looks::Issued("an AWS access key"),
        ),
        ("X", pem.into(), Looks::PrivateKey),
        (
            "X",
            "eyJhbGciOiJI.eyJzdWIiOiIx.c2ln".into(),
            Looks::WebToken,
        ),
        (
            "DATABASE_URL",
            "postgres://app:pw@db/x".into(),
            Looks::UrlPassword,
        ),
        (
            "X",
            "dG7v+Q2/xk9ZbR4s/1NfWp0+Yt6Hu3LcJ8aE5mXo".into(),
            Looks::Random,
        ),
        (
            "X",
            "9f86d081884c7d659a2feaa0c55ad015".into(),
            Looks::Random,
        ),
        ("X", "q7Zp2LxV9tRb4WmK8sYc3NdF".into(), Looks::Random),
        (
            "X",
            "k3j9x0q2m8v7b5n1z4c6l0p9w2e8r7t5".into(),
            Looks::Random,
        ),
    ];
    for (key, value, expected) in cases {
        assert_eq!(looks_secret(key, &value), Some(expected), "{key}={value}");
    }
}

#[test]
fn ordinary_settings_pass() {
    for (key, value) in [
        ("LOG_LEVEL", "debug"),
        ("MAX_TOKENS", "4096"),
        ("TOKEN_LIMIT", "lots"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("PASSWORD_MIN_LENGTH", "8"),
        ("USE_TOKEN", "true"),
        ("API_KEY_FILE", "/run/secrets/key"),
        ("OPENAI_API_KEY", "/run/secrets/openai"),
        ("OPENAI_API_KEY", ""),
        ("MODEL", "claude-sonnet-4-5-20250929"),
        ("MODEL", "meta-llama/Llama-3.3-70B-Instruct"),
        ("MODEL", "sk-learn-classifier"),
        ("MODEL", "mixtral-8x7b-instruct-v0.1-awq"),
        (
            "URL",
            "https://example.com/a/B7/very/long/path/9f86d081884c7d65?x=1",
        ),
        ("URL", "redis://cache:6379/0"),
        ("URL", "https://user@example.com/"),
        ("PATH_X", "/opt/app/releases/20260101T101112Z-9f86d081884c"),
        ("DIR", "./node_modules/.cache/a1B2c3D4e5F6g7H8i9J0"),
        ("GIT_COMMIT", "9f86d081884c7d659a2feaa0c55ad0159f86d081"),
        (
            "IMAGE",
            "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        ),
        ("PROJECT_ID", "123e4567-e89b-12d3-a456-426614174000"),
        ("NAME", "MyVeryLongServiceName42Extended"),
        ("NAME", "customer-support-classifier-production-2"),
        ("MODULE", "parallax_agents_sentiment_scorer_v2"),
        (
            "GREETING",
            "Hello, this is a long and friendly sentence of 2026.",
        ),
        ("JAVA_OPTS", "-Xmx512m -XX:+UseG1GC -Dfile.encoding=UTF-8"),
        ("NODE_OPTIONS", "--max-old-space-size=4096"),
        ("FEATURES", "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o"),
        ("STAMP", "20260101101112000000"),
        ("PUBLIC_KEY", "prod"),
        ("CACHE_KEY", "v2"),
        ("TZ", "America/Argentina/Buenos_Aires"),
    ] {
        assert_eq!(looks_secret(key, value), None, "{key}={value}");
    }
}
