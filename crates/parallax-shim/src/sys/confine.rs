//! Giving up rights. All of it runs between fork and exec and makes only async-signal-safe calls.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use super::signals::check;

/// The most capabilities that a kernel can have: they are bits of a 64-bit mask.
const MAX_CAPABILITIES: libc::c_ulong = 63;

/// The Landlock version of the kernel; 0 when it has none.
#[expect(unsafe_code, reason = "raw system call")]
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with the version flag the kernel reads no memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            VERSION,
        )
    };
    u32::try_from(result).unwrap_or(0)
}

/// Enters the Landlock domain of `ruleset`, for good. Needs no-new-privileges.
#[expect(unsafe_code, reason = "raw system call")]
pub(crate) fn landlock_restrict(ruleset: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a descriptor, which is borrowed, and no memory.
    let result = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) };
    check(i32::try_from(result).unwrap_or(-1)).map(drop)
}

/// Makes capabilities unreachable also for user 0 and for set-user-id programs.
///
/// The bounding set and the secure bits need `CAP_SETPCAP`; a process that lacks it has no
/// capabilities that it could pass on once [`drop_capabilities`] has run.
pub(crate) fn forbid_capabilities() -> io::Result<()> {
    rustix::thread::clear_ambient_capability_set()?;
    if !rustix::thread::capabilities(None)?
        .effective
        .contains(CapabilitySet::SETPCAP)
    {
        return Ok(());
    }
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    rustix::thread::set_capabilities_secure_bits(bits)?;
    for capability in 0..=MAX_CAPABILITIES {
        if !drop_from_bounding_set(capability)? {
            break;
        }
    }
    Ok(())
}

/// Gives up every capability.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, none)?)
}

/// False when the kernel has no such capability.
#[expect(
    unsafe_code,
    reason = "rustix names only the capabilities that it knows"
)]
fn drop_from_bounding_set(capability: libc::c_ulong) -> io::Result<bool> {
    // SAFETY: PR_CAPBSET_DROP takes a number and no memory.
    let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
    match check(result) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Forbids system calls by which a process changes another one of its user without tracing it,
/// where neither Landlock nor capabilities have a say: `prlimit64` with a pid (a low CPU limit
/// kills), and every call of a foreign architecture, whose numbers mean something else.
#[expect(unsafe_code, reason = "raw system call")]
pub(crate) fn forbid_foreign_limits() -> io::Result<()> {
    let mut filter = filter();
    let program = libc::sock_fprog {
        len: FILTER_LEN as libc::c_ushort,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program points to a live array of the length that it says; the kernel copies it.
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

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

const FILTER_LEN: usize = 10;

// Offsets in `struct seccomp_data`: the call's number, its architecture, the low and high halves
// of its first argument on a little-endian machine.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARG0: u32 = 16;

/// On x86-64 the x32 calls share the architecture but have this bit; elsewhere no number has it.
const X32_BIT: u32 = 0x4000_0000;

fn filter() -> [libc::sock_filter; FILTER_LEN] {
    let load = |offset| op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0);
    let equal = |value, yes, no| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value, yes, no);
    let at_least = |value, yes, no| op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, value, yes, no);
    let end = |action| op(libc::BPF_RET | libc::BPF_K, action, 0, 0);
    let refuse = libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned();
    let prlimit = u32::try_from(libc::SYS_prlimit64).unwrap_or(u32::MAX);
    // Jumps count the instructions that they skip.
    [
        load(ARCH),
        equal(AUDIT_ARCH, 1, 0),
        end(refuse),
        load(NR),
        at_least(X32_BIT, 3, 0),
        equal(prlimit, 0, 3),
        load(ARG0),
        equal(0, 1, 0),
        end(refuse),
        end(libc::SECCOMP_RET_ALLOW),
    ]
}

fn op(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter {
        code: code as libc::c_ushort,
        jt,
        jf,
        k,
    }
}
