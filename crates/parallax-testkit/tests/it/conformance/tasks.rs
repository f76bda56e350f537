//! Values, failures, deadlines, inputs and contexts.

use parallax_proto::v1::TaskContext;
use parallax_testkit::conformance::{Lab, Order, check, check_eq, evidence_lines, json_of};
use serde_json::{Value, json};

pub(super) async fn echo_returns_its_input_with_confidence_and_evidence(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let task = link.ask("echo", json!({"a": [1, 2]})).await?;
    link.accepted(&task).await?;
    let result = link.result_of(&task).await?;
    check_eq(
        "the value",
        json_of(result.value.as_ref())?,
        json!({"a": [1, 2]}),
    )?;
    let confidence = result.confidence.unwrap_or_default();
    check_eq("Confidence.ppm of 0.75", confidence.ppm, 750_000)?;
    check_eq("Confidence.source", confidence.source.as_str(), "self")?;
    check_eq(
        "the evidence",
        evidence_lines(&result.evidence),
        vec!["note: echoed".to_owned()],
    )?;

    let task = link.ask("slow", json!({"ms": 1})).await?;
    let result = link.result_of(&task).await?;
    check(
        result.confidence.is_none(),
        "an absent Confidence stays absent: unknown is neither 0 nor 1",
        || format!("sent {:?}", result.confidence),
    )?;
    Ok(())
}

pub(super) async fn unicode_survives(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let text = "žluťoučký kůň 日本語 e\u{301} 🦜👩‍👩‍👧 \u{202e}עברית \u{0} \" \\ \n \u{7f} \u{ffff}";
    let input = json!({ "klíč 🔑": text, "": "" });
    let task = link.ask("echo", input.clone()).await?;
    check_eq("the value", link.value_of(&task).await?, input)?;

    let input = json!({"code": "bad_luck", "message": text, "retryable": false});
    let task = link.ask("fail", input).await?;
    let failed = link.failure_of(&task).await?;
    check_eq("TaskFailed.message", failed.message.as_str(), text)?;
    Ok(())
}

pub(super) async fn every_json_type_survives(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let values = [
        Value::Null,
        json!(false),
        json!(0),
        json!(-1.5),
        json!(9_007_199_254_740_991_i64),
        json!(""),
        json!([]),
        json!({}),
        json!([null, [true, {"deep": [{}]}]]),
    ];
    for value in values {
        let task = link.ask("echo", value.clone()).await?;
        check_eq("the echoed value", link.value_of(&task).await?, value)?;
    }
    Ok(())
}

pub(super) async fn a_typed_failure_keeps_its_fields(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let input = json!({
        "code": "quota_gone", "message": "come back later", "retryable": true,
        "retry_after_ms": 1_500,
    });
    let task = link.ask("fail", input).await?;
    let failed = link.failure_of(&task).await?;
    check_eq("TaskFailed.code", failed.code.as_str(), "quota_gone")?;
    check_eq(
        "TaskFailed.message",
        failed.message.as_str(),
        "come back later",
    )?;
    check_eq("TaskFailed.retryable", failed.retryable, true)?;
    check_eq("TaskFailed.retry_after_ms", failed.retry_after_ms, 1_500)?;
    Ok(())
}

pub(super) async fn a_crash_is_an_internal_failure_without_a_stack(
    lab: &Lab,
) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let task = link.ask("crash", json!({})).await?;
    let failed = link.failure_of(&task).await?;
    check_eq("TaskFailed.code", failed.code.as_str(), "internal")?;
    check_eq("TaskFailed.retryable", failed.retryable, false)?;
    let stack = ["\n", "Traceback", "    at ", "fixture."];
    check(
        failed.message.contains("boom") && !stack.iter().any(|mark| failed.message.contains(mark)),
        "TaskFailed.message is the error's own words without a stack",
        || format!("sent {:?}", failed.message),
    )?;
    let task = link.ask("echo", json!("alive")).await?;
    check_eq(
        "the next value",
        link.value_of(&task).await?,
        json!("alive"),
    )?;
    Ok(())
}

pub(super) async fn an_input_against_the_schema_is_invalid_input(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    for input in [json!({"n": "one"}), json!({}), json!({"n": 1.5}), json!([])] {
        let task = link.ask("schema", input.clone()).await?;
        let failed = link.failure_of(&task).await?;
        check_eq("TaskFailed.code", failed.code.as_str(), "invalid_input")?;
        check(
            !failed.message.is_empty() && !failed.retryable,
            "invalid_input says what is wrong and is not retryable",
            || format!("sent {failed:?} for {input}"),
        )?;
    }
    let task = link.ask("schema", json!({"n": 1})).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"ok": true}),
    )?;
    Ok(())
}

pub(super) async fn an_input_that_is_not_json_fails(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    // NaN and a trailing comma: what some parsers read and JSON is not.
    let malformed = [
        &b"{\"a\":"[..],
        b"\"\xff\xfe\"",
        b"{} {}",
        b"NaN",
        b"[-Infinity]",
        b"[1,]",
    ];
    for bytes in malformed {
        let task = link.give(Order::with_bytes("size", bytes.to_vec())).await?;
        let failed = link.failure_of(&task).await?;
        check_eq("TaskFailed.code", failed.code.as_str(), "invalid_input")?;
    }
    let task = link.ask("echo", json!("alive")).await?;
    check_eq(
        "the next value",
        link.value_of(&task).await?,
        json!("alive"),
    )?;
    Ok(())
}

pub(super) async fn an_unknown_capability_fails(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    // Names that a careless lookup finds in a language's base object.
    for name in ["nonesuch", "", "constructor", "__proto__", "__class__"] {
        let task = link.ask(name, json!({})).await?;
        let failed = link.failure_of(&task).await?;
        check(
            !failed.retryable && failed.code != "internal",
            "a capability that was never declared fails with a code of its own, not retryable",
            || format!("sent {failed:?} for capability {name:?}"),
        )?;
    }
    Ok(())
}

pub(super) async fn the_deadline_cancels_the_handler(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let order = Order::of("slow", &json!({"ms": 600_000})).due(200, 0);
    let task = link.give(order).await?;
    let failed = link.failure_of(&task).await?;
    check_eq("TaskFailed.code", failed.code.as_str(), "deadline_exceeded")?;
    link.credit_reaches(4).await
}

pub(super) async fn the_time_left_counts_and_not_the_clock(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    // The server's clock is years behind the agent's: only time_left_ms is sound.
    let order = Order::of("deadline", &json!({})).due(60_000, 1_000_000);
    let task = link.give(order).await?;
    let value = link.value_of(&task).await?;
    let left = value["time_left_ms"].as_f64().unwrap_or(-1.0);
    check(
        left > 0.0 && left <= 60_000.0,
        "the handler sees what is left of time_left_ms = 60000",
        || format!("returned {value}"),
    )?;
    Ok(())
}

pub(super) async fn a_handler_without_a_deadline_has_no_time_left(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let task = link.ask("deadline", json!({})).await?;
    let value = link.value_of(&task).await?;
    check(
        value["time_left_ms"].is_null(),
        "time_left_ms = 0 in a Task means no deadline, not a passed one",
        || format!("returned {value}"),
    )?;
    Ok(())
}

pub(super) async fn an_input_frame_reaches_the_handler(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let one = link.ask("ask", json!({})).await?;
    let other = link.ask("ask", json!({})).await?;
    link.accepted(&one).await?;
    link.accepted(&other).await?;
    link.input(&other, &json!("for the other")).await?;
    link.input(&one, &json!({"for": "one"})).await?;
    check_eq(
        "the value",
        link.value_of(&one).await?,
        json!({"answer": {"for": "one"}}),
    )?;
    check_eq(
        "the value",
        link.value_of(&other).await?,
        json!({"answer": "for the other"}),
    )?;
    Ok(())
}

pub(super) async fn an_input_frame_waits_for_the_handler(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let task = link.ask("ask", json!({})).await?;
    // Right behind the Task, before the handler can have asked.
    link.input(&task, &json!(7)).await?;
    check_eq(
        "the value",
        link.value_of(&task).await?,
        json!({"answer": 7}),
    )?;
    Ok(())
}

pub(super) async fn the_context_reaches_the_handler(lab: &Lab) -> anyhow::Result<()> {
    let (_stage, mut link) = lab.connected().await?;
    let context = TaskContext {
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
        tracestate: "a=b,c=d".to_owned(),
        baggage: "user=Žofie".to_owned(),
        context_id: "conversation 7".to_owned(),
        caller: "key of Žofie".to_owned(),
        ..TaskContext::default()
    };
    let order = Order::of("context", &json!({}))
        .in_context(context.clone())
        .attempt(3);
    let task = link.give(order).await?;
    let expected = json!({
        "traceparent": context.traceparent, "tracestate": context.tracestate,
        "baggage": context.baggage, "task_id": task.task_id, "attempt": 3,
        "caller": context.caller, "context_id": context.context_id,
    });
    check_eq(
        "the context that the handler saw",
        link.value_of(&task).await?,
        expected,
    )?;
    Ok(())
}
