use proptest::prelude::*;

use super::*;
use crate::quantity::{CpuMillis, MemoryBytes};

const FULL: &str = r#"
name = "sentiment-scorer"
language = "typescript"
start = "node dist/agent.js --mode 'very loud'"
root_dir = "agents/scorer"
context_dir = "."
replicas = 3
isolation = "runc"
install = "loose"
stop_grace = "10s"

[resources]
cpu = 1.5
memory = "256Mi"
pids = 64

[env]
LOG_LEVEL = "debug"
MAX_TOKENS = 4096
VERBOSE = true

[labels]
team = "search"

[probe]
http = "/healthz"
port = 8080
interval_ms = 1000

[build]
env = { NODE_OPTIONS = "--max-old-space-size=2048" }
"#;

fn problems(text: &str) -> Vec<String> {
    let error = parse(text).expect_err("the manifest is wrong");
    error.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_full_manifest_is_read_and_its_json_survives_a_round_trip() {
    let spec = parse(FULL).expect("a valid manifest");
    assert_eq!(spec.start.as_deref().map(<[_]>::len), Some(4));
    assert_eq!(spec.resources.cpu, Some(CpuMillis::new(1500)));
    assert_eq!(spec.resources.memory, Some(MemoryBytes::new(256 << 20)));
    assert_eq!(spec.stop_grace_ms, 10_000);
    assert_eq!(spec.env["MAX_TOKENS"], "4096");
    assert_eq!(spec.run().isolation, IsolationTier::Runc);
    assert_eq!(spec.build().install, InstallMode::Loose);
    let json = serde_json::to_string(&spec).expect("a spec serialises");
    let back: AgentSpec = serde_json::from_str(&json).expect("its own JSON");
    assert_eq!(back, spec);
}

#[test]
fn a_name_is_enough() {
    let spec = parse("name = \"a\"").expect("a valid manifest");
    assert_eq!(spec, AgentSpec::named("a".parse().expect("a name")));
    let json = serde_json::to_string(&spec).expect("a spec serialises");
    assert_eq!(
        json,
        r#"{"name":"a","isolation":"process","install":"frozen","stop_grace_ms":15000}"#
    );
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let text = "nme = \"x\"\nlanguage = \"typscript\"\nreplicas = -1\nstart = \"a && b\"\n\n\
                [resources]\ncpus = 1\nmemory = \"1MB\"\n\n[env]\nDB_PASSWORD = \"hunter2\"\nX = 1.5\n";
    let found = problems(text);
    let expected = [
        "parallax.toml:1:1: `name` is missing: add a line such as name = \"my-agent\"",
        "parallax.toml:1:1: unknown key `nme`; did you mean `name`?",
        "parallax.toml:2:12: \"typscript\" is not one of \"typescript\", \"javascript\", \"python\", \
         \"rust\", \"go\"; did you mean \"typescript\"?",
        "parallax.toml:3:12: -1 is out of range",
        "parallax.toml:4:9: `&&` needs a shell, and none is involved; write it as \
         [\"sh\", \"-c\", \"…\"] if you want one",
        "parallax.toml:7:1: unknown key `cpus` in [resources]; did you mean `cpu`?",
        "parallax.toml:8:10: `1MB` is not a memory amount: write bytes with a unit, such as \
         `256Mi` or `1G`",
    ];
    assert_eq!(&found[..7], &expected[..]);
    assert!(
        found[7].starts_with("parallax.toml:11:1: looks like a secret"),
        "{}",
        found[7]
    );
    assert!(
        !found[7].contains("hunter2"),
        "the value itself is not repeated"
    );
    assert_eq!(
        found[8],
        "parallax.toml:12:5: expected a text, found a decimal number"
    );
    assert_eq!(found.len(), 9);
}

#[test]
fn misplaced_keys_are_sent_home() {
    assert_eq!(
        problems("name = \"a\"\nmemory = \"1Gi\"\n[env]\nA = \"b\"\n[probe]\nreplicas = 2\n"),
        [
            "parallax.toml:2:1: unknown key `memory`; it belongs in [resources]",
            "parallax.toml:5:1: `http` is missing in [probe]: add http = \"/healthz\"",
            "parallax.toml:5:1: `port` is missing in [probe]: add port = 8080",
            "parallax.toml:6:1: unknown key `replicas` in [probe]; it belongs at the top, above [probe]",
        ]
    );
    assert_eq!(
        problems("name = \"a\"\ncommand = \"x\""),
        ["parallax.toml:2:1: unknown key `command`; did you mean `start`?"]
    );
}

#[test]
fn broken_toml_says_where() {
    let found = problems("name = \"a\"\nstart = [\"x\"\n");
    assert!(found[0].starts_with("parallax.toml:"), "{found:?}");
    let found = problems("näme = \"a\"\n");
    assert!(found[0].starts_with("parallax.toml:1:"), "{found:?}");
    assert_eq!(
        problems("name = \"a\"\nname = \"b\"")[0],
        "parallax.toml:2:1: duplicate key"
    );
}

#[test]
fn folders_stay_where_they_may() {
    for bad in ["/abs", "..", "a/../b", "", "a//b"] {
        let text = format!("name = \"a\"\nroot_dir = \"{bad}\"");
        assert_eq!(problems(&text).len(), 1, "{bad}");
    }
    for good in [".", "a/b", "./a"] {
        let text = format!("name = \"a\"\nroot_dir = \"{good}\"");
        assert!(parse(&text).is_ok(), "{good}");
    }
    assert!(parse("name = \"a\"\ncontext_dir = \"../..\"").is_ok());
    assert_eq!(problems("name = \"a\"\ncontext_dir = \"a/..\"").len(), 1);
}

#[test]
fn json_is_as_strict_as_toml() {
    let unknown = serde_json::from_str::<AgentSpec>(r#"{"name":"a","scale":2}"#);
    assert!(
        unknown
            .expect_err("unknown field")
            .to_string()
            .contains("unknown field `scale`")
    );
    let bad_name = serde_json::from_str::<AgentSpec>(r#"{"name":"A b"}"#);
    assert!(bad_name.is_err());
    let json = r#"{"name":"a","replicas":1000000,"env":{"API_KEY":"abc","PARALLAX_URL":"x"},
        "resources":{"cpu":0,"memory":"1k","pids":1},"labels":{"a b":"c"},
        "probe":{"http":"x","port":0},"stop_grace_ms":9999999,"start":[]}"#;
    let spec: AgentSpec = serde_json::from_str(json).expect("well-formed");
    let paths: Vec<String> = spec
        .validate()
        .expect_err("many rules are broken")
        .into_iter()
        .map(|problem| problem.path)
        .collect();
    assert_eq!(
        paths,
        [
            "start",
            "replicas",
            "resources.cpu",
            "resources.memory",
            "resources.pids",
            "env.API_KEY",
            "env.PARALLAX_URL",
            "labels.a b",
            "probe.http",
            "probe.port",
            "stop_grace"
        ]
    );
}

#[test]
fn words_are_split_as_a_shell_quotes_them() {
    let split = |line: &str| split_words(line).map(|words| words.join("|"));
    assert_eq!(split("a b  c").as_deref(), Ok("a|b|c"));
    assert_eq!(
        split(r#"a 'b c' "d \"e\"" f\ g"#).as_deref(),
        Ok(r#"a|b c|d "e"|f g"#)
    );
    assert_eq!(split("a ''").as_deref(), Ok("a|"));
    assert_eq!(split("  "), Err(WordsError::Empty));
    assert_eq!(split("a 'b"), Err(WordsError::Unterminated('\'')));
    assert_eq!(split("a \\"), Err(WordsError::Unterminated('\\')));
    for (line, shown) in [
        ("a && b", "&&"),
        ("a | b", "|"),
        ("a > f", ">"),
        ("a $PORT", "$PORT"),
        ("a \"${PORT}\"", "${PORT}"),
        ("a `b`", "`"),
        ("a\nb", "a line break"),
    ] {
        assert_eq!(
            split(line),
            Err(WordsError::ShellSyntax(shown.into())),
            "{line}"
        );
    }
}

proptest! {
    #[test]
    fn no_manifest_makes_the_parser_panic(text in "\\PC{0,200}") {
        // Only that it returns matters here.
        let _ = parse(&text);
    }

    #[test]
    fn manifests_of_known_keys_and_odd_values_never_panic(
        lines in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "name", "language", "start", "root_dir", "context_dir", "replicas",
                    "resources.cpu", "resources.memory", "env.A", "labels.b", "isolation",
                    "install", "probe.http", "probe.port", "stop_grace", "build.env.X", "probe",
                ]),
                prop::sample::select(vec![
                    "1", "-1", "1.5", "inf", "nan", "0x1F", "true", "\"\"", "\"10s\"", "\"é\"",
                    "[]", "[\"a\"]", "{}", "{a=1}", "1979-05-27", "\"99999999999999999999s\"",
                    "\"a'b\"", "99999999999999999999",
                ]),
            ),
            0..12,
        )
    ) {
        let text: String = lines.iter().map(|(k, v)| format!("{k} = {v}\n")).collect();
        if let Err(error) = parse(&text) {
            prop_assert!(!error.problems.is_empty());
        }
    }
}
