use parallax_core::manifest::AgentSpec;
use parallax_proto::v1;

use super::*;
use crate::testing::{World, name};

async fn listed(world: &World) -> Vec<(String, Option<u64>, Option<Language>)> {
    let page = Page::first(10);
    let listed = world.app.list_agents(&world.admin, None, &page).await;
    let items = listed.expect("an administrator may").items.into_iter();
    let shown = |summary: AgentSummary| {
        let number = summary.revision.map(|revision| revision.number);
        (summary.agent.name.to_string(), number, summary.language)
    };
    items.map(shown).collect()
}

#[tokio::test]
async fn a_list_names_each_agents_revision_and_the_language_that_a_build_has_found() {
    let world = World::new().await;
    let mut host = world.host("one").await;
    world
        .deploy_as(AgentSpec::named(name("idle")), None, true)
        .await;
    world.deploy(b"one", 1).await;
    let agent = world.deploy(b"two", 1).await;
    world.reconcile(&agent).await;
    let expected = |language| {
        let idle = ("idle".to_owned(), None, None);
        vec![idle, ("scorer".to_owned(), Some(2), language)]
    };
    assert_eq!(listed(&world).await, expected(None));
    let build = host.desired().await.builds.pop().expect("it is to build");
    let state = v1::BuildState {
        build_id: build.build_id,
        phase: "running".to_owned(),
        plan_json: br#"{"version":1,"language":"python"}"#.to_vec().into(),
        ..v1::BuildState::default()
    };
    let told = world.app.build_reported(&host.connection, state).await;
    told.expect("the report makes sense");
    assert_eq!(listed(&world).await, expected(Some(Language::Python)));
    let mut spec = AgentSpec::named(name("scorer"));
    spec.language = Some(Language::TypeScript);
    let source = world.upload(b"three").await;
    world.deploy_as(spec, Some(source), false).await;
    let detail = world.app.agent(&world.admin, "scorer").await;
    let language = detail.expect("it is there").summary.language;
    assert_eq!(language, Some(Language::TypeScript), "the spec decides");
}

#[tokio::test]
async fn what_was_scaled_stays_so_when_a_manifest_says_nothing_of_replicas() {
    let world = World::new().await;
    let deploy = async |replicas| {
        let mut spec = AgentSpec::named(name("scorer"));
        spec.replicas = replicas;
        let source = world.upload(b"one").await;
        let agent = world.deploy_as(spec, Some(source), false).await;
        (agent.replicas, agent.revision)
    };
    let (one, first) = deploy(None).await;
    let scaled = world
        .app
        .scale_agent(&world.admin, "scorer", 3, Receipt::none());
    scaled.await.expect("it is scaled");
    assert_eq!((one, deploy(None).await), (1, (3, first)));
    assert_eq!(
        deploy(Some(2)).await,
        (2, first),
        "replicas are no revision"
    );
}
