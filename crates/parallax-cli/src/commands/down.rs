//! `parallax down`: stops the local server and everything that it runs.

use std::time::Duration;

use super::duration;

/// The command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How long replicas may take to finish their tasks, before they are killed
    #[arg(long, default_value = "60s", value_parser = duration::parse, value_name = "SPAN")]
    timeout: Duration,
}

/// Refuses.
#[cfg(not(target_os = "linux"))]
pub(crate) fn run(args: &Args, _: &crate::context::Context) -> anyhow::Result<()> {
    let _ = args.timeout; // Nothing runs here that could be waited for.
    super::linux_only("down")
}

#[cfg(target_os = "linux")]
pub(crate) use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use std::time::{Duration, Instant};

    use anyhow::{Context as _, Result};
    use parallax_runtime::Census;
    use rustix::process::{Pid, Signal, kill_process};
    use serde::Serialize;

    use super::Args;
    use crate::commands::client;
    use crate::context::Context;
    use crate::running::{self, Role, Running};

    /// Between two looks at a process that should end.
    const POLL: Duration = Duration::from_millis(50);
    /// For the kernel to let go of what a killed process held.
    const KILL_PATIENCE: Duration = Duration::from_secs(5);
    /// For replicas that nobody drains any more.
    const LEFTOVERS_DEADLINE: Duration = Duration::from_secs(20);

    /// Stops everything in the data directory, and says what there was.
    pub(crate) fn run(args: &Args, context: &Context) -> Result<()> {
        let dir = context.host_dir();
        let found = client(async {
            let census = parallax_runtime::census(&dir).await;
            census.context("looking for what runs")
        })?;
        let mut stopped = Vec::new();
        for role in [Role::Server, Role::Host] {
            let who = stop(role, args.timeout, found, context)?;
            stopped.extend(who.map(|who| (role, who)));
        }
        client(async {
            let down = parallax_runtime::down(&dir, LEFTOVERS_DEADLINE).await;
            down.context("something of the agents is left")
        })?;
        // Only now are its replicas known to be gone, too.
        for (_, who) in &stopped {
            context.output.note(format_args!("stopped {who}"));
        }
        let is_stopped = |role| stopped.iter().any(|(stopped, _)| *stopped == role);
        let server = is_stopped(Role::Server);
        let down = Down {
            server,
            host: is_stopped(Role::Host),
            replicas: found.replicas,
            builds: found.builds,
        };
        if context.output.json {
            return context.output.object(&down);
        }
        let data_dir = context.data_dir.display();
        context
            .output
            .line(match (stopped.is_empty(), counted(found)) {
                (false, _) if server => format!(
                    "Nothing runs in {data_dir} any more. What was deployed comes back with \
                 `parallax serve`."
                ),
                (false, _) => format!("Nothing runs in {data_dir} any more."),
                (true, Some(left)) => {
                    format!(
                        "No server ran in {data_dir}; stopped what an earlier one had left: {left}."
                    )
                }
                (true, None) => format!("Nothing ran in {data_dir}."),
            })
    }

    /// What was stopped, for programs.
    #[derive(Debug, Serialize)]
    struct Down {
        server: bool,
        host: bool,
        replicas: usize,
        builds: usize,
    }

    /// `3 replicas and 1 build`, or nothing.
    fn counted(found: Census) -> Option<String> {
        let plural = |count: usize, word: &str| {
            let end = if count == 1 { "" } else { "s" };
            (count > 0).then(|| format!("{count} {word}{end}"))
        };
        let replicas = plural(found.replicas, "replica");
        let parts = replicas.into_iter().chain(plural(found.builds, "build"));
        let parts: Vec<String> = parts.collect();
        (!parts.is_empty()).then(|| parts.join(" and "))
    }

    /// Ends the process of a role, if there is one; what it was, in words, with what ran under it.
    fn stop(
        role: Role,
        timeout: Duration,
        found: Census,
        context: &Context,
    ) -> Result<Option<String>> {
        let word = role.as_str();
        if !running::is_claimed(&context.data_dir, role)? {
            return Ok(None);
        }
        let running = running::find(&context.data_dir, role)
            .with_context(|| format!("a {word} is only just starting; try again in a moment"))?;
        let who = running.described(role);
        let pid = running.pid;
        let progress = context.output.progress();
        let with = counted(found).map_or_else(String::new, |words| format!(", with {words}"));
        progress.step(format_args!("stopping {who} (process {pid}){with}"));
        signal(&running, Signal::INT)?;
        if !ends(role, timeout, context)? {
            let seconds = timeout.as_secs();
            progress.line(format_args!(
                "{who} did not end within {seconds} s; killing it"
            ));
            signal(&running, Signal::KILL)?;
            let ended = ends(role, KILL_PATIENCE, context)?;
            anyhow::ensure!(ended, "{who} (process {pid}) does not end");
        }
        Ok(Some(format!("{who}{with}")))
    }

    /// The claim was held a moment ago, so the process is the one that the file names.
    fn signal(running: &Running, signal: Signal) -> Result<()> {
        let pid = i32::try_from(running.pid).ok().and_then(Pid::from_raw); // None: not a process.
        let pid = pid.with_context(|| format!("{} is no process", running.pid))?;
        match kill_process(pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("signalling process {}", running.pid)),
        }
    }

    fn ends(role: Role, timeout: Duration, context: &Context) -> Result<bool> {
        let until = Instant::now() + timeout;
        while running::is_claimed(&context.data_dir, role)? {
            if Instant::now() > until {
                return Ok(false);
            }
            std::thread::sleep(POLL);
        }
        Ok(true)
    }
}
