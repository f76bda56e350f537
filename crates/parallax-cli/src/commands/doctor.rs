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
    use parallax_core::host::{IsolationMeans, KernelLimits};
    use parallax_runtime::{Report, doctor};

    use crate::context::Context;
    use crate::format;
    use crate::output::Output;
    use crate::table::Row;

    /// Examines and reports.
    pub(crate) fn run(context: &Context) -> Result<()> {
        let report = doctor(&context.environment.path);
        match context.output.json {
            true => context.output.object(&report),
            false => show(&report, &context.output),
        }
    }

    fn verdict(report: &Report) -> &'static str {
        match (report.isolation, report.builders.is_empty()) {
            (IsolationMeans::Uid | IsolationMeans::None, _) => {
                "This machine cannot run agents safely: nothing here keeps them apart."
            }
            (_, true) => "This machine can run agents, and build none: no runtime was found.",
            (_, false) => "This machine can build and run agents.",
        }
    }

    /// In the words of the program or the system that refuses.
    fn refused(words: Option<&str>) -> String {
        words.map_or_else(
            || "does not work".to_owned(),
            |words| format!("does not work: {words}"),
        )
    }

    fn probes(report: &Report) -> Vec<Row<3>> {
        let probe = &report.probe;
        let works = |yes: bool| if yes { "works" } else { "does not work" }.to_owned();
        let bubblewrap = match &probe.bubblewrap {
            Some(path) => format!("works ({})", path.display()),
            None => refused(probe.bubblewrap_refusal.as_deref()),
        };
        let namespaces = match probe.userns {
            true => works(true),
            false => refused(probe.userns_refusal.as_deref()),
        };
        let landlock = format!(
            "version {}, {}",
            probe.landlock_abi,
            works(probe.landlock_usable)
        );
        let used = |means: IsolationMeans| match report.isolation == means {
            true => "keeps agents and builds apart",
            false => "not used",
        };
        let limits = match report.limits.as_str() {
            "rlimit" => "none can be made".to_owned(),
            version => format!("works ({version})"),
        };
        let limited = KernelLimits::of_word(&report.limits).words();
        let unused = "not used by this release";
        let row = |what: &str, result: String, follows: &str| {
            Row::new([what.into(), result.into(), follows.into()])
        };
        vec![
            row("Landlock", landlock, used(IsolationMeans::Landlock)),
            row("bubblewrap", bubblewrap, used(IsolationMeans::Bubblewrap)),
            row("cgroups", limits, &limited),
            row("another user", works(probe.can_change_uid), unused),
            row("user namespaces", namespaces, unused),
        ]
    }

    fn show(report: &Report, output: &Output) -> Result<()> {
        output.line(verdict(report))?;
        output.line(format_args!(
            "{} on {}: {} cores, {} of memory",
            report.os,
            report.arch,
            format::cores(report.cpu_millis),
            format::bytes(report.memory_bytes)
        ))?;
        output.line("")?;
        output.table(["PROBE", "RESULT", "WHAT FOLLOWS"], &probes(report))?;
        output.line("")?;
        output.line(format_args!("Isolation: {}", report.isolation_words))?;
        output.line(format_args!("Limits: {}", report.limits_words))?;
        output.line(
            "Agents share this machine's network. One that demands more than the isolation of a \
             process (`runc`, `gvisor`) is refused here.",
        )?;
        output.line("")?;
        let builders = match report.builders.is_empty() {
            true => "nothing; install Node.js or Python".to_owned(),
            false => report.builders.join(", "),
        };
        output.line(format_args!("Can build: {builders}"))?;
        let rows = report.tools.iter().map(|tool| {
            let path = tool.path.display().to_string();
            Row::new([
                tool.program.as_str().into(),
                tool.version.as_str().into(),
                path.into(),
            ])
        });
        output.table(["TOOL", "VERSION", "PATH"], &rows.collect::<Vec<_>>())
    }
}
