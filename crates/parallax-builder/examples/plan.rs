//! Prints the plan for a folder with the tools of this machine, and with `--run` carries it out
//! there, without a sandbox: for trying a rule on a real project.

use std::path::PathBuf;
use std::process::Command;

use parallax_builder::locate::locate;
use parallax_builder::prepare::{resolve_program, search_path};
use parallax_builder::{SourceTree, Toolchain, plan};
use parallax_core::manifest::{self, AgentSpec};

#[expect(clippy::print_stdout, reason = "this is a command for people")]
#[expect(
    clippy::disallowed_methods,
    reason = "an example is its own binary and has no config"
)]
fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let folder = PathBuf::from(arguments.next().expect("usage: plan FOLDER [--run]"));
    let run = arguments.next().is_some();
    let spec = match std::fs::read_to_string(folder.join(manifest::FILE_NAME)) {
        Ok(text) => manifest::parse(&text).expect("a valid manifest"),
        Err(_) => AgentSpec::named("example".parse().expect("a name")),
    };
    let path = std::env::var_os("PATH").expect("there is a PATH");
    let toolchain = Toolchain::discover(&path);
    let located = locate(&folder, &spec).expect("the folder can be located");
    let tree = SourceTree::open(&located.context).expect("the folder can be opened");
    let plan = match plan(&tree, &located.spec(&spec).build(), &toolchain) {
        Ok(plan) => plan,
        Err(error) => return println!("{error}"),
    };
    println!(
        "{}",
        serde_json::to_string_pretty(&plan).expect("a plan serialises")
    );
    println!("readable: {:?}", toolchain.read_paths());
    if !run {
        return;
    }
    let root = tree.root().join(&plan.root_dir);
    let path = search_path(&plan, &toolchain, &root, &path).expect("plain folders");
    for step in &plan.steps {
        let cwd = tree.root().join(&step.cwd);
        let program = resolve_program(&step.argv[0], &cwd, &plan, &toolchain);
        println!("== {} ({})", step.name, step.argv.join(" "));
        let status = Command::new(program)
            .args(&step.argv[1..])
            .envs(&step.env)
            .env("PATH", &path)
            .current_dir(&cwd)
            .status()
            .expect("the step starts");
        assert!(status.success(), "the step failed: {status}");
    }
    let program = resolve_program(&plan.start.argv[0], &root, &plan, &toolchain);
    println!("== start: {}", plan.start.argv.join(" "));
    let status = Command::new(program)
        .args(&plan.start.argv[1..])
        .envs(&plan.start.env)
        .env("PATH", &path)
        .current_dir(&root)
        .status()
        .expect("the command starts");
    println!("== {status}");
}
