//! `parallax doctor`: what this machine can do for agents.

/// Refuses.
#[cfg(not(target_os = "linux"))]
pub(crate) fn run(_: &crate::context::Context) -> anyhow::Result<()> {
    super::linux_only("doctor")
}

#[cfg(target_os = "linux")]
pub(crate) use linux::run;

#[cfg(target_os = "linux")]
mod linux {
    use anyhow::Result;
    use parallax_runtime::{Report, doctor};

    use crate::context::Context;
    use crate::format;
    use crate::output::Output;

    /// Examines and reports.
    pub(crate) fn run(context: &Context) -> Result<()> {
        let report = doctor(&context.environment.path);
        match context.output.json {
            true => context.output.object(&report),
            false => show(&report, &context.output),
        }
    }

    fn show(report: &Report, output: &Output) -> Result<()> {
        output.line(format_args!(
            "{} on {}: {} cores, {} of memory",
            report.os,
            report.arch,
            format::cores(report.cpu_millis),
            format::bytes(report.memory_bytes)
        ))?;
        output.line("")?;
        output.line(format_args!("Isolation: {}", report.isolation_words))?;
        let probe = &report.probe;
        let works = |yes: bool| if yes { "works" } else { "does not work" }.to_owned();
        let bubblewrap = match &probe.bubblewrap {
            Some(path) => format!("works ({})", path.display()),
            None => "does not work".to_owned(),
        };
        let landlock = format!(
            "version {}, {}",
            probe.landlock_abi,
            works(probe.landlock_usable)
        );
        let rows = vec![
            ["Landlock".to_owned(), landlock],
            ["bubblewrap".to_owned(), bubblewrap],
            ["another user".to_owned(), works(probe.can_change_uid)],
            ["user namespaces".to_owned(), works(probe.userns)],
        ];
        output.table(["PROBE", "RESULT"], rows)?;
        output.line("")?;
        output.line(format_args!("Limits: {}", report.limits_words))?;
        output.line("")?;
        let builders = match report.builders.is_empty() {
            true => "nothing; install Node.js or Python".to_owned(),
            false => report.builders.join(", "),
        };
        output.line(format_args!("Can build: {builders}"))?;
        let rows = report.tools.iter().map(|tool| {
            let path = tool.path.display().to_string();
            [tool.program.clone(), tool.version.clone(), path]
        });
        output.table(["TOOL", "VERSION", "PATH"], rows.collect())
    }
}
