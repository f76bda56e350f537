//! Where to look when what was named is not there.

use crate::args::Command;

/// What a person does next after [`crate::exit::Exit::NotFound`].
#[must_use]
pub(crate) fn for_missing(command: &Command) -> Option<&'static str> {
    match command {
        Command::Status(_)
        | Command::Scale(_)
        | Command::Logs(_)
        | Command::Redeploy(_)
        | Command::Delete(_) => Some("`parallax agents` lists the agents there are."),
        Command::Invoke(_) => Some("`parallax registry` lists who can be called, and for what."),
        Command::Tasks(_) => Some("`parallax tasks` lists the newest tasks."),
        Command::Keys(_) => Some("`parallax keys` lists the keys there are."),
        Command::Serve(_)
        | Command::Host(_)
        | Command::Deploy(_)
        | Command::Plan(_)
        | Command::Agents(_)
        | Command::Registry(_)
        | Command::Hosts(_)
        | Command::Doctor
        | Command::Down(_)
        | Command::Completions { .. }
        | Command::Openapi
        | Command::DocsReference(_) => None,
    }
}
