//! Who may do what: the kernel's rules (path_resolution(7), capabilities(7)), root having
//! CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_CHOWN and CAP_FSETID.

use crate::core::{OpResult, View, World};
use crate::records::InodeRecord;
use sealfs_protocol::Errno;
use sealfs_protocol::message::Credentials;

pub const R: u32 = 4;
pub const W: u32 = 2;
pub const X: u32 = 1;

pub const S_ISUID: u32 = 0o4000;
pub const S_ISGID: u32 = 0o2000;
pub const S_ISVTX: u32 = 0o1000;
const S_IXGRP: u32 = 0o010;

pub fn is_root(who: &Credentials) -> bool {
    who.uid == 0
}

pub fn in_group(who: &Credentials, gid: u32) -> bool {
    who.gid == gid || who.groups.contains(&gid)
}

pub fn owns(who: &Credentials, inode: &InodeRecord) -> bool {
    is_root(who) || who.uid == inode.uid
}

/// Whether `who` may access `inode` in all the ways of `mask` (R, W, X).
pub fn check(inode: &InodeRecord, who: &Credentials, mask: u32) -> Result<(), Errno> {
    if is_root(who) {
        // Root needs one x bit of any class to execute a file.
        let denied = mask & X != 0 && !inode.is_dir() && inode.mode & 0o111 == 0;
        return if denied { Err(Errno::EACCES) } else { Ok(()) };
    }
    let granted = if who.uid == inode.uid {
        inode.mode >> 6
    } else if in_group(who, inode.gid) {
        inode.mode >> 3
    } else {
        inode.mode
    };
    if granted & mask == mask {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// Nothing but what is no file of the volume's own (a FIFO, a socket, a device) may be written while
/// the volume is read-only; asked before the inode's own permissions, as sb_permission() of the
/// kernel is.
pub fn check_volume<V: World>(v: &View<V>, inode: &InodeRecord, mask: u32) -> OpResult<()> {
    let stored = inode.is_regular() || inode.is_dir() || inode.is_symlink();
    if mask & W != 0 && stored {
        v.check_writable(inode.volume)?;
    }
    Ok(())
}

/// The sticky rule: in such a directory only the owner of the entry, of the directory, or root
/// removes or renames.
pub fn check_sticky(
    dir: &InodeRecord,
    victim: &InodeRecord,
    who: &Credentials,
) -> Result<(), Errno> {
    let free = dir.mode & S_ISVTX == 0 || owns(who, victim) || owns(who, dir);
    if free { Ok(()) } else { Err(Errno::EPERM) }
}

/// Mode after a change of content by `who`: set-id bits go, unless root made it. S_ISGID without
/// group execution goes too if `who` is not in the file's group (Linux since 6.2).
pub fn mode_after_write(inode: &InodeRecord, who: &Credentials) -> u32 {
    if is_root(who) {
        return inode.mode;
    }
    mode_after_chown(inode, who)
}

/// Mode after a change of owner or group by `who`, which may be root: as after a change of content.
pub fn mode_after_chown(inode: &InodeRecord, who: &Credentials) -> u32 {
    let left = without_set_id(inode.mode);
    if is_root(who) || in_group(who, inode.gid) {
        left
    } else {
        left & !S_ISGID
    }
}

/// Mode of a file without set-id bits; S_ISGID without group execution marks mandatory locking
/// and stays.
fn without_set_id(mode: u32) -> u32 {
    let mut left = mode & !S_ISUID;
    if mode & S_IXGRP != 0 {
        left &= !S_ISGID;
    }
    left
}

/// protected_hardlinks: who does not own a file may link it only if it is regular, safe, and
/// readable and writable for him.
pub fn check_link(inode: &InodeRecord, who: &Credentials) -> Result<(), Errno> {
    if owns(who, inode) {
        return Ok(());
    }
    let set_group = inode.mode & (S_ISGID | S_IXGRP) == (S_ISGID | S_IXGRP);
    let safe = inode.is_regular() && inode.mode & S_ISUID == 0 && !set_group;
    if safe && check(inode, who, R | W).is_ok() {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
