//! Starting the child: everything that can fail or allocate happens before the fork.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::{Gid, Uid};

use crate::isolation::{self, IsolationError, Walls};
use crate::spec::{Isolation, Rlimits, ShimSpec};
use crate::sys;
use crate::sys::process::CStringArray;

/// A running child and the reading ends of its output.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Paths of the isolation that the machine lacks.
    pub(crate) skipped: Vec<PathBuf>,
}

/// Why a command could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    #[error("cannot isolate the command")]
    Isolation(#[from] IsolationError),
    #[error("cannot open {path} to put the command into its cgroup")]
    Cgroup {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot prepare the command's process")]
    Prepare(#[source] io::Error),
    #[error("a path of the spec contains a NUL byte")]
    Nul,
    #[error("cannot {what} for the command {command:?}{hint}")]
    Child {
        what: &'static str,
        command: String,
        hint: String,
        #[source]
        source: io::Error,
    },
}

/// Starts the command of `spec`. On return it has been executed, or nothing of it is left.
pub(crate) fn spawn(spec: &ShimSpec) -> Result<Spawned, SpawnError> {
    let plan = Plan::new(spec)?;
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let prepare = |error: rustix::io::Errno| SpawnError::Prepare(error.into());
    let (stdout, child_stdout) = pipe().map_err(prepare)?;
    let (stderr, child_stderr) = pipe().map_err(prepare)?;
    let (failure, child_failure) = pipe().map_err(prepare)?;
    let null = File::open("/dev/null").map_err(SpawnError::Prepare)?;
    let descriptors = [null.as_fd(), child_stdout.as_fd(), child_stderr.as_fd()];
    let child = || {
        let Err((stage, errno)) = plan.run(descriptors);
        let [a, b, c, d] = errno.raw_os_error().to_ne_bytes();
        // The parent reads it; when it cannot be told, it still sees the exit code.
        let _ = rustix::io::write(&child_failure, &[stage as u8, a, b, c, d]);
        127
    };
    // SAFETY: the shim has one thread; besides, the plan holds everything that the child needs,
    // and it makes system calls only.
    #[expect(unsafe_code, reason = "fork")]
    let pid = unsafe { sys::process::fork(child) }.map_err(SpawnError::Prepare)?;
    drop(child_failure);
    if let Some((stage, source)) = read_failure(failure).map_err(SpawnError::Prepare)? {
        // It has exited or is about to: nothing but this process can wait for it.
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())
            .map_err(prepare)?;
        return Err(plan.explain(stage, source, spec));
    }
    for fd in [&stdout, &stderr] {
        rustix::io::ioctl_fionbio(fd, true).map_err(prepare)?;
    }
    Ok(Spawned {
        pid,
        stdout,
        stderr,
        skipped: plan.walls.skipped,
    })
}

/// `None` when the pipe was closed by a successful exec.
fn read_failure(pipe: OwnedFd) -> io::Result<Option<(Stage, io::Error)>> {
    let mut report = Vec::new();
    File::from(pipe).take(5).read_to_end(&mut report)?;
    let [stage, errno @ ..] = report.as_slice() else {
        return Ok(None);
    };
    let errno = errno.try_into().map_or(0, i32::from_ne_bytes);
    let stage = Stage::ALL
        .into_iter()
        .find(|known| *known as u8 == *stage)
        .unwrap_or(Stage::Exec);
    Ok(Some((stage, io::Error::from_raw_os_error(errno))))
}

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Session = 1,
    Cgroup,
    Descriptors,
    Limits,
    Rights,
    User,
    Directory,
    Isolation,
    Parent,
    Exec,
}

impl Stage {
    const ALL: [Self; 10] = [
        Self::Session,
        Self::Cgroup,
        Self::Descriptors,
        Self::Limits,
        Self::Rights,
        Self::User,
        Self::Directory,
        Self::Isolation,
        Self::Parent,
        Self::Exec,
    ];

    fn what(self) -> &'static str {
        match self {
            Self::Session => "open a session",
            Self::Cgroup => "enter the cgroup",
            Self::Descriptors => "connect the output",
            Self::Limits => "set resource limits",
            Self::Rights => "give up capabilities",
            Self::User => "change the user",
            Self::Directory => "enter the working directory",
            Self::Isolation => "enter the isolation domain",
            Self::Parent => "tie the process to its shim",
            Self::Exec => "execute the program",
        }
    }
}

/// Everything that the child needs, allocated.
#[derive(Debug)]
struct Plan {
    /// Paths to try, in the order of `PATH`.
    programs: Vec<CString>,
    argv: CStringArray,
    env: CStringArray,
    cwd: CString,
    cgroups: Vec<File>,
    limits: Vec<(Resource, Rlimit)>,
    walls: Walls,
    shim: Pid,
}

impl Plan {
    fn new(spec: &ShimSpec) -> Result<Self, SpawnError> {
        let walls = isolation::prepare(&spec.isolation, &spec.cwd)?;
        let mut words = walls.argv_prefix.clone();
        words.extend(spec.argv.iter().cloned());
        let env = spec
            .env
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let cgroups = spec.cgroup_dirs.iter().map(|dir| {
            let path = dir.join("cgroup.procs");
            File::options()
                .write(true)
                .open(&path)
                .map_err(|source| SpawnError::Cgroup { path, source })
        });
        Ok(Self {
            programs: programs(&words[0], spec)?,
            argv: CStringArray::new(c_strings(words)?),
            env: CStringArray::new(c_strings(env)?),
            cwd: path_c_string(&spec.cwd)?,
            cgroups: cgroups.collect::<Result<_, _>>()?,
            limits: limits(&spec.rlimits),
            walls,
            shim: rustix::process::getpid(),
        })
    }

    /// Runs in the child.
    fn run(
        &self,
        descriptors: [std::os::fd::BorrowedFd<'_>; 3],
    ) -> Result<std::convert::Infallible, (Stage, rustix::io::Errno)> {
        let at = |stage: Stage| move |error: rustix::io::Errno| (stage, error);
        rustix::process::setsid().map_err(at(Stage::Session))?;
        for cgroup in &self.cgroups {
            rustix::io::write(cgroup, b"0\n").map_err(at(Stage::Cgroup))?;
        }
        sys::signals::reset_all();
        let [stdin, stdout, stderr] = descriptors;
        rustix::stdio::dup2_stdin(stdin).map_err(at(Stage::Descriptors))?;
        rustix::stdio::dup2_stdout(stdout).map_err(at(Stage::Descriptors))?;
        rustix::stdio::dup2_stderr(stderr).map_err(at(Stage::Descriptors))?;
        sys::process::close_on_exec().map_err(|error| (Stage::Descriptors, errno(&error)))?;
        // The shim's own mask would make files that only this user can read; what a command
        // creates is the command's business.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        for (resource, limit) in &self.limits {
            rustix::process::setrlimit(*resource, *limit).map_err(at(Stage::Limits))?;
        }
        self.confine()?;
        // Last of the credential changes, because those clear it.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(at(Stage::Parent))?;
        if rustix::process::getppid() != Some(self.shim) {
            return Err((Stage::Parent, rustix::io::Errno::SRCH));
        }
        Err((Stage::Exec, self.exec()))
    }

    fn confine(&self) -> Result<(), (Stage, rustix::io::Errno)> {
        let at = |stage: Stage| move |error: rustix::io::Errno| (stage, error);
        let io_at = |stage: Stage| move |error: io::Error| (stage, errno(&error));
        if self.walls.drop_rights.is_some() {
            sys::confine::forbid_capabilities().map_err(io_at(Stage::Rights))?;
        }
        if let Some((uid, gid)) = self.walls.ids {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::thread::set_thread_groups(&[]).map_err(at(Stage::User))?;
            rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(at(Stage::User))?;
            rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(at(Stage::User))?;
        }
        if self.walls.drop_rights.is_some() {
            sys::confine::drop_capabilities().map_err(io_at(Stage::Rights))?;
            rustix::thread::set_no_new_privs(true).map_err(at(Stage::Rights))?;
        }
        // As the new user and before the domain: Landlock has no say in a change of directory.
        rustix::process::chdir(&*self.cwd).map_err(at(Stage::Directory))?;
        if let Some(ruleset) = &self.walls.ruleset {
            sys::confine::landlock_restrict(ruleset.as_fd()).map_err(io_at(Stage::Isolation))?;
        }
        if let Some(filter) = &self.walls.drop_rights {
            filter.apply().map_err(io_at(Stage::Isolation))?;
        }
        Ok(())
    }

    /// The most telling failure of all candidates.
    fn exec(&self) -> rustix::io::Errno {
        let mut worst = rustix::io::Errno::NOENT;
        for program in &self.programs {
            let error = sys::process::exec(program, &self.argv, &self.env);
            match error {
                rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => {}
                rustix::io::Errno::ACCESS => worst = error,
                _ => return error,
            }
        }
        worst
    }

    fn explain(&self, stage: Stage, source: io::Error, spec: &ShimSpec) -> SpawnError {
        let hint = match (stage, source.raw_os_error()) {
            (Stage::Exec, Some(libc::ENOENT)) => self.not_found_hint(),
            (Stage::Exec, Some(libc::EACCES)) => {
                if matches!(spec.isolation, Isolation::None) {
                    " (is it executable?)".to_owned()
                } else {
                    " (is it executable, and inside a path that the isolation allows?)".to_owned()
                }
            }
            (Stage::Exec, Some(libc::ENOEXEC)) => {
                " (it is neither a program of this machine nor a script that begins with #!)"
                    .to_owned()
            }
            (Stage::Directory, _) => format!(" ({})", spec.cwd.display()),
            _ => String::new(),
        };
        SpawnError::Child {
            what: stage.what(),
            command: spec.argv[0].clone(),
            hint,
            source,
        }
    }

    fn not_found_hint(&self) -> String {
        let paths = self
            .programs
            .iter()
            .map(|program| program.to_string_lossy());
        if let [only] = &self.programs[..] {
            if Path::new(&*only.to_string_lossy()).exists() {
                return " (the file is there, but the interpreter that it names is not)".to_owned();
            }
            return String::new();
        }
        let paths: Vec<_> = paths.collect();
        format!(" (looked for {})", paths.join(", "))
    }
}

/// Where a command may be: itself when it names a path, else below each folder of `PATH`.
fn programs(command: &str, spec: &ShimSpec) -> Result<Vec<CString>, SpawnError> {
    if command.contains('/') {
        return c_strings([command.to_owned()]);
    }
    // What a shell falls back to as well.
    let path = spec.env.get("PATH").map_or("/usr/bin:/bin", String::as_str);
    let folders = path.split(':').filter(|folder| !folder.is_empty());
    c_strings(folders.map(|folder| format!("{folder}/{command}")))
}

/// Limits as the kernel will accept them without the right to raise any.
fn limits(wanted: &Rlimits) -> Vec<(Resource, Rlimit)> {
    let all = [
        (Resource::Nofile, wanted.nofile),
        (Resource::Nproc, wanted.nproc),
        (Resource::As, wanted.address_space_bytes),
        (Resource::Fsize, wanted.file_size_bytes),
        (Resource::Core, Some(wanted.core.unwrap_or(0))),
    ];
    all.into_iter()
        .filter_map(|(resource, limit)| {
            let hard = rustix::process::getrlimit(resource).maximum;
            let limit = limit?.min(hard.unwrap_or(u64::MAX));
            Some((
                resource,
                Rlimit {
                    current: Some(limit),
                    maximum: Some(limit),
                },
            ))
        })
        .collect()
}

fn c_strings(strings: impl IntoIterator<Item = String>) -> Result<Vec<CString>, SpawnError> {
    strings
        .into_iter()
        .map(|string| CString::new(string).map_err(|_| SpawnError::Nul))
        .collect()
}

fn path_c_string(path: &Path) -> Result<CString, SpawnError> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| SpawnError::Nul)
}

fn errno(error: &io::Error) -> rustix::io::Errno {
    rustix::io::Errno::from_io_error(error).unwrap_or(rustix::io::Errno::INVAL)
}
