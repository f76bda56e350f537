//! System packages that some tests need: PostgreSQL's server programs and bubblewrap.
//!
//! As root on Debian they are installed; elsewhere the tests that need them skip themselves and
//! say so.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::process::{Workspace, run};
use crate::steps::say;

/// What a Debian package brings, and where its programs may lie besides `PATH`.
struct Need {
    program: &'static str,
    package: &'static str,
}

const NEEDS: [Need; 2] = [
    Need {
        program: "initdb",
        package: "postgresql",
    },
    Need {
        program: "bwrap",
        package: "bubblewrap",
    },
];

/// Debian keeps PostgreSQL's server programs out of `PATH`, one folder a version.
const POSTGRES_ROOT: &str = "/usr/lib/postgresql";

/// Installs what is missing where that is possible; a failure is told and left to the tests.
pub fn ensure(workspace: &Workspace, install: bool) {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| !is_present(workspace, need.program))
        .collect();
    if missing.is_empty() {
        say("   PostgreSQL's programs and bubblewrap are present");
        return;
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let packages = packages.join(" ");
    let is_root = rustix::process::geteuid().is_root();
    if !install || !is_root || workspace.which("apt-get").is_none() {
        say(&format!(
            "   missing: {packages}; tests that need them will be skipped (on Debian: apt-get install {packages})"
        ));
        return;
    }
    say(&format!("   installing {packages}"));
    if let Err(error) = apt_install(workspace, &missing) {
        say(&format!(
            "   {error:#}; tests that need {packages} will be skipped"
        ));
    }
}

fn is_present(workspace: &Workspace, program: &str) -> bool {
    if workspace.which(program).is_some() {
        return true;
    }
    let Ok(versions) = fs::read_dir(POSTGRES_ROOT) else {
        return false;
    };
    versions
        .filter_map(Result::ok)
        .any(|version| version.path().join("bin").join(program).is_file())
}

fn apt_install(workspace: &Workspace, needs: &[&Need]) -> Result<()> {
    no_default_cluster()?;
    let apt = || {
        let mut command = workspace.command("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg("--quiet");
        command
    };
    run(apt().arg("update"))?;
    let mut install = apt();
    install.args(["install", "--yes", "--no-install-recommends"]);
    install.args(["-o", "Dpkg::Options::=--force-confold"]);
    run(install.args(needs.iter().map(|need| need.package)))
}

/// Debian's package would create and start a database server of its own; tests start private ones.
fn no_default_cluster() -> Result<()> {
    let config = Path::new("/etc/postgresql-common/createcluster.conf");
    if config.exists() {
        return Ok(());
    }
    fs::create_dir_all("/etc/postgresql-common").context("creating /etc/postgresql-common")?;
    fs::write(config, "create_main_cluster = false\n").context("writing createcluster.conf")
}
