//! Calls that name files in ways a volume does not have: each with the errno that it gets below
//! the mount. `docs/posix-coverage.md` lists them from `calls`.
//!
//! What must stay true: none of them reaches the kernel with a path below the mount.

use super::Ctx;
use super::at::{self, PathArg};
use crate::fds::{self, Fd};
use crate::patch::class::TOUCHED;
use crate::route::{Answer, Bypass, Target, theirs};
use core::sync::atomic::Ordering::Relaxed;
use sealfs_protocol::Errno;

/// `errno` if the path is ours, else the kernel's call.
fn path(ctx: &mut Ctx<'_>, arg: PathArg, errno: Errno) -> Answer {
    if ctx.arg(arg.index) == 0 {
        return theirs(Bypass::KernelsPart);
    }
    match at::locate(ctx, arg) {
        Ok(Target::Ours(_)) => Err(errno),
        Ok(Target::Link(_) | Target::Theirs(_)) => theirs(Bypass::KernelsPart),
        // An empty or bad path: the kernel says what it thinks of it.
        Err(_) => theirs(Bypass::KernelsPart),
    }
}

macro_rules! refusals {
    ($($(#[$doc:meta])* $name:ident: [$($index:literal $form:ident),*] = $errno:ident;)*) => {$(
        $(#[$doc])*
        pub fn $name(ctx: &mut Ctx<'_>) -> Answer {
            $(
                let arg = refusals!(@$form ctx, $index);
                path(ctx, arg, Errno::$errno)?;
            )*
            theirs(Bypass::KernelsPart)
        }
    )*};
    (@plain $ctx:ident, $index:literal) => { PathArg::plain($index, true) };
    (@at $ctx:ident, $index:literal) => { PathArg::at($ctx, $index, true).or_empty(true) };
}

refusals! {
    /// fanotify_mark(fd, flags, mask, dir, path)
    fanotify_mark: [4 at] = EOPNOTSUPP;
    /// name_to_handle_at(dir, path, handle, mount, flags)
    name_to_handle_at: [1 at] = EOPNOTSUPP;
    /// chroot(path)
    chroot: [0 plain] = EOPNOTSUPP;
    /// pivot_root(new, old)
    pivot_root: [0 plain, 1 plain] = EINVAL;
    /// mount(source, target, …)
    mount: [0 plain, 1 plain] = EOPNOTSUPP;
    /// umount2(target, flags)
    umount: [0 plain] = EINVAL;
    /// swapon(path), swapoff(path)
    swap: [0 plain] = EINVAL;
    /// acct(path)
    acct: [0 plain] = EACCES;
    /// quotactl(command, path, …)
    quotactl: [1 plain] = ENODEV;
    /// open_tree(dir, path, flags), fspick, mount_setattr
    tree: [1 at] = EOPNOTSUPP;
    /// move_mount(dir, path, dir, path, flags)
    move_mount: [1 at, 3 at] = EOPNOTSUPP;
    /// setxattrat and its kin, file_getattr and file_setattr: as by a kernel without them
    newer: [1 at] = ENOSYS;
}

/// io_uring_setup(…): its requests would pass us by, so there is none once the mount is in use.
pub fn io_uring_setup(_ctx: &mut Ctx<'_>) -> Answer {
    if TOUCHED.load(Relaxed) {
        Err(Errno::ENOSYS)
    } else {
        theirs(Bypass::KernelsPart)
    }
}

/// Calls on a descriptor that files of a volume do not have: EOPNOTSUPP.
pub fn descriptor(ctx: &mut Ctx<'_>) -> Answer {
    match fds::of(ctx, 0)? {
        Fd::Ours(_) => Err(Errno::EOPNOTSUPP),
        Fd::Internal => Err(Errno::EBADF),
        Fd::Above | Fd::Listing | Fd::Theirs => theirs(Bypass::NativeDescriptor),
    }
}
