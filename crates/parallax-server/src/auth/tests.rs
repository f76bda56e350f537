use std::time::Duration;

use parallax_core::id::{AgentId, ReplicaId};

use super::token::Secret;
use super::*;
use crate::app::Receipt;
use crate::app::keys::NewKey;
use crate::testing::{World, name};

async fn key(world: &World, ttl: Option<Duration>) -> (ApiKey, Secret) {
    let wanted = NewKey {
        name: name("caller"),
        scopes: [Scope::Invoke].into_iter().collect(),
        groups: vec![name("leads")],
        ttl,
    };
    let made = world
        .app
        .create_key(&world.admin, wanted, Receipt::none())
        .await;
    made.expect("an administrator may")
}

async fn code(world: &World, text: &str) -> Code {
    let refused = world.app.auth.authenticate(text).await;
    refused.expect_err("it is refused").code
}

#[tokio::test]
async fn a_key_opens_what_it_was_made_for() {
    let world = World::new().await;
    let (key, secret) = key(&world, None).await;
    let principal = world.app.auth.authenticate(secret.reveal()).await;
    let principal = principal.expect("the key is good");
    assert_eq!(principal.tenant, world.admin.tenant);
    assert_eq!(principal.kind, PrincipalKind::Key(key.id));
    assert_eq!(principal.groups, [name("leads")]);
    require(&principal, Scope::Invoke).expect("it has the scope");
    let lacking = require(&principal, Scope::Deploy).expect_err("it has not");
    assert_eq!(lacking.code, Code::Forbidden);
    assert!(lacking.message.contains("`deploy`"), "{lacking}");
}

#[tokio::test]
async fn another_secret_with_the_same_id_is_refused() {
    let world = World::new().await;
    let (key, _) = key(&world, None).await;
    let guess = token::mint_key(key.id, [7; 20]);
    assert_eq!(code(&world, guess.reveal()).await, Code::Unauthenticated);
    let unknown = token::mint_key(KeyId::new(crate::testing::start(), [7; 10]), [7; 20]);
    assert_eq!(code(&world, unknown.reveal()).await, Code::Unauthenticated);
    assert_eq!(code(&world, "").await, Code::Unauthenticated);
}

#[tokio::test]
async fn a_key_expires_to_the_moment() {
    let world = World::new().await;
    let (_, secret) = key(&world, Some(Duration::from_secs(60))).await;
    let principal = world.app.auth.authenticate(secret.reveal()).await;
    let principal = principal.expect("it is good for a minute");
    world.app.clock.advance(Duration::from_secs(60));
    assert_eq!(code(&world, secret.reveal()).await, Code::CredentialExpired);
    let again = world.app.auth.recheck(&principal).await;
    assert_eq!(
        again.expect_err("a stream ends too").code,
        Code::CredentialExpired
    );
}

#[tokio::test]
async fn a_revoked_key_opens_nothing_and_open_streams_are_checked_again() {
    let world = World::new().await;
    let (key, secret) = key(&world, None).await;
    let principal = world.app.auth.authenticate(secret.reveal()).await;
    let principal = principal.expect("it is good");
    let mut changes = world.app.auth.changes();
    let revoked = world
        .app
        .revoke_key(&world.admin, key.id, Receipt::none())
        .await;
    revoked.expect("an administrator may");
    assert!(changes.has_changed().expect("the server lives"));
    changes.mark_unchanged();
    assert_eq!(code(&world, secret.reveal()).await, Code::Unauthenticated);
    let again = world.app.auth.recheck(&principal).await;
    assert_eq!(
        again.expect_err("it was revoked").code,
        Code::Unauthenticated
    );
}

#[tokio::test]
async fn a_key_that_is_revoked_while_it_is_read_is_not_kept_as_it_was() {
    let world = World::new().await;
    let (key, secret) = key(&world, None).await;
    let before = *world.app.auth.changes().borrow();
    // What a reader has in hand while somebody else revokes the key.
    let stale = key.clone();
    let revoked = world
        .app
        .revoke_key(&world.admin, key.id, Receipt::none())
        .await;
    revoked.expect("an administrator may");
    world.app.auth.keep(stale, before);
    assert_eq!(code(&world, secret.reveal()).await, Code::Unauthenticated);
}

fn claims(world: &World, expires_at: Timestamp) -> ReplicaClaims {
    ReplicaClaims {
        tenant: world.admin.tenant,
        agent: AgentId::new(crate::testing::start(), [2; 10]),
        agent_name: name("scorer"),
        replica: ReplicaId::new(crate::testing::start(), [3; 10]),
        expires_at,
    }
}

#[tokio::test]
async fn a_replicas_credential_says_who_it_is_until_it_expires() {
    let world = World::new().await;
    let end = world.app.clock.now().plus(Duration::from_secs(60));
    let claims = claims(&world, end);
    let token = world.app.auth.mint_replica(&claims);
    let principal = world.app.auth.authenticate(token.reveal()).await;
    let principal = principal.expect("the server made it");
    let expected = PrincipalKind::Replica {
        agent: claims.agent,
        agent_name: claims.agent_name.clone(),
        replica: claims.replica,
    };
    assert_eq!(
        (principal.tenant, principal.kind),
        (claims.tenant, expected)
    );
    assert_eq!(principal.scopes, [Scope::Agent].into_iter().collect());
    world.app.clock.advance(Duration::from_secs(60));
    assert_eq!(code(&world, token.reveal()).await, Code::CredentialExpired);
}

#[tokio::test]
async fn what_a_replica_has_open_ends_with_its_newest_credential() {
    let world = World::new().await;
    let auth = &world.app.auth;
    let hour = Duration::from_secs(3600);
    let end = world.app.clock.now().plus(hour);
    let token = auth.mint_replica(&claims(&world, end));
    let principal = auth.authenticate(token.reveal()).await;
    let principal = principal.expect("it is good");
    let newer = claims(&world, end.plus(hour / 2));
    let renewed = auth.mint_replica(&newer);
    assert_ne!(renewed, token);
    world.app.clock.advance(hour);
    auth.recheck(&principal).await.expect("it was renewed");
    assert_eq!(code(&world, token.reveal()).await, Code::CredentialExpired);
    world.app.clock.advance(hour / 2);
    let over = auth.recheck(&principal).await.expect_err("it was not");
    assert_eq!(over.code, Code::CredentialExpired);
}

#[tokio::test]
async fn a_credential_of_another_server_is_refused() {
    let (ours, theirs) = (World::new().await, World::new().await);
    let end = ours.app.clock.now().plus(Duration::from_secs(60));
    let token = theirs.app.auth.mint_replica(&claims(&ours, end));
    assert_eq!(code(&ours, token.reveal()).await, Code::Unauthenticated);
    let (_, key) = key(&theirs, None).await;
    assert_eq!(code(&ours, key.reveal()).await, Code::Unauthenticated);
}

#[tokio::test]
async fn a_database_with_another_servers_pepper_is_refused() {
    let world = World::new().await;
    let path = world.app.data_dir.join("pepper");
    for wrong in [&[7_u8; 32][..], b"short"] {
        std::fs::write(&path, wrong).expect("the disk works");
        let found = bootstrap::run(&world.app.store, &world.app.data_dir, &world.app.clock);
        let refused = found.await.expect_err("its keys could not be checked");
        assert!(matches!(
            refused,
            bootstrap::BootstrapError::WrongPepper { .. }
        ));
    }
    std::fs::remove_file(&path).expect("the disk works");
    let found = bootstrap::run(&world.app.store, &world.app.data_dir, &world.app.clock);
    let refused = found.await.expect_err("a lost pepper is not made anew");
    assert!(matches!(
        refused,
        bootstrap::BootstrapError::WrongPepper { .. }
    ));
}

#[tokio::test]
async fn when_a_key_was_used_last_is_written_down_later_and_once() {
    let world = World::new().await;
    let (key, secret) = key(&world, None).await;
    let stored = async || {
        let mut tx = world.app.store.system_read().await.expect("it works");
        let found = keys::get(&mut tx, key.id).await.expect("it works");
        found.expect("the key is there").last_used_at
    };
    world.app.clock.advance(Duration::from_secs(5));
    let used = world.app.clock.now();
    world
        .app
        .auth
        .authenticate(secret.reveal())
        .await
        .expect("it is good");
    assert_eq!(stored().await, None, "a call waits for no write");
    world.app.auth.note_uses().await.expect("the store works");
    assert_eq!(stored().await, Some(used));
    world.app.store.close().await;
    world
        .app
        .auth
        .note_uses()
        .await
        .expect("nothing is left to write");
}

#[tokio::test]
async fn an_expiry_is_waited_for_and_a_key_without_one_never_ends() {
    use futures::FutureExt;
    let world = World::new().await;
    let mut principal = world.admin.clone();
    assert!(world.app.auth.expiry(&principal).now_or_never().is_none());
    principal.expires_at = Some(world.app.clock.now());
    let over = tokio::time::timeout(Duration::from_secs(10), world.app.auth.expiry(&principal));
    over.await.expect("it is over already");
}
