//! The little that the shim reads from `/proc`.

use std::fs;
use std::io;
use std::path::Path;

/// The fields of `/proc/PID/stat` that identify a process and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) pid: u32,
    /// `Z` and `X` processes have ended; only their record is left.
    pub(crate) dead: bool,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    /// Clock ticks since boot.
    pub(crate) start_time: u64,
}

/// `None` when there is no such process.
pub(crate) fn stat(pid: u32) -> io::Result<Option<Stat>> {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(text) => parse_stat(&text)
            .map(Some)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/PID/stat")),
        // ESRCH: it ended between open and read.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(libc::ESRCH) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Every process that is visible, zombies included.
pub(crate) fn processes() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if let Some(stat) = stat(pid)? {
            found.push(stat);
        }
    }
    Ok(found)
}

/// The id of the current boot.
pub(crate) fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim().to_owned())
}

/// The inode of the pipe behind a process's descriptor; `None` when it is something else or cannot
/// be seen.
pub(crate) fn pipe_inode(pid: u32, fd: i32) -> Option<u64> {
    let target = fs::read_link(Path::new("/proc").join(format!("{pid}/fd/{fd}"))).ok()?;
    let inode = target.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?;
    inode.parse().ok()
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The command name may hold anything, also ") R 1": the last parenthesis ends it.
    let (pid, rest) = text.split_once(' ')?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split(' ').collect();
    Some(Stat {
        pid: pid.parse().ok()?,
        dead: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_time: fields.get(19)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_cannot_forge_the_fields_after_it() {
        let text = "42 (a) R 1 2 3) S 7 8 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0 0\n";
        let expected = Stat {
            pid: 42,
            dead: false,
            parent: 7,
            group: 8,
            session: 9,
            start_time: 1234,
        };
        assert_eq!(parse_stat(text), Some(expected));
    }

    #[test]
    fn a_process_sees_itself() {
        let own = stat(std::process::id())
            .expect("/proc is mounted")
            .expect("this process runs");
        assert!(!own.dead);
        assert!(
            processes()
                .expect("/proc is mounted")
                .iter()
                .any(|other| other.pid == own.pid && other.start_time == own.start_time)
        );
    }
}
