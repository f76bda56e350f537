//! A private PostgreSQL server from the machine's own programs: one for a test binary, a database
//! for each test.
//!
//! It listens on a Unix socket in a folder of its own and nowhere else, and runs as an unprivileged
//! user, since PostgreSQL refuses root. A shell stands over it that waits for the end of its
//! standard input: so it stops, and its folder goes, however the test process ends.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

/// The user `nobody` of every common distribution.
const UNPRIVILEGED: u32 = 65534;
/// A first start writes some files; minutes mean that it will not come.
const START: Duration = Duration::from_secs(60);
/// The login role of the databases: their owner, who may create roles and is no superuser.
const OWNER: &str = "parallax";

/// `$1` the programs' folder, `$2` the server's. SIGQUIT ends PostgreSQL at once.
const SUPERVISE: &str = r#"
"$1/postgres" -D "$2/data" -k "$2" -h '' -c fsync=off -c max_connections=200 </dev/null >"$2/log" 2>&1 &
server=$!
read -r _
kill -QUIT "$server" 2>/dev/null
wait "$server"
rm -rf -- "$2"
"#;

/// A running server; stopped when dropped, or when the process ends.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    supervisor: Child,
    databases: AtomicU32,
}

/// Why there is no server: the machine has no PostgreSQL programs. Skip the test and say so.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no PostgreSQL server programs in PATH or /usr/lib/postgresql: install postgresql")]
pub struct Missing;

/// A database of a test's own.
#[derive(Debug, Clone)]
pub struct Database {
    pub name: String,
    /// As its owner, who is no superuser.
    pub url: String,
    /// As the superuser of the server.
    pub admin_url: String,
}

/// The server of this test binary; the first call starts it.
///
/// # Errors
/// [`Missing`] when the machine has no PostgreSQL.
///
/// # Panics
/// When it has, and the server does not start.
pub fn shared() -> Result<&'static Server, Missing> {
    static SERVER: OnceLock<Result<Server, Missing>> = OnceLock::new();
    SERVER
        .get_or_init(Server::start)
        .as_ref()
        .map_err(Clone::clone)
}

impl Server {
    /// Starts a server of the caller's own, for a test that changes what all databases share.
    ///
    /// # Errors
    /// [`Missing`] when the machine has no PostgreSQL.
    ///
    /// # Panics
    /// When it has, and the server does not start.
    pub fn start() -> Result<Self, Missing> {
        let programs = find_programs().ok_or(Missing)?;
        Ok(Self::start_with(programs).expect("the machine's PostgreSQL starts"))
    }

    fn start_with(programs: PathBuf) -> anyhow::Result<Self> {
        // A socket's path has at most 107 bytes, so the folder's is kept short.
        let folder = tempfile::Builder::new().prefix("plx-pg-").tempdir()?.keep();
        if as_root() {
            std::os::unix::fs::chown(&folder, Some(UNPRIVILEGED), Some(UNPRIVILEGED))?;
        }
        let data = folder.join("data");
        let mut initdb = command(&programs.join("initdb"), &folder);
        initdb.args([
            "--no-sync",
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "-D",
        ]);
        run(initdb.arg(&data))?;
        let supervisor = command("sh".as_ref(), &folder)
            .args(["-c", SUPERVISE, "sh"])
            .args([&programs, &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the supervisor of PostgreSQL")?;
        let server = Self {
            programs,
            folder,
            supervisor,
            databases: AtomicU32::new(0),
        };
        server.wait()?;
        server.sql("postgres", &format!("CREATE ROLE {OWNER} LOGIN CREATEROLE"))?;
        Ok(server)
    }

    fn wait(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START;
        loop {
            let mut ready = command(&self.programs.join("pg_isready"), &self.folder);
            ready.arg("-h").arg(&self.folder).stdout(Stdio::null());
            if ready.status()?.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                bail!("PostgreSQL did not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn create_database(&self) -> anyhow::Result<Database> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name} OWNER {OWNER}"))?;
        let url = |user| {
            format!(
                "postgres://{user}@localhost/{name}?host={}",
                self.folder.display()
            )
        };
        let (url, admin_url) = (url(OWNER), url("postgres"));
        Ok(Database {
            name,
            url,
            admin_url,
        })
    }

    /// Runs statements in a database as the superuser; returns what `psql` prints, unaligned and
    /// without headings.
    ///
    /// # Errors
    /// What `psql` says.
    pub fn sql(&self, database: &str, sql: &str) -> anyhow::Result<String> {
        let mut psql = command(&self.programs.join("psql"), &self.folder);
        psql.args([
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "postgres",
            "-d",
            database,
            "-c",
            sql,
        ]);
        run(psql.arg("-h").arg(&self.folder))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        // Fails only for a child that was waited for already, which this one was not.
        let _ = self.supervisor.wait();
    }
}

/// The folder with the server's programs: the first in PATH, or the newest packaged one. Links are
/// followed, because PATH often has only some of them.
fn find_programs() -> Option<PathBuf> {
    let packaged = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut packaged: Vec<_> = packaged.map(|entry| entry.path()).collect();
    packaged.sort_by_key(|path| {
        let version = path
            .file_name()
            .and_then(OsStr::to_str)
            .and_then(|v| v.parse::<u32>().ok());
        std::cmp::Reverse(version)
    });
    let in_path = run(Command::new("sh").args(["-c", "command -v postgres"])).ok();
    let in_path = in_path.and_then(|path| Path::new(path.trim()).canonicalize().ok());
    let in_path = in_path.and_then(|path| path.parent().map(Path::to_owned));
    in_path
        .into_iter()
        .chain(packaged.into_iter().map(|path| path.join("bin")))
        .find(|folder| {
            ["postgres", "initdb", "psql"]
                .iter()
                .all(|p| folder.join(p).is_file())
        })
}

/// A program that runs in `folder`, unprivileged.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).env("HOME", folder);
    if as_root() {
        command.uid(UNPRIVILEGED).gid(UNPRIVILEGED);
    }
    command
}

fn as_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}
