//! Prepared revisions: where they are, how they are started, what they may read.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parallax_builder::prepare;
use parallax_builder::{Plan, Toolchain};
use parallax_core::id::BuildId;

/// The prepared revisions of a host, by build.
pub(crate) type PreparedBuilds = BTreeMap<BuildId, Arc<Prepared>>;

/// One prepared revision.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The build in whose folder it lies.
    pub(crate) build: BuildId,
    /// The folder that holds the source and what the steps made of it.
    pub(crate) dir: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) toolchain: Arc<Toolchain>,
    /// What has to be there besides `dir`: what says that the folder is whole, and the start
    /// command's program where the build has made it.
    pub(crate) essential: Vec<PathBuf>,
}

/// System folders that come last in every `PATH`.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

impl Prepared {
    /// The agent's own folder, in which it is started.
    pub(crate) fn root(&self) -> PathBuf {
        // Without the `.` that most agents have as theirs.
        self.dir.join(&self.plan.root_dir).components().collect()
    }

    /// The start command and its working directory; `start` overrides the plan's command.
    pub(crate) fn command(&self, start: Option<&[String]>) -> (Vec<String>, PathBuf) {
        let root = self.root();
        let argv = start.unwrap_or(&self.plan.start.argv);
        (located(argv, &root, &self.plan, &self.toolchain), root)
    }

    /// The start command's program, if it lies among the agent's own files.
    pub(crate) fn own_program(&self) -> Option<PathBuf> {
        let (argv, _) = self.command(None);
        let program = argv.into_iter().next().map(PathBuf::from)?;
        program.starts_with(&self.dir).then_some(program)
    }

    /// What of it somebody has removed: nothing starts from it any more. What cannot be looked at
    /// counts as there. Blocks.
    pub(crate) fn missing(&self) -> Option<PathBuf> {
        let root = self.root();
        let mut all = self.essential.iter().chain([&root]);
        all.find(|path| matches!(path.try_exists(), Ok(false)))
            .cloned()
    }

    /// The `PATH` of the agent.
    pub(crate) fn search_path(&self) -> String {
        search_path(&self.plan, &self.toolchain, &self.root())
    }

    /// What the agent may read besides the system's own files.
    pub(crate) fn read_paths(&self) -> Vec<PathBuf> {
        let mut paths = self.toolchain.read_paths();
        paths.push(self.dir.clone());
        paths
    }
}

/// The `PATH` of a process of `plan` whose agent's own folder is `root`.
pub(crate) fn search_path(plan: &Plan, toolchain: &Toolchain, root: &Path) -> String {
    match prepare::search_path(plan, toolchain, root, OsStr::new(SYSTEM_PATH)) {
        Ok(path) => path.to_string_lossy().into_owned(),
        // A folder with a colon cannot be named; what needs it says so when it is not found.
        Err(_) => SYSTEM_PATH.to_owned(),
    }
}

/// A command with its program as the plan means it.
pub(crate) fn located(
    argv: &[String],
    cwd: &Path,
    plan: &Plan,
    toolchain: &Toolchain,
) -> Vec<String> {
    let mut argv = argv.to_vec();
    if let Some(program) = argv.first_mut() {
        *program = prepare::resolve_program(program, cwd, plan, toolchain)
            .to_string_lossy()
            .into_owned();
    }
    argv
}
