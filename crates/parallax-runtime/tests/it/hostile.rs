//! Agents and builds that try what they must not.

use parallax_core::host::IsolationMeans;
use parallax_runtime::Host;

use crate::fixture::{Source, World, new_build, new_replica, tenant};
use crate::plane::Known;

/// Tries to read and to list what a host keeps, to open it to others, and to signal what runs.
fn attack(world: &World, victim: &str, pid: u32) -> String {
    let targets = targets(world, victim);
    let reads = serde_json::to_string(&targets).expect("it has string keys");
    // Landlock has no say in modes and times; docs/concepts/isolation.md says so.
    let changed: &[String] = match world.means {
        Some(IsolationMeans::Bubblewrap) => &targets,
        _ => &[],
    };
    let files = changed
        .iter()
        .filter(|path| std::path::Path::new(path).is_file());
    let files: Vec<_> = files.collect();
    assert_eq!(
        files.is_empty(),
        world.means != Some(IsolationMeans::Bubblewrap)
    );
    let changes = serde_json::to_string(&files).expect("it has string keys");
    format!(
        r#"const fs = require('fs');
const tried = (what, f) => {{ try {{ f(); console.log('BREACH ' + what); }} catch (e) {{ console.log('held ' + what + ' ' + e.code); }} }};
// What is on the way to its own folders may be there, with nothing else in it.
const own = [process.cwd(), process.env.HOME, process.env.TMPDIR, process.env.npm_config_cache, process.env.PARALLAX_TOKEN_FILE].filter(Boolean);
const list = (dir) => {{
  const strange = fs.readdirSync(dir).map((name) => dir + '/' + name).filter((path) => !own.some((it) => it === path || it.startsWith(path + '/')));
  if (strange.length === 0) throw Object.assign(new Error(), {{code: 'own only'}});
}};
for (const path of {reads}) {{
  tried('read ' + path, () => fs.statSync(path).isDirectory() ? list(path) : fs.readFileSync(path));
}}
for (const path of {changes}) {{
  tried('chmod ' + path, () => fs.chmodSync(path, 0o644));
  tried('utimes ' + path, () => fs.utimesSync(path, 0, 0));
}}
tried('kill', () => process.kill({pid}, 0));
tried('environ', () => fs.readFileSync('/proc/{pid}/environ'));
tried('memory', () => fs.openSync('/proc/{pid}/mem'));
tried('write /usr', () => fs.writeFileSync('/usr/parallax-breach', ''));
tried('write /tmp', () => fs.writeFileSync('/tmp/parallax-breach', ''));
fs.mkdirSync('dist', {{recursive: true}}); fs.writeFileSync('dist/index.js', '');
console.log('attack over');"#
    )
}

fn targets(world: &World, victim: &str) -> Vec<String> {
    let data = world.data_dir();
    let paths = [
        data.clone(),
        data.join("replicas"),
        world.replica_dir(victim).join("run/token"),
        world.replica_dir(victim).join("home"),
        world.replica_dir(victim).join("1/spec.json"),
        world.replica_dir(victim).join("1/shim.token"),
        data.join("artifacts"),
        data.join("host.lock"),
        world.dir.path().join("credential"),
        world.dir.path().join("server-data/secret"),
        "/etc/shadow".into(),
        "/root/.ssh".into(),
        "/tmp".into(),
    ];
    paths
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

async fn victim(world: &World) -> (String, u32) {
    let secret = world.dir.path().join("server-data");
    std::fs::create_dir(&secret).expect("a folder can be made");
    std::fs::write(secret.join("secret"), "s").expect("a file can be written");
    let id = new_replica();
    let mut desired = world.shell(&id, "exec sleep 1000");
    desired.tenant_id = tenant(2).to_string();
    world.plane.want_replica(desired).await;
    let running = world.plane.phase(&id, "running").await;
    (id, running.pid)
}

fn assert_held(lines: &[String]) {
    let breaches: Vec<_> = lines
        .iter()
        .filter(|line| line.contains("BREACH"))
        .collect();
    assert!(breaches.is_empty(), "{breaches:#?}");
    assert!(lines.iter().any(|line| line == "attack over"), "{lines:#?}");
    assert!(
        lines
            .iter()
            .filter(|line| line.starts_with("held "))
            .count()
            >= 10,
        "{lines:#?}"
    );
}

fn lines(dir: &std::path::Path) -> Vec<String> {
    let reader = parallax_shim::log::LogReader::open(dir, 0).expect("the log is readable");
    let own = reader.flatten().filter_map(|item| match item {
        parallax_shim::log::LogItem::Record(it)
            if it.stream != parallax_shim::log::Stream::System =>
        {
            Some(String::from_utf8_lossy(&it.line).into_owned())
        }
        _ => None,
    });
    own.collect()
}

async fn a_hostile_build_script(world: World, host: Host) {
    let (victim, pid) = victim(&world).await;
    let id = new_build();
    world
        .build(
            &id,
            &Source::with_build_script(&attack(&world, &victim, pid)),
        )
        .await;
    let state = world.plane.built(&id).await;
    assert_eq!(state.phase, "succeeded", "{}", state.message);
    let dir = world.data_dir().join("builds").join(&id);
    let steps: Vec<String> = (1..=4)
        .flat_map(|step| lines(&dir.join(step.to_string())))
        .collect();
    assert_held(&steps);
    world.end(host).await;
}

async fn a_hostile_agent(mut world: World, host: Host) {
    let (victim, pid) = victim(&world).await;
    world.build = new_build();
    let code = attack(&world, &victim, pid).replace(
        "fs.mkdirSync('dist', {recursive: true}); fs.writeFileSync('dist/index.js', '');",
        "tried('change program', () => fs.writeFileSync('index.js', ''));",
    );
    world
        .build(
            &world.build,
            &Source::node(&format!("{code}; setInterval(() => {{}}, 1000)")),
        )
        .await;
    world.plane.built(&world.build).await;
    let id = new_replica();
    world
        .plane
        .want_replica(world.replica(&id, &world.spec))
        .await;
    world.plane.phase(&id, "running").await;
    let dir = world.replica_dir(&id).join("1");
    crate::fixture::eventually("the attack is over", || {
        lines(&dir).iter().any(|line| line == "attack over")
    })
    .await;
    assert_held(&lines(&dir));
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_build_script_reaches_nothing_from_behind_landlock() {
    match World::behind(IsolationMeans::Landlock).await {
        Ok((world, host)) => a_hostile_build_script(world, host).await,
        Err(error) => parallax_testkit::skip!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_agent_reaches_nothing_not_even_its_own_program_from_behind_landlock() {
    match World::behind(IsolationMeans::Landlock).await {
        Ok((world, host)) => a_hostile_agent(world, host).await,
        Err(error) => parallax_testkit::skip!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_build_script_reaches_nothing_from_behind_bubblewrap() {
    match World::behind(IsolationMeans::Bubblewrap).await {
        Ok((world, host)) => a_hostile_build_script(world, host).await,
        Err(error) => parallax_testkit::skip!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_agent_reaches_nothing_not_even_its_own_program_from_behind_bubblewrap() {
    match World::behind(IsolationMeans::Bubblewrap).await {
        Ok((world, host)) => a_hostile_agent(world, host).await,
        Err(error) => parallax_testkit::skip!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_in_bubblewrap_has_shared_memory_that_nobody_shares() {
    let (world, host) = match World::behind(IsolationMeans::Bubblewrap).await {
        Ok(started) => started,
        Err(error) => parallax_testkit::skip!("{error}"),
    };
    let mut seen = Vec::new();
    for _ in 0..2 {
        let id = new_replica();
        let script =
            "ls /dev/shm | wc -l; echo mine > /dev/shm/mine && cat /dev/shm/mine; exec sleep 1000";
        world.plane.want_replica(world.shell(&id, script)).await;
        world.plane.phase(&id, "running").await;
        let dir = world.replica_dir(&id).join("1");
        crate::fixture::eventually("it has written", || lines(&dir).len() >= 2).await;
        seen.push(lines(&dir));
    }
    assert_eq!(seen, [["0", "mine"], ["0", "mine"]]);
    world.end(host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_is_contained_and_can_be_stopped() {
    let (world, host) = World::prepared().await;
    let probe = new_replica();
    world
        .plane
        .want_replica(world.shell(&probe, "exec sleep 1000"))
        .await;
    let seen = world.plane.phase(&probe, "running").await;
    let (_, limits) = seen.isolation.split_once('+').expect("means and limits");
    if !parallax_core::host::KernelLimits::of_word(limits).pids {
        world.end(host).await;
        parallax_testkit::skip!("this machine offers no writable pids cgroup");
    }
    let id = new_replica();
    let mut desired = world.shell(&id, "b() { b | b & }; b; exec sleep 1000");
    let mut spec: parallax_core::manifest::RunSpec =
        serde_json::from_slice(&desired.run_spec_json).expect("it was written");
    spec.resources.pids = Some(40);
    desired.run_spec_json = serde_json::to_vec(&spec)
        .expect("it has string keys")
        .into();
    desired.stop_grace_ms = 200;
    world.plane.want_replica(desired.clone()).await;
    let began = |known: &Known| {
        known
            .replicas
            .get(&id)
            .is_some_and(|it| it.incarnation >= 1)
    };
    world.plane.until("the bomb is lit", began).await;
    world
        .plane
        .want_replica(crate::fixture::stopped(desired))
        .await;
    world.plane.phase(&id, "stopped").await;
    world.end(host).await;
}
