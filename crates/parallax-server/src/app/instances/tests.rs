use parallax_core::manifest::AgentSpec;

use super::*;
use crate::app::Receipt;
use crate::app::deploy::{Deployed, Deployment};
use crate::testing::{World, name};

fn hello() -> Hello {
    Hello {
        agent_name: "scorer".to_owned(),
        instance_uuid: "0192f0c4-7d5e-7a10-8000-000000000001".to_owned(),
        ..Hello::default()
    }
}

async fn deploy(world: &World) -> Result<Deployed> {
    let wanted = Deployment {
        spec: AgentSpec::named(name("scorer")),
        source: None,
        suspended: true,
    };
    world
        .app
        .deploy(&world.admin, wanted, Receipt::none())
        .await
}

#[tokio::test]
async fn a_deployment_waits_for_an_external_agent_that_is_taking_the_name() {
    let world = World::new().await;
    let admitted = world.app.admit(&world.admin, hello()).await;
    let admitted = admitted.expect("nobody has the name");
    let deployment = deploy(&world);
    tokio::pin!(deployment);
    assert!(futures::poll!(&mut deployment).is_pending());
    let _joined = crate::dispatch::tests::Entry::new("a", 1).join(&admitted.group);
    drop(admitted.claim);
    let refused = deployment.await.expect_err("the name is taken");
    assert_eq!(refused.code, Code::Conflict, "{refused}");
}

#[tokio::test]
async fn an_external_agent_whose_name_is_being_deployed_is_refused() {
    let world = World::new().await;
    // Both are under way before either is through.
    let (deployed, admitted) = tokio::join!(
        biased;
        deploy(&world),
        world.app.admit(&world.admin, hello())
    );
    deployed.expect("it was first");
    let refused = admitted.err().expect("the name is taken");
    assert_eq!(refused.code, Code::Forbidden, "{refused}");
}

fn capability(name: &str) -> Capability {
    Capability {
        name: name.to_owned(),
        version: "1".to_owned(),
        description: "Scores.\n\tSlowly.".to_owned(),
        max_concurrency: 0,
        input_schema: None,
        idempotent: false,
    }
}

#[test]
fn what_people_are_shown_holds_no_control_characters() {
    let with = |change: &dyn Fn(&mut Hello)| {
        let mut hello = hello();
        hello.capabilities = vec![capability("score")];
        change(&mut hello);
        check(&hello).err().map(|e| e.message.into_owned())
    };
    let first = |hello: &mut Hello| hello.capabilities.remove(0);
    assert_eq!(with(&|_| {}), None);
    let refused: [&dyn Fn(&mut Hello); 6] = [
        &|h| h.capabilities = vec![capability("d\u{1b}[31m")],
        &|h| h.capabilities[0].version = "1\n".to_owned(),
        &|h| h.capabilities[0].description = "\u{7}".to_owned(),
        &|h| h.sdk.version = "1\u{9b}".to_owned(),
        &|h| drop(h.labels.insert("a\0".to_owned(), String::new())),
        &|h| drop(h.labels.insert("a".to_owned(), "b\r".to_owned())),
    ];
    for change in refused {
        let message = with(change).expect("it is refused");
        assert!(message.contains("control characters"), "{message}");
        assert!(!message.contains(char::is_control), "{message:?}");
    }
    assert!(with(&|h| h.capabilities.push(capability("score"))).is_some());
    assert!(with(&|h| drop(first(h))).is_none(), "none at all is fine");
}

#[test]
fn a_schema_is_an_object_or_a_boolean() {
    let takes = |text: &str| {
        let mut hello = hello();
        hello.capabilities = vec![Capability {
            input_schema: Some(Json::parse(text.to_owned().into()).expect("well-formed")),
            ..capability("score")
        }];
        check(&hello).is_ok()
    };
    assert!(takes("{\"type\": \"string\"}") && takes("true") && takes("false"));
    assert!(!takes("null") && !takes("[]") && !takes("\"x\""));
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
    assert!(!takes(&deep), "the registry could not show it");
}
