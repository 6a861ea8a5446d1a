//! The few kernel calls that the dispatcher makes for itself, with plain descriptor numbers and
//! errnos. Paths are given NUL-terminated; numbers are not owned by anybody here.
//!
//! # Safety
//! Every pointer handed over belongs to a local value or a slice that outlives the call.

use crate::sys::{self, check};
use sealfs_protocol::Errno;

pub const AT_FDCWD: i32 = libc::AT_FDCWD;

/// A path ended by NUL, for handing to the kernel.
pub struct CPath(Vec<u8>);

impl CPath {
    pub fn new(path: &[u8]) -> CPath {
        let mut bytes = Vec::with_capacity(path.len() + 1);
        bytes.extend_from_slice(path);
        bytes.push(0);
        CPath(bytes)
    }

    /// With its NUL.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn address(&self) -> usize {
        self.0.as_ptr() as usize
    }
}

fn call(nr: i64, args: [usize; 6]) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the callers below pass addresses of live values only.
    check(unsafe { sys::syscall6(nr as usize, a, b, c, d, e, f) }).map_err(Errno)
}

pub fn fstat(fd: usize) -> Result<libc::stat, Errno> {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::uninit();
    call(
        libc::SYS_fstat,
        [fd, stat.as_mut_ptr() as usize, 0, 0, 0, 0],
    )?;
    // SAFETY: the kernel filled it in.
    Ok(unsafe { stat.assume_init() })
}

/// fstatat(2) of `path` below `dir`; empty: of `dir` itself.
pub fn stat_at(dir: i32, path: &CPath, flags: i32) -> Result<libc::stat, Errno> {
    let mut stat = core::mem::MaybeUninit::<libc::stat>::uninit();
    let out = stat.as_mut_ptr() as usize;
    call(
        libc::SYS_newfstatat,
        [dir as usize, path.address(), out, flags as usize, 0, 0],
    )?;
    // SAFETY: the kernel filled it in.
    Ok(unsafe { stat.assume_init() })
}

pub fn open_at(dir: i32, path: &CPath, flags: i32, mode: u32) -> Result<u32, Errno> {
    let flags = flags as usize;
    call(
        libc::SYS_openat,
        [dir as usize, path.address(), flags, mode as usize, 0, 0],
    )
    .map(|fd| fd as u32)
}

/// openat2(2) without anything but a look: an `O_PATH` descriptor, or why there is none.
pub fn look_without_links(dir: i32, path: &CPath) -> Result<u32, Errno> {
    #[repr(C)]
    struct How {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    const RESOLVE_NO_SYMLINKS: u64 = 4;
    let flags = (libc::O_PATH | libc::O_CLOEXEC) as u64;
    let how = How {
        flags,
        mode: 0,
        resolve: RESOLVE_NO_SYMLINKS,
    };
    let how_at = (&raw const how) as usize;
    let size = size_of::<How>();
    call(
        libc::SYS_openat2,
        [dir as usize, path.address(), how_at, size, 0, 0],
    )
    .map(|fd| fd as u32)
}

pub fn close(fd: u32) {
    let _ = call(libc::SYS_close, [fd as usize, 0, 0, 0, 0, 0]);
}

/// The target of a symbolic link; EINVAL if it is none.
pub fn readlink_at(dir: i32, path: &CPath) -> Result<Vec<u8>, Errno> {
    let mut target = vec![0u8; 4096];
    let room = target.len();
    let out = target.as_mut_ptr() as usize;
    let len = call(
        libc::SYS_readlinkat,
        [dir as usize, path.address(), out, room, 0, 0],
    )?;
    target.truncate(len);
    Ok(target)
}

/// The kernel's idea of the working directory; without a leading slash where it has none.
pub fn getcwd() -> Result<Vec<u8>, Errno> {
    let mut path = vec![0u8; 4097];
    let len = call(
        libc::SYS_getcwd,
        [path.as_mut_ptr() as usize, path.len(), 0, 0, 0, 0],
    )?;
    path.truncate(len.saturating_sub(1));
    Ok(path)
}

/// The path of an open descriptor as `/proc` tells it.
pub fn descriptor_path(fd: i32) -> Result<Vec<u8>, Errno> {
    readlink_at(
        AT_FDCWD,
        &CPath::new(format!("/proc/self/fd/{fd}").as_bytes()),
    )
}

/// fcntl(2) with an integer argument.
pub fn fcntl(fd: u32, command: i32, argument: usize) -> Result<usize, Errno> {
    call(
        libc::SYS_fcntl,
        [fd as usize, command as usize, argument, 0, 0, 0],
    )
}

/// A duplicate at the lowest free number from `from` on, closed at exec.
pub fn duplicate_above(fd: u32, from: u32) -> Result<u32, Errno> {
    fcntl(fd, libc::F_DUPFD_CLOEXEC, from as usize).map(|fd| fd as u32)
}

pub fn fchdir(fd: u32) -> Result<(), Errno> {
    call(libc::SYS_fchdir, [fd as usize, 0, 0, 0, 0, 0]).map(|_| ())
}

pub fn memfd(name: &core::ffi::CStr, flags: u32) -> Result<u32, Errno> {
    call(
        libc::SYS_memfd_create,
        [name.as_ptr() as usize, flags as usize, 0, 0, 0, 0],
    )
    .map(|fd| fd as u32)
}

pub fn truncate(fd: u32, size: u64) -> Result<(), Errno> {
    call(
        libc::SYS_ftruncate,
        [fd as usize, size as usize, 0, 0, 0, 0],
    )
    .map(|_| ())
}

/// A limit of this process: (soft, hard).
pub fn limit(resource: u32) -> Result<(u64, u64), Errno> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let out = (&raw mut limit) as usize;
    call(libc::SYS_prlimit64, [0, resource as usize, 0, out, 0, 0])?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// Sets the file mode mask and returns the one before.
pub fn umask(mask: u32) -> u32 {
    call(libc::SYS_umask, [mask as usize, 0, 0, 0, 0, 0]).map_or(0o022, |old| old as u32)
}

/// Sends `signal` to the calling thread; it is delivered when the program's mask is back.
pub fn raise(signal: i32) {
    let (pid, tid) = (sys::getpid() as usize, sys::gettid() as usize);
    let _ = call(libc::SYS_tgkill, [pid, tid, signal as usize, 0, 0, 0]);
}

/// (real, effective, saved) user and group ids of the calling thread.
pub fn ids() -> ([u32; 3], [u32; 3]) {
    let mut users = [0u32; 3];
    let mut groups = [0u32; 3];
    for (nr, out) in [
        (libc::SYS_getresuid, &mut users),
        (libc::SYS_getresgid, &mut groups),
    ] {
        let [a, b, c] = out.each_mut().map(|id| core::ptr::from_mut(id) as usize);
        let _ = call(nr, [a, b, c, 0, 0, 0]);
    }
    (users, groups)
}

/// User and group by which the calling thread's file accesses are judged (setfsuid(2)).
pub fn file_ids() -> (u32, u32) {
    // An id that does not exist changes nothing and returns what is set.
    const ASK: usize = u32::MAX as usize;
    let user = call(libc::SYS_setfsuid, [ASK, 0, 0, 0, 0, 0]).unwrap_or(ASK);
    let group = call(libc::SYS_setfsgid, [ASK, 0, 0, 0, 0, 0]).unwrap_or(ASK);
    (user as u32, group as u32)
}

/// Sets that user, if the thread may.
pub fn set_file_user(user: u32) {
    let _ = call(libc::SYS_setfsuid, [user as usize, 0, 0, 0, 0, 0]);
}

/// Supplementary groups of the calling thread.
pub fn groups() -> Vec<u32> {
    let count = call(libc::SYS_getgroups, [0; 6]).unwrap_or(0);
    let mut list = vec![0u32; count];
    let out = list.as_mut_ptr() as usize;
    let count = call(libc::SYS_getgroups, [count, out, 0, 0, 0, 0]).unwrap_or(0);
    list.truncate(count);
    list
}

/// Reads at `offset` into `into`; how much there was.
pub fn pread(fd: u32, into: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let at = into.as_mut_ptr() as usize;
    call(
        libc::SYS_pread64,
        [fd as usize, at, into.len(), offset as usize, 0, 0],
    )
}

/// write(2): how much was written.
pub fn write(fd: u32, from: &[u8]) -> Result<usize, Errno> {
    let at = from.as_ptr() as usize;
    call(libc::SYS_write, [fd as usize, at, from.len(), 0, 0, 0])
}

/// flock(2), waited for.
pub fn flock(fd: u32, operation: i32) -> Result<(), Errno> {
    call(
        libc::SYS_flock,
        [fd as usize, operation as usize, 0, 0, 0, 0],
    )
    .map(|_| ())
}

/// mknod(2) without a device number.
pub fn make_node(path: &CPath, mode: u32) -> Result<(), Errno> {
    call(libc::SYS_mknod, [path.address(), mode as usize, 0, 0, 0, 0]).map(|_| ())
}

/// One page of a directory's entries as the kernel lays them out.
pub fn getdents(fd: u32, into: &mut [u8]) -> Result<usize, Errno> {
    call(
        libc::SYS_getdents64,
        [fd as usize, into.as_mut_ptr() as usize, into.len(), 0, 0, 0],
    )
}

pub fn close_range(first: u32, last: u32, flags: u32) -> Result<(), Errno> {
    let args = [first as usize, last as usize, flags as usize, 0, 0, 0];
    call(libc::SYS_close_range, args).map(|_| ())
}

/// The flags that a descriptor was opened with and has now (F_GETFL). EBADF if there is none.
pub fn open_flags(fd: u32) -> Result<i32, Errno> {
    let said = call(
        libc::SYS_fcntl,
        [fd as usize, libc::F_GETFL as usize, 0, 0, 0, 0],
    );
    said.map(|flags| flags as i32)
}

/// The kernel's own position of a descriptor.
pub fn position(fd: u32) -> Result<u64, Errno> {
    call(
        libc::SYS_lseek,
        [fd as usize, 0, libc::SEEK_CUR as usize, 0, 0, 0],
    )
    .map(|at| at as u64)
}

fn vectored(nr: i64, fd: u32, list: &[libc::iovec], offset: u64) -> Result<usize, Errno> {
    let args = [
        fd as usize,
        list.as_ptr() as usize,
        list.len(),
        offset as usize,
        0,
        0,
    ];
    call(nr, args)
}

/// preadv(2) into buffers of the program.
pub fn preadv(fd: u32, list: &[libc::iovec], offset: u64) -> Result<usize, Errno> {
    vectored(libc::SYS_preadv, fd, list, offset)
}

/// pwritev(2) from buffers of the program.
pub fn pwritev(fd: u32, list: &[libc::iovec], offset: u64) -> Result<usize, Errno> {
    vectored(libc::SYS_pwritev, fd, list, offset)
}

/// Makes a range of a memfd read as zeros; its size stays.
pub fn punch_hole(fd: u32, offset: u64, len: u64) -> Result<(), Errno> {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    let args = [
        fd as usize,
        mode as usize,
        offset as usize,
        len as usize,
        0,
        0,
    ];
    call(libc::SYS_fallocate, args).map(|_| ())
}

/// Maps `len` bytes of a memfd from `offset`, a multiple of the page size, for filling them; the
/// address.
pub fn map_for_writing(fd: u32, offset: u64, len: usize) -> Result<usize, Errno> {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    call(
        libc::SYS_mmap,
        [
            0,
            len,
            protection,
            libc::MAP_SHARED as usize,
            fd as usize,
            offset as usize,
        ],
    )
}

pub fn unmap(address: usize, len: usize) {
    let _ = call(libc::SYS_munmap, [address, len, 0, 0, 0, 0]);
}

pub fn unlink(path: &CPath) -> Result<(), Errno> {
    call(libc::SYS_unlink, [path.address(), 0, 0, 0, 0, 0]).map(|_| ())
}

/// Whether a transfer on `fd` would not wait: for writing, or for reading.
pub fn is_ready(fd: u32, writing: bool) -> bool {
    let events = if writing { libc::POLLOUT } else { libc::POLLIN };
    let mut one = libc::pollfd {
        fd: fd as i32,
        events,
        revents: 0,
    };
    let at = (&raw mut one) as usize;
    call(libc::SYS_poll, [at, 1, 0, 0, 0, 0]) == Ok(1)
}
