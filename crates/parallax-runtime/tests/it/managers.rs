//! Projects of every package manager, prepared and started behind the host's walls, with their
//! dependencies from the real registries: with the tool of this machine, and on a machine without
//! it.

use std::ffi::OsString;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use parallax_runtime::Host;
use parallax_shim::log::{LogItem, LogReader};
use serde_json::Value;

use crate::fixture::{Source, World, eventually, new_build, new_replica};

const PACKAGE: &str = include_str!("managers/package.json");
const BUILD: &str = include_str!("managers/build.js");
const AGENT: &str = include_str!("managers/agent.js");
const NODE_SAYS: &str = "ms says 1m, isarray is gone";

const PYTHON: &str =
    "import idna, time\nprint('idna', idna.__version__, flush=True)\ntime.sleep(1000)\n";
const PYTHON_SAYS: &str = "idna 3.10";

/// A project and what tells that it was prepared as its lockfile says.
struct Project<'p> {
    /// The package manager of its plan.
    manager: &'p str,
    files: Vec<(&'p str, &'p str)>,
    /// What its agent prints.
    says: &'p str,
}

fn node<'p>(manager: &'p str, manifest: &'p str, lockfile: (&'p str, &'p str)) -> Project<'p> {
    Project {
        manager,
        files: vec![
            ("package.json", manifest),
            ("build.js", BUILD),
            ("agent.js", AGENT),
            lockfile,
        ],
        says: NODE_SAYS,
    }
}

/// Its manifest names another patch than the host has, which must not make pnpm fetch itself.
fn pnpm() -> Project<'static> {
    let manifest = include_str!("managers/pnpm/package.json");
    let lockfile = include_str!("managers/pnpm/pnpm-lock.yaml");
    node("pnpm", manifest, ("pnpm-lock.yaml", lockfile))
}

fn yarn_classic() -> Project<'static> {
    node(
        "yarn",
        PACKAGE,
        ("yarn.lock", include_str!("managers/yarn/yarn.lock")),
    )
}

fn yarn_berry() -> Project<'static> {
    node(
        "yarn",
        PACKAGE,
        ("yarn.lock", include_str!("managers/berry/yarn.lock")),
    )
}

fn python<'p>(manager: &'p str, manifest: &'p str, lockfile: (&'p str, &'p str)) -> Project<'p> {
    Project {
        manager,
        files: vec![("main.py", PYTHON), ("pyproject.toml", manifest), lockfile],
        says: PYTHON_SAYS,
    }
}

fn uv() -> Project<'static> {
    let manifest = include_str!("managers/uv/pyproject.toml");
    python(
        "uv",
        manifest,
        ("uv.lock", include_str!("managers/uv/uv.lock")),
    )
}

fn poetry() -> Project<'static> {
    let manifest = include_str!("managers/poetry/pyproject.toml");
    let lockfile = include_str!("managers/poetry/poetry.lock");
    python("poetry", manifest, ("poetry.lock", lockfile))
}

fn pdm() -> Project<'static> {
    let manifest = include_str!("managers/pdm/pyproject.toml");
    python(
        "pdm",
        manifest,
        ("pdm.lock", include_str!("managers/pdm/pdm.lock")),
    )
}

/// Why a project could not be prepared although nothing is wrong with it or with us.
struct Obstacle(String);

impl Project<'_> {
    /// Prepares and starts it twice on one host whose programs are found on `tools_path`: first
    /// with nothing kept, then changed in one file, with the dependencies of the first.
    async fn runs(&self, tools_path: OsString) -> Result<(), Obstacle> {
        let mut world = World::empty().await;
        let mut config = world.config();
        config.tools_path = tools_path;
        config.build_env = crate::config::build_env();
        let host = Host::start(config).await.expect("the host starts");
        host.ready().await.expect("the host is welcome");
        for note in ["", "1"] {
            world.build = new_build();
            let files = [self.files.as_slice(), &[("NOTE.txt", note)]].concat();
            let mut source = Source::of(&files);
            source.deadline_ms = 300_000;
            world.build(&world.build, &source).await;
            let state = world.plane.built_slowly(&world.build).await;
            if state.phase != "succeeded" && is_obstacle(&state.reason, &state.message) {
                world.end(host).await;
                return Err(Obstacle(state.message));
            }
            assert_eq!(state.phase, "succeeded", "{}", state.message);
            let plan: Value = serde_json::from_slice(&state.plan_json).expect("it is JSON");
            assert_eq!(plan["package_manager"]["name"], self.manager);
            let inputs = plan["cache_inputs"].as_array().expect("it is a list");
            assert_eq!(installs(&world), note.is_empty() || inputs.is_empty());
            self.says_it(&world).await;
        }
        world.end(host).await;
        Ok(())
    }

    async fn says_it(&self, world: &World) {
        let id = new_replica();
        world
            .plane
            .want_replica(world.replica(&id, &world.spec))
            .await;
        world.plane.phase(&id, "running").await;
        let log = world.replica_dir(&id).join("1");
        eventually(&format!("its agent says: {}", self.says), || {
            let reader = LogReader::open(&log, 0).expect("the log is readable");
            reader
                .flatten()
                .any(|item| matches!(item, LogItem::Record(it) if it.line == self.says.as_bytes()))
        })
        .await;
    }
}

/// Whether the newest build ran an install step.
fn installs(world: &World) -> bool {
    let history = world.plane.known().build_history;
    history
        .iter()
        .any(|it| it.build_id == world.build && it.step.contains("install"))
}

/// No interpreter here, or no way to the registry.
fn is_obstacle(reason: &str, message: &str) -> bool {
    const OFFLINE: [&str; 6] = [
        "ENOTFOUND",
        "EAI_AGAIN",
        "ECONNREFUSED",
        "ENETUNREACH",
        "dns error",
        // What pip ends with after "Failed to establish a new connection".
        "Could not find a version that satisfies the requirement",
    ];
    reason == "PlanFailed" || OFFLINE.iter().any(|word| message.contains(word))
}

/// A folder with nothing but links to these programs of the caller's search path, so that no
/// package manager that happens to be there is taken.
fn only(programs: &[&str]) -> Option<(tempfile::TempDir, OsString)> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let path = crate::config::search_path();
    for program in programs {
        let mut found = std::env::split_paths(&path).map(|it| it.join(program));
        let found = found.find(|it| it.is_file())?;
        symlink(found, folder.path().join(program)).expect("a link can be made");
    }
    let path = folder.path().as_os_str().to_owned();
    Some((folder, path))
}

/// The caller's search path without the folders that hold `tool`.
fn without(tool: &str) -> OsString {
    let path = crate::config::search_path();
    let folders = std::env::split_paths(&path).filter(|it| !it.join(tool).exists());
    std::env::join_paths(folders).expect("they came from such a list")
}

/// The search path on which `tool` comes first; `None` where `cargo xtask test` did not install it.
fn with_tool(tool: &str) -> Option<OsString> {
    let folder: PathBuf = match tool {
        "uv" => Path::new("uv").join("bin"),
        tool => Path::new(tool).join("node_modules/.bin"),
    };
    let folder = crate::config::managers()?.join(folder);
    let rest = crate::config::search_path();
    let folders = std::iter::once(folder).chain(std::env::split_paths(&rest));
    Some(std::env::join_paths(folders).expect("they came from such a list"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pnpm_project_is_built_with_the_hosts_pnpm() {
    let Some(path) = with_tool("pnpm") else {
        parallax_testkit::skip!("cargo xtask test installs pnpm for this test");
    };
    if let Err(Obstacle(why)) = pnpm().runs(path).await {
        parallax_testkit::skip!("it cannot be built here: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pnpm_project_is_built_on_a_host_without_pnpm() {
    let Some((_folder, path)) = only(&["node", "npm"]) else {
        parallax_testkit::skip!("this machine has no node or no npm");
    };
    if let Err(Obstacle(why)) = pnpm().runs(path).await {
        parallax_testkit::skip!("it cannot be built here: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classic_yarn_project_is_built_with_the_hosts_yarn() {
    let Some(path) = with_tool("yarn") else {
        parallax_testkit::skip!("cargo xtask test installs yarn for this test");
    };
    if let Err(Obstacle(why)) = yarn_classic().runs(path).await {
        parallax_testkit::skip!("it cannot be built here: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classic_yarn_project_is_built_on_a_host_without_yarn() {
    let Some((_folder, path)) = only(&["node", "npm"]) else {
        parallax_testkit::skip!("this machine has no node or no npm");
    };
    if let Err(Obstacle(why)) = yarn_classic().runs(path).await {
        parallax_testkit::skip!("it cannot be built here: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_berry_project_is_built_on_a_host_without_yarn() {
    let Some((_folder, path)) = only(&["node", "npm"]) else {
        parallax_testkit::skip!("this machine has no node or no npm");
    };
    if let Err(Obstacle(why)) = yarn_berry().runs(path).await {
        parallax_testkit::skip!("it cannot be built here: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uv_project_is_built_with_the_hosts_uv() {
    let Some(path) = with_tool("uv") else {
        parallax_testkit::skip!("cargo xtask test installs uv for this test");
    };
    if let Err(Obstacle(why)) = uv().runs(path).await {
        parallax_testkit::skip!("it cannot be built here: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_uv_project_is_built_on_a_host_without_uv() {
    if let Err(Obstacle(why)) = uv().runs(without("uv")).await {
        parallax_testkit::skip!("it cannot be built here: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poetry_project_is_built_and_runs() {
    if let Err(Obstacle(why)) = poetry().runs(crate::config::search_path()).await {
        parallax_testkit::skip!("it cannot be built here: {why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pdm_project_is_built_and_runs() {
    if let Err(Obstacle(why)) = pdm().runs(crate::config::search_path()).await {
        parallax_testkit::skip!("it cannot be built here: {why}");
    }
}
