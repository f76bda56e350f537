//! What the tests start: `shim DIR` as the product does, and children that misbehave.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["shim", dir] => parallax_shim::main(Path::new(dir)),
        ["line", bytes] => one_line(bytes.parse().expect("a number of bytes")),
        ["attack", victim, secret, shim_dir] => {
            attack(victim.parse().expect("a process id"), secret, shim_dir)
        }
        ["rights"] => rights(),
        ["fork-bomb"] => fork_bomb(),
        ["eat-memory"] => eat_memory(),
        _ => ExitCode::from(64),
    }
}

/// One line without newline, as long as asked.
fn one_line(bytes: usize) -> ExitCode {
    let block = vec![b'x'; 1 << 16];
    let mut out = std::io::stdout().lock();
    let mut left = bytes;
    while left > 0 {
        let count = left.min(block.len());
        out.write_all(&block[..count]).expect("the shim reads");
        left -= count;
    }
    ExitCode::SUCCESS
}

/// Tries what a hostile agent would and says what happened: `name=ok` or `name=<errno>`.
#[expect(unsafe_code, reason = "hostile system calls have no safe wrapper")]
fn attack(victim: i32, secret: &str, shim_dir: &str) -> ExitCode {
    say("read", std::fs::read(secret).map(drop));
    say("list", std::fs::read_dir(shim_dir).map(drop));
    say(
        "environ",
        std::fs::read(format!("/proc/{victim}/environ")).map(drop),
    );
    say("write", std::fs::write(format!("{secret}.new"), b"x"));
    say("mount", {
        let (from, to) = (c"none", c"/proc");
        // SAFETY: the strings are constants; a refused mount changes nothing.
        let result = unsafe {
            libc::mount(
                from.as_ptr(),
                to.as_ptr(),
                c"tmpfs".as_ptr(),
                0,
                std::ptr::null(),
            )
        };
        os(result)
    });
    // SAFETY: plain system calls with numbers; the tests own the victim.
    unsafe {
        say("signal", os(libc::kill(victim, libc::SIGTERM)));
        say("signal-parent", os(libc::kill(libc::getppid(), 0)));
        let trace = libc::ptrace(libc::PTRACE_ATTACH, victim, 0, 0);
        say("ptrace", os(-i32::from(trace != 0)));
        let limit = libc::rlimit {
            rlim_cur: 1,
            rlim_max: 1,
        };
        let limited = libc::prlimit(
            victim,
            libc::RLIMIT_CPU,
            &raw const limit,
            std::ptr::null_mut(),
        );
        say("prlimit", os(limited));
        say("setuid", os(libc::setuid(0)));
    }
    let connected = UnixStream::connect(Path::new(shim_dir).join("shim.sock"));
    say(
        "kill-by-socket",
        connected.and_then(|stream| ask_to_kill(&stream)),
    );
    ExitCode::SUCCESS
}

/// Ok when the shim obeyed.
fn ask_to_kill(mut stream: &UnixStream) -> std::io::Result<()> {
    use std::io::Read;
    stream.write_all(b"{\"version\":1,\"token\":\"\"}\n{\"op\":\"kill\"}\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.contains("\"ok\"") {
        Ok(())
    } else {
        Err(std::io::Error::from_raw_os_error(libc::EACCES))
    }
}

fn os(result: i32) -> std::io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

fn say(name: &str, result: std::io::Result<()>) {
    let outcome = match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.raw_os_error().unwrap_or(0).to_string(),
    };
    writeln!(std::io::stdout(), "{name}={outcome}").expect("the shim reads");
}

/// What this process may do and holds open.
fn rights() -> ExitCode {
    let mut out = std::io::stdout().lock();
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc is readable");
    let wanted = [
        "Uid:",
        "Gid:",
        "Groups:",
        "Cap",
        "NoNewPrivs:",
        "Seccomp:",
        "SigBlk:",
        "SigIgn:",
    ];
    for line in status.lines() {
        if wanted.iter().any(|name| line.starts_with(name)) {
            let line: Vec<&str> = line.split_whitespace().collect();
            writeln!(out, "{}", line.join(" ")).expect("the shim reads");
        }
    }
    let mut fds: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .expect("/proc is readable")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    fds.sort_unstable();
    // The last is the listing itself.
    fds.pop();
    writeln!(out, "fds {fds:?}").expect("the shim reads");
    ExitCode::SUCCESS
}

/// Forks as long as it can; each copy goes on.
#[expect(unsafe_code, reason = "fork")]
fn fork_bomb() -> ExitCode {
    let parent = std::process::id();
    loop {
        // SAFETY: one thread, and the child only forks on.
        if unsafe { libc::fork() } < 0 {
            if std::process::id() == parent {
                writeln!(std::io::stdout(), "full").expect("the shim reads");
                std::thread::park();
            }
            std::thread::yield_now();
        }
    }
}

fn eat_memory() -> ExitCode {
    let mut blocks = Vec::new();
    loop {
        blocks.push(vec![1_u8; 1 << 20]);
        std::hint::black_box(&blocks);
    }
}
