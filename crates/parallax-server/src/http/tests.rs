use super::*;

#[test]
fn every_operation_is_described_and_named_once() {
    let api = openapi();
    let mut seen = std::collections::BTreeSet::new();
    for (path, item) in &api.paths.paths {
        for (method, operation) in reference::operations(item) {
            let id = operation.operation_id.clone().unwrap_or_default();
            assert!(seen.insert(id.clone()), "{id} names two operations");
            assert!(
                operation.summary.is_some(),
                "{method} {path} says nothing of itself"
            );
            assert!(
                operation.responses.responses.contains_key("default"),
                "{method} {path}"
            );
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
}

#[test]
fn the_document_is_openapi_3_1_and_whole() {
    let json = reference::openapi_json();
    assert!(json.contains("\"openapi\": \"3.1.0\""), "{}", &json[..80]);
    let value: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let schemas = &value["components"]["schemas"];
    let mut missing = Vec::new();
    for part in json.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap_or_default();
        if schemas.get(name).is_none() {
            missing.push(name.to_owned());
        }
    }
    assert!(
        missing.is_empty(),
        "schemas that are named and not there: {missing:?}"
    );
}

#[test]
fn the_references_name_every_route_and_code() {
    let text = reference::markdown();
    for path in openapi().paths.paths.keys() {
        assert!(text.contains(path.as_str()), "{path}");
    }
    let errors = reference::errors_markdown();
    for code in Code::ALL {
        assert!(errors.contains(&format!("`{code}`")), "{code}");
    }
}

#[test]
fn the_committed_document_is_what_the_handlers_say() {
    let committed = include_str!("../../../../openapi/parallax-v1.json");
    assert!(
        committed == reference::openapi_json(),
        "openapi/parallax-v1.json is stale; run `cargo xtask codegen`"
    );
}
