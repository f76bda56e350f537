use super::*;
use crate::blob::BlobDigest;

fn json(text: &'static str) -> Json {
    Json::parse(Bytes::from_static(text.as_bytes())).expect("well-formed")
}

fn kept(outcome: &Outcome, expected: &str) {
    let text = serde_json::to_string(outcome).expect("only string keys");
    assert_eq!(text, expected);
    let back: Outcome = serde_json::from_str(&text).expect("what was just written");
    assert_eq!(&back, outcome);
}

#[test]
fn an_answer_is_kept_as_json_that_a_person_can_read_byte_for_byte() {
    let digest = BlobDigest::of_sha256([0xab; 32]);
    let success = Success {
        confidence: Some(Confidence {
            ppm: Ppm::try_from(900_000).expect("a share"),
            source: "model".to_owned(),
        }),
        evidence: vec![Evidence {
            kind: "page".to_owned(),
            summary: "line 3".to_owned(),
            detail: Some(json("[1.0]")),
            blob: Some(BlobRef {
                digest: digest.clone(),
                size_bytes: 5,
                media_type: "text/plain".to_owned(),
            }),
        }],
        usage: Some(Usage {
            input_tokens: 1,
            output_tokens: 2,
            cost_micro_minor: 3,
            currency: "EUR".to_owned(),
        }),
        ..Success::of(Payload::Json(json(
            r#"{"b": 1.0,"a":123456789012345678901}"#,
        )))
    };
    let expected = format!(
        concat!(
            r#"{{"success":{{"value":{{"json":{{"b": 1.0,"a":123456789012345678901}}}},"#,
            r#""confidence":{{"ppm":900000,"source":"model"}},"#,
            r#""evidence":[{{"kind":"page","summary":"line 3","detail":[1.0],"#,
            r#""blob":{{"digest":"{}","size_bytes":5,"media_type":"text/plain"}}}}],"#,
            r#""usage":{{"input_tokens":1,"output_tokens":2,"cost_micro_minor":3,"currency":"EUR"}}}}}}"#,
        ),
        digest
    );
    kept(&Outcome::Success(success), &expected);
}

#[test]
fn a_problem_is_kept_under_its_code() {
    let outcome = Outcome::problem(Code::AgentLost, "it went away");
    kept(
        &outcome,
        r#"{"problem":{"code":"agent_lost","message":"it went away","retryable":false,"retry_after_ms":0}}"#,
    );
}

#[test]
fn more_than_the_whole_is_no_share() {
    assert_eq!(Ppm::try_from(1_000_000), Ok(Ppm::ALL));
    assert_eq!(Ppm::try_from(1_000_001), Err(MoreThanAll(1_000_001)));
}
