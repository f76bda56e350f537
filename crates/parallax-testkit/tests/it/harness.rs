//! The conformance suite's own behaviour towards programs that are no agents.

use parallax_testkit::conformance::{Breach, FixtureCommand, Lab, Setup};

fn shell(script: &str) -> Lab {
    Lab::of(FixtureCommand {
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: std::env::temp_dir(),
        env: Vec::new(),
    })
}

#[tokio::test]
async fn a_fixture_that_dies_fails_its_case_at_once_with_its_last_words() -> anyhow::Result<()> {
    let lab = shell("echo cannot start >&2; exit 3");
    let mut stage = lab.stage(Setup::default()).await?;
    let Err(failure) = stage.arrival().await else {
        anyhow::bail!("a dead program opened a session");
    };
    let breach = failure.downcast::<Breach>()?;
    assert_eq!(breach.wanted, "the agent opens a session");
    assert_eq!(breach.did, "ended: exit status: 3");
    assert_eq!(stage.process.output(), "cannot start\n");
    let journal = lab.journal().text();
    assert!(journal.contains("cannot start"), "{journal}");
    Ok(())
}

#[tokio::test]
async fn a_fixture_sees_its_own_environment_and_no_other() -> anyhow::Result<()> {
    let setup = Setup {
        env: vec![("FROM_THE_CASE".to_owned(), "yes".to_owned())],
        ..Setup::default()
    };
    let lab = shell("env; cat \"$PARALLAX_TOKEN_FILE\"; echo ready");
    let mut stage = lab.stage(setup).await?;
    stage.process.ready().await?;
    let status = stage.gone("the shell ends").await?;
    assert!(status.success());
    let output = stage.process.output();
    assert!(
        output.contains(&format!("PARALLAX_URL={}\n", stage.server.url())),
        "{output}"
    );
    assert!(output.contains(stage.token()), "{output}");
    assert!(output.contains("FROM_THE_CASE=yes\n"), "{output}");
    assert!(
        !output.contains("CARGO_"),
        "the caller's environment leaks: {output}"
    );
    Ok(())
}

#[tokio::test]
async fn a_fixture_that_ignores_sigterm_is_reported_and_killed() -> anyhow::Result<()> {
    // The shell's own child keeps the pipe; `exec` makes them one process.
    let lab = shell("trap '' TERM; echo ready; exec sleep 600");
    let mut stage = lab.stage(Setup::default()).await?;
    stage.process.ready().await?;
    stage.process.terminate()?;
    let patience = std::time::Duration::from_millis(50);
    let Err(failure) = stage.process.exit("the agent ends", patience).await else {
        anyhow::bail!("the program ended although it ignores SIGTERM");
    };
    let breach = failure.downcast::<Breach>()?;
    assert_eq!(breach.did, "was still running after 50ms");
    Ok(())
}
