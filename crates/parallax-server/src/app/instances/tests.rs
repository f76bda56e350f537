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
