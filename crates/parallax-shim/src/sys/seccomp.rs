//! A filter of system calls, for what neither Landlock nor capabilities have a say in.

use std::io;

use libc::sock_filter;

use super::signals::check;

/// Forbids, to a process that has given up its capabilities but not its user:
///
/// - `prlimit64` with a pid: a low processor limit kills any process of the same user;
/// - set-user-id and set-group-id files, by which another user of the machine would become this
///   one, who may be user 0;
/// - `openat2` and `io_uring`, which a filter cannot see into; programs fall back from both;
/// - calls of a foreign architecture, whose numbers mean something else.
#[derive(Debug)]
pub(crate) struct Filter(Vec<sock_filter>);

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

// Offsets in `struct seccomp_data`.
const NR: u32 = 0;
const ARCH: u32 = 4;

/// The low half of an argument, on a little-endian machine.
const fn arg(index: u32) -> u32 {
    16 + 8 * index
}

/// On x86-64 the x32 calls share the architecture but have this bit; elsewhere no number has it.
const X32_BIT: u32 = 0x4000_0000;

const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
const ABSENT: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();

/// `fchmodat2`, which the C library does not name on every architecture; the number is the same on
/// all.
const SYS_FCHMODAT2: libc::c_long = 452;

/// Calls that set a mode, and which argument it is.
const MODE_CALLS: &[(libc::c_long, u32)] = &[
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (SYS_FCHMODAT2, 2),
    (libc::SYS_mkdirat, 2),
    (libc::SYS_mknodat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
];

/// Calls whose mode counts only when their flags say that a file may be created: which argument
/// the flags are; the mode follows.
const OPEN_CALLS: &[(libc::c_long, u32)] = &[
    (libc::SYS_openat, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1),
];

impl Filter {
    pub(crate) fn new() -> Self {
        // Jumps count the instructions that they skip.
        let mut program = vec![
            load(ARCH),
            equal(AUDIT_ARCH, 1, 0),
            end(REFUSE),
            load(NR),
            op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, X32_BIT, 0, 1),
            end(REFUSE),
        ];
        rule(
            &mut program,
            libc::SYS_prlimit64,
            &[load(arg(0)), equal(0, 1, 0), end(REFUSE)],
        );
        for call in [libc::SYS_openat2, libc::SYS_io_uring_setup] {
            rule(&mut program, call, &[end(ABSENT)]);
        }
        for (call, mode) in MODE_CALLS {
            rule(&mut program, *call, &refuse_mode(*mode));
        }
        for (call, flags) in OPEN_CALLS {
            // O_TMPFILE is a mask with O_DIRECTORY in it, which alone creates nothing.
            let creates = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)).cast_unsigned();
            let [load_mode, test, refuse] = refuse_mode(flags + 1);
            rule(
                &mut program,
                *call,
                &[
                    load(arg(*flags)),
                    any_bit(creates, 0, 3),
                    load_mode,
                    test,
                    refuse,
                ],
            );
        }
        program.push(end(libc::SECCOMP_RET_ALLOW));
        Self(program)
    }

    /// Puts the filter on this process, for good. Needs no-new-privileges.
    ///
    /// Makes only async-signal-safe calls.
    #[expect(unsafe_code, reason = "raw system call")]
    pub(crate) fn apply(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: self.0.len() as libc::c_ushort,
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the program points to a live array of the length that it says. The kernel copies
        // it and writes nothing.
        let result = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            )
        };
        check(i32::try_from(result).unwrap_or(-1)).map(drop)
    }
}

/// Instructions for one call; when they run to their end, it is allowed.
fn rule(program: &mut Vec<sock_filter>, call: libc::c_long, body: &[sock_filter]) {
    let number = u32::try_from(call).unwrap_or(u32::MAX);
    let skip = u8::try_from(body.len() + 1).unwrap_or(u8::MAX);
    program.push(equal(number, 0, skip));
    program.extend_from_slice(body);
    program.push(end(libc::SECCOMP_RET_ALLOW));
}

fn refuse_mode(mode: u32) -> [sock_filter; 3] {
    let set_id = libc::S_ISUID | libc::S_ISGID;
    [load(arg(mode)), any_bit(set_id, 0, 1), end(REFUSE)]
}

fn load(offset: u32) -> sock_filter {
    op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

fn equal(value: u32, yes: u8, no: u8) -> sock_filter {
    op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, yes, no)
}

fn any_bit(mask: u32, yes: u8, no: u8) -> sock_filter {
    op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, mask, yes, no)
}

fn end(action: u32) -> sock_filter {
    op(libc::BPF_RET | libc::BPF_K, action, 0, 0)
}

fn op(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter {
        code: code as libc::c_ushort,
        jt,
        jf,
        k,
    }
}
