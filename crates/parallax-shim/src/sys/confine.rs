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
