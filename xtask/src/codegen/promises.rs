//! The contracts that were committed before, and whether a new one keeps what they promise.

use anyhow::{Context, Result, bail};
use prost::Message;
use prost_types::FileDescriptorSet;

use super::append_only;
use crate::process::Workspace;
use crate::steps::say;

/// Refuses a change that peers of any contract committed at `path` would misread. Earlier
/// versions count as well as the last: a break that is committed together with its descriptor is
/// in HEAD already, which is all that a fresh clone could compare with otherwise.
pub fn kept(workspace: &Workspace, path: &str, fresh: &FileDescriptorSet) -> Result<()> {
    for commit in commits(workspace, path)? {
        let name = format!("{commit}:{path}");
        let committed = git(workspace, &["show", &name])??;
        let committed = FileDescriptorSet::decode(committed.as_slice())
            .with_context(|| format!("{name}: not a descriptor set"))?;
        let broken = append_only::broken(&committed, fresh);
        if !broken.is_empty() {
            bail!(
                "parallax.v1 is append-only, but proto/ changed what commit {commit} promises:\n  {}\nkeep the old declaration and add a new one",
                broken.join("\n  ")
            );
        }
    }
    Ok(())
}

/// The commits that wrote the contract, the newest first. A shallow clone knows only some, and a
/// source archive none.
fn commits(workspace: &Workspace, path: &str) -> Result<Vec<String>> {
    let arguments = ["log", "--format=%h", "--diff-filter=AM", "--", path];
    match git(workspace, &arguments)? {
        Ok(listed) => {
            let listed = String::from_utf8(listed).context("git lists commits in ASCII")?;
            Ok(listed.lines().map(str::to_owned).collect())
        }
        Err(reason) => {
            say(&format!(
                "   no committed contract to compare with: {reason:#}"
            ));
            Ok(Vec::new())
        }
    }
}

/// What git prints; the inner error is git's own.
fn git(workspace: &Workspace, arguments: &[&str]) -> Result<Result<Vec<u8>>> {
    let mut git = workspace.command("git");
    let done = git.args(arguments).output();
    let done = done.context("starting `git`: it is needed to read the committed contracts")?;
    if done.status.success() {
        return Ok(Ok(done.stdout));
    }
    let reason = String::from_utf8_lossy(&done.stderr);
    Ok(Err(anyhow::anyhow!(
        "git {}: {}",
        arguments.join(" "),
        reason.trim()
    )))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use prost_types::{DescriptorProto, FileDescriptorProto};

    use super::*;
    use crate::config::Config;

    const PATH: &str = "descriptor.bin";

    fn contract(messages: &[&str]) -> FileDescriptorSet {
        let message = |name: &&str| DescriptorProto {
            name: Some((*name).to_owned()),
            ..DescriptorProto::default()
        };
        FileDescriptorSet {
            file: vec![FileDescriptorProto {
                package: Some("parallax.v1".to_owned()),
                message_type: messages.iter().map(message).collect(),
                ..FileDescriptorProto::default()
            }],
        }
    }

    fn workspace(root: &Path) -> Workspace {
        Workspace {
            root: root.to_owned(),
            config: Config::default(),
        }
    }

    fn commit(workspace: &Workspace, contract: &FileDescriptorSet) {
        fs::write(workspace.root.join(PATH), contract.encode_to_vec()).expect("a writable folder");
        let who = ["-c", "user.name=nobody", "-c", "user.email=nobody@invalid"];
        let run = |arguments: &[&str]| {
            let all: Vec<_> = who.iter().chain(arguments).copied().collect();
            git(workspace, &all)
                .expect("git starts")
                .expect("git works");
        };
        run(&["init", "--quiet"]);
        run(&["add", PATH]);
        run(&["commit", "--quiet", "--no-gpg-sign", "-m", "contract"]);
    }

    #[test]
    fn a_break_is_seen_after_it_was_committed_with_its_descriptor() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let workspace = workspace(folder.path());
        commit(&workspace, &contract(&["Hello", "Ping"]));
        let shrunk = contract(&["Hello"]);
        commit(&workspace, &shrunk);
        let refused = kept(&workspace, PATH, &shrunk).expect_err("Ping is gone");
        assert!(
            refused
                .to_string()
                .contains("message parallax.v1.Ping was removed")
        );
        kept(&workspace, PATH, &contract(&["Hello", "Ping", "Pong"])).expect("it only grew");
    }

    #[test]
    fn a_source_archive_without_history_is_no_error() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        kept(&workspace(folder.path()), PATH, &contract(&["Hello"])).expect("nothing to compare");
    }
}
