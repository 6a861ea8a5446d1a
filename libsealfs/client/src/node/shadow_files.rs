//! What shadows are made of on the tmpfs, and the single calls by which they change ([`super::shadow`]).

use super::sys::{self, CWD, Fd, Result};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use sealfs_protocol::Errno;

/// Nobody but the user of the runtime directory comes here.
pub const MODE: u32 = 0o700;

/// A descriptor of a shadow as a program has one of the inode; silent where nobody watches yet.
pub fn open_silently(path: &[u8], access: OFlags) -> Option<Fd> {
    sys::open(path, access | OFlags::CLOEXEC | OFlags::NONBLOCK, 0).ok()
}

/// What another node has made under this name is made here before it is changed.
pub fn complete(path: &[u8], is_dir: bool) {
    match sys::stat_at(CWD, path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(st) if is_directory(st.st_mode) == is_dir => return,
        Ok(_) => remove(path),
        Err(_) => {}
    }
    let _ = make(path, is_dir);
}

pub fn is_directory(mode: u32) -> bool {
    mode & sealfs_protocol::attr::S_IFMT == sealfs_protocol::attr::S_IFDIR
}

pub fn make(path: &[u8], is_dir: bool) -> Result<()> {
    if is_dir {
        return sys::mkdir(path, MODE);
    }
    let mode = Mode::from_raw_mode(MODE);
    rustix::fs::mknodat(sys::borrow(CWD), path, FileType::RegularFile, mode, 0).map_err(sys::errno)
}

/// A file, a link, or a directory with whatever should not be in it any more.
pub fn remove(path: &[u8]) {
    match sys::unlink(path) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        _ => return,
    }
    if sys::rmdir(path) == Err(Errno::ENOTEMPTY) {
        for name in names_in(path) {
            remove(&[path, b"/", &name].concat());
        }
        let _ = sys::rmdir(path);
    }
}

pub fn names_in(path: &[u8]) -> Vec<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(fd) = sys::open(path, flags, 0) else {
        return Vec::new();
    };
    let mut room = Vec::with_capacity(8 << 10);
    let mut listing = rustix::fs::RawDir::new(sys::borrow(fd.raw()), room.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(Ok(entry)) = listing.next() {
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names
}

pub fn exchange(a: &[u8], b: &[u8]) -> Result<()> {
    let (here, both) = (sys::borrow(CWD), RenameFlags::EXCHANGE);
    rustix::fs::renameat_with(here, a, here, b, both).map_err(sys::errno)
}

pub fn link_target(path: &[u8]) -> Option<Vec<u8>> {
    let mut room = Vec::with_capacity(512);
    let spare = room.spare_capacity_mut();
    let text = rustix::fs::readlinkat_raw(sys::borrow(CWD), path, spare)
        .ok()?
        .0;
    Some(text.to_vec())
}
