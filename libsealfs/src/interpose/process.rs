//! Processes: fork and its kin, the end, identities, masks, sandboxes.
//!
//! What must stay true: before a second holder of our descriptors comes into being they are marked
//! shared; a process that ends in order leaves nothing for others to clean up.

use super::{Ctx, fd, user};
use crate::fds::{self, Fd};
use crate::patch::class::TOUCHED;
use crate::route::{Answer, Bypass, theirs};
use crate::{credentials, cwd, process, subject, vfork};
use core::sync::atomic::Ordering::Relaxed;
use sealfs_protocol::Errno;

const SECCOMP: i32 = libc::PR_SET_SECCOMP;

/// fork()
pub fn fork(_ctx: &mut Ctx<'_>) -> Answer {
    before_child(0)
}

/// vfork()
pub fn vfork(_ctx: &mut Ctx<'_>) -> Answer {
    before_child((libc::CLONE_VM | libc::CLONE_VFORK) as u64)
}

/// clone(flags, …)
pub fn clone(ctx: &mut Ctx<'_>) -> Answer {
    before_child(ctx.arg(0) as u64)
}

/// clone3(arguments, bytes): the flags come first
pub fn clone3(ctx: &mut Ctx<'_>) -> Answer {
    match user::read::<u64>(ctx.arg(0)) {
        Ok(flags) => before_child(flags),
        Err(_) => theirs(Bypass::KernelsPart),
    }
}

fn before_child(flags: u64) -> Answer {
    let has = |flag: i32| flags & flag as u64 != 0;
    if has(libc::CLONE_THREAD) || (has(libc::CLONE_VM) && has(libc::CLONE_FILES)) {
        return theirs(Bypass::KernelsPart);
    }
    if !has(libc::CLONE_FILES) {
        share_all()?;
    }
    if has(libc::CLONE_VM) && !subject::FOREIGN && !vfork::is_child() {
        vfork::begin(has(libc::CLONE_VFORK));
    }
    theirs(Bypass::KernelsPart)
}

/// Marks every description that this process is known to hold as shared. Those that it has not
/// looked at came from elsewhere and are marked already.
pub fn share_all() -> Result<(), Errno> {
    if !TOUCHED.load(Relaxed) {
        return Ok(());
    }
    for number in subject::held() {
        if let Ok(Fd::Ours(open)) = fds::lookup(number) {
            match fd::share(&open) {
                Ok(()) | Err(Errno::EBADF) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// exit_group(status): what others would have to clean up is done now.
pub fn exit_group(_ctx: &mut Ctx<'_>) -> Answer {
    if !vfork::is_child() {
        fd::close_all();
        if let Some(client) = process::known_client() {
            client.end();
        }
    }
    theirs(Bypass::KernelsPart)
}

/// Every call that changes who a thread is.
pub fn identity(_ctx: &mut Ctx<'_>) -> Answer {
    credentials::note_change();
    theirs(Bypass::KernelsPart)
}

/// umask(mask)
pub fn umask(ctx: &mut Ctx<'_>) -> Answer {
    process::note_umask(ctx.arg(0) as u32);
    theirs(Bypass::KernelsPart)
}

/// unshare(flags), setns(fd, kind): from here on threads may differ in descriptors, working
/// directory or identity, so nothing of them is remembered any more.
pub fn apart(_ctx: &mut Ctx<'_>) -> Answer {
    credentials::note_change();
    vfork::begin(false);
    cwd::forget();
    theirs(Bypass::KernelsPart)
}

/// prctl(option, …)
pub fn prctl(ctx: &mut Ctx<'_>) -> Answer {
    if ctx.int(0) == SECCOMP {
        before_sandbox();
    }
    theirs(Bypass::KernelsPart)
}

/// seccomp(operation, flags, arguments)
pub fn seccomp(_ctx: &mut Ctx<'_>) -> Answer {
    before_sandbox();
    theirs(Bypass::KernelsPart)
}

/// Looks at everything that could not be looked at afterwards.
fn before_sandbox() {
    cwd::get();
    for number in fd::open_numbers().unwrap_or_default() {
        // Numbers that are nobody's stay unknown, which a sandbox takes for the kernel's.
        let _ = fds::lookup(number as usize);
    }
}

/// Calls that only the ways in have to see.
pub fn seen(_ctx: &mut Ctx<'_>) -> Answer {
    theirs(Bypass::KernelsPart)
}
