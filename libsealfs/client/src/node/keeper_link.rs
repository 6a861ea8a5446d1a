//! The way from a process to the keeper.
//!
//! Registration is written into the arena first ([`super::processes`]) and then only announced: a
//! packet that nobody waits for. If no keeper listens, one is started, and finds the process in the
//! table; so the way to the first use of a mount never waits for the keeper's answer. Two processes
//! that start it at the same time meet at the lock file: its lock goes over into the keeper with
//! the open descriptor and is held for as long as the keeper lives, whatever kills it.
//!
//! What must stay true: an entry stands in the table before the socket is tried, and the keeper
//! listens before it reads the table; so no process is overlooked.
//!

use super::arena::Arena;
use super::mapped::{FileKey, MappedId};
use super::processes::{Process, Registration};
use super::runtime::{NodeError, Runtime};
use super::slot::SlotId;
use super::spawn;
use super::sys::{self, Fd, Result};
use super::wire::{
    DESCRIPTORS_MAX, FileName, ImageVersion, KeeperReply, KeeperRequest, LEAVING_FILES_MAX,
    LEAVING_MAX, PACKET_MAX_BYTES, SOCKET_FILE,
};
use core::sync::atomic::Ordering;
use rustix::event::{PollFd, PollFlags};
use rustix::fd::IntoRawFd;
use rustix::fs::{AtFlags, FlockOperation, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use sealfs_protocol::{Errno, OpenId, codec};
use std::ffi::CString;

/// Locked by the keeper for as long as it lives.
pub const LOCK_FILE: &[u8] = b"keeper.lock";
/// A keeper that has not been at work for so long is dead or stuck, in ms: announce anew.
pub const RENEWAL_LATE_MS: u64 = 5_000;

/// How to start a keeper.
#[derive(Clone, Copy, Debug)]
pub struct KeeperCommand<'a> {
    /// Path of the `sealfs-keeper` binary, with its final NUL.
    pub program: &'a core::ffi::CStr,
    /// The program's environment; the keeper gets what starts with `SEALFS_`, and nothing else.
    pub environment: &'a [&'a core::ffi::CStr],
}

/// What became of an announcement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announced {
    /// A keeper runs and has the packet.
    Told,
    /// This process started it.
    Started,
    /// Another process is starting it.
    BeingStarted,
}

/// The keeper of this arena, if it lives.
pub fn keeper(arena: &Arena) -> Option<Process> {
    let header = arena.map.header();
    let pid = header.keeper_pid.load(Ordering::SeqCst);
    let start = header.keeper_start.load(Ordering::SeqCst);
    Some(Process { pid, start }).filter(|process| pid != 0 && process.is_alive())
}

/// Whether this arena has a keeper that lives.
pub fn is_running(arena: &Arena) -> bool {
    keeper(arena).is_some()
}

/// Whether the keeper has not been heard of for so long that this process should call [`announce`]
/// again, which starts another if it is dead. One process is told so at a time. One look at the clock.
pub fn is_late(arena: &Arena) -> bool {
    let renewed = &arena.map.header().renewed_ms;
    let (seen, now) = (renewed.load(Ordering::Relaxed), sys::boot_ms());
    seen != 0
        && now.saturating_sub(seen) > RENEWAL_LATE_MS
        && renewed
            .compare_exchange(seen, now, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
}

/// Tells the keeper of a process that has registered (anew, or again after exec) and starts a
/// keeper if there is none. Waits for nobody's answer.
pub fn announce(
    runtime: &Runtime,
    me: &Registration,
    command: Option<KeeperCommand<'_>>,
) -> core::result::Result<Announced, NodeError> {
    let packet = KeeperRequest::Registered {
        process: me.index.0,
    };
    match send(runtime, &packet) {
        Ok(_) => Ok(Announced::Told),
        Err(Errno::ENOENT | Errno::ECONNREFUSED | Errno::EPIPE | Errno::ECONNRESET) => {
            let Some(command) = command else {
                let text = "no keeper runs, and SEALFS_KEEPER does not say where its program is";
                return Err(NodeError::new(Errno::ENOENT, text));
            };
            start(runtime, command)
        }
        // Its queue is full: it has work, and will find the process in the table.
        Err(Errno::EAGAIN) => Ok(Announced::Told),
        Err(e) => Err(NodeError::new(e, "cannot reach the keeper")),
    }
}

fn start(
    runtime: &Runtime,
    command: KeeperCommand<'_>,
) -> core::result::Result<Announced, NodeError> {
    let Some(lock) = lock_keeper(runtime)? else {
        return Ok(Announced::BeingStarted);
    };
    let directory = CString::new(runtime.path()).unwrap_or_default();
    let environment: Vec<&core::ffi::CStr> = command
        .environment
        .iter()
        .copied()
        .filter(|v| v.to_bytes().starts_with(b"SEALFS_"))
        .filter(|v| !v.to_bytes().starts_with(b"SEALFS_RUNTIME_DIR="))
        .collect();
    let kind = if runtime.is_default() {
        c"--default-dir"
    } else {
        c"--runtime-dir"
    };
    let arguments = [
        c"sealfs-keeper",
        kind,
        directory.as_c_str(),
        c"--lock-fd",
        c"3",
    ];
    const { assert!(spawn::LOCK_FD == 3) };
    spawn::detached(command.program, &arguments, &environment, lock.raw())
        .map(|()| Announced::Started)
        .map_err(|e| {
            let program = command.program.to_string_lossy();
            NodeError::new(e, format!("cannot start the keeper {program}"))
        })
}

/// The keeper's lock, or `None` when somebody holds it. For who becomes the keeper or starts it.
pub fn lock_keeper(runtime: &Runtime) -> Result<Option<Fd>> {
    const TRIES: u32 = 100;
    let path = runtime.join(LOCK_FILE);
    for _ in 0..TRIES {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = sys::open(path.as_c_str(), flags, 0o600)?;
        match sys::flock(file.raw(), FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::EAGAIN) => return Ok(None),
            Err(e) => return Err(e),
        }
        // A keeper that ended may have removed the file between open and lock.
        let named = sys::stat_at(sys::CWD, path.as_c_str(), AtFlags::SYMLINK_NOFOLLOW);
        if named.is_ok_and(|n| sys::fstat(file.raw()).is_ok_and(|st| st.st_ino == n.st_ino)) {
            return Ok(Some(file));
        }
    }
    Err(Errno::EIO)
}

/// Connects and sends one packet.
fn send(runtime: &Runtime, request: &KeeperRequest) -> Result<Fd> {
    send_with(runtime, request, &[])
}

/// The same, with descriptors.
fn send_with(runtime: &Runtime, request: &KeeperRequest, descriptors: &[&Fd]) -> Result<Fd> {
    let bytes = codec::encode(request).map_err(|_| Errno::EIO)?;
    if bytes.len() > PACKET_MAX_BYTES {
        return Err(Errno::ENAMETOOLONG);
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(sys::errno)?;
    let socket = Fd::new(socket.into_raw_fd());
    let path = runtime.join(SOCKET_FILE);
    let address = SocketAddrUnix::new(path.as_c_str()).map_err(sys::errno)?;
    rustix::net::connect(sys::borrow(socket.raw()), &address).map_err(sys::errno)?;
    let carried: Vec<_> = descriptors.iter().map(|fd| sys::borrow(fd.raw())).collect();
    let mut space =
        [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !carried.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&carried)) {
        return Err(Errno::EINVAL);
    }
    let packet = [rustix::io::IoSlice::new(&bytes)];
    let flags = SendFlags::NOSIGNAL;
    rustix::net::sendmsg(sys::borrow(socket.raw()), &packet, &mut ancillary, flags)
        .map_err(sys::errno)?;
    Ok(socket)
}

/// An answer and the descriptors that came with it, closed when dropped.
pub(super) type Answer = (KeeperReply, Vec<Fd>);

/// Sends a request and waits for its answer, at most `wait_ms`: EIO when that passes.
pub(super) fn call(runtime: &Runtime, request: &KeeperRequest, wait_ms: u32) -> Result<Answer> {
    call_with(runtime, request, &[], wait_ms)
}

pub(super) fn call_with(
    runtime: &Runtime,
    request: &KeeperRequest,
    descriptors: &[&Fd],
    wait_ms: u32,
) -> Result<Answer> {
    let until = sys::boot_ms() + u64::from(wait_ms);
    let socket = loop {
        match send_with(runtime, request, descriptors) {
            // The keeper is being started, or its queue is full.
            Err(Errno::ENOENT | Errno::ECONNREFUSED | Errno::EAGAIN) if sys::boot_ms() < until => {
                sys::pause_ms(1);
            }
            Err(Errno::ENOENT | Errno::ECONNREFUSED | Errno::EAGAIN) => return Err(Errno::EIO),
            other => break other?,
        }
    };
    wait_readable(&socket, until)?;
    let (reply, descriptors) = receive(&socket)?;
    match reply {
        KeeperReply::Failed(errno) => Err(errno),
        reply => Ok((reply, descriptors)),
    }
}

fn wait_readable(socket: &Fd, until: u64) -> Result<()> {
    loop {
        let left = until.saturating_sub(sys::boot_ms());
        let time = rustix::time::Timespec {
            tv_sec: (left / 1000) as i64,
            tv_nsec: (left % 1000) as i64 * 1_000_000,
        };
        let fd = sys::borrow(socket.raw());
        match rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&time)) {
            Ok(0) => return Err(Errno::EIO),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) if left > 0 => {}
            Err(e) => return Err(sys::errno(e)),
        }
    }
}

fn receive(socket: &Fd) -> Result<Answer> {
    let mut bytes = [0u8; PACKET_MAX_BYTES];
    let mut space =
        [core::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = rustix::net::recvmsg(
        sys::borrow(socket.raw()),
        &mut [rustix::io::IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
    )
    .map_err(sys::errno)?;
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = part {
            descriptors.extend(received.map(|fd| Fd::new(fd.into_raw_fd())));
        }
    }
    // Zero bytes: the keeper ended without an answer.
    let reply = codec::decode(&bytes[..message.bytes]).map_err(|_| Errno::EIO)?;
    Ok((reply, descriptors))
}

/// The memory behind a file that is mapped shared. The caller owns both descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MappedFile {
    pub id: MappedId,
    pub size_bytes: u64,
    /// A memfd with the file's bytes, to be mapped.
    pub bytes_fd: i32,
    /// A memfd with what the servers have.
    pub pristine_fd: i32,
}

/// The memory of a file for mapping it shared, or for reading and writing it while it is mapped.
pub fn map(runtime: &Runtime, key: FileKey, open: OpenId, wait_ms: u32) -> Result<MappedFile> {
    let request = KeeperRequest::Map {
        file: key.into(),
        open,
    };
    match call(runtime, &request, wait_ms)? {
        (
            KeeperReply::Mapped {
                index,
                generation,
                size_bytes,
            },
            descriptors,
        ) => {
            let [bytes, pristine] = <[Fd; 2]>::try_from(descriptors).map_err(|_| Errno::EIO)?;
            let id = MappedId { index, generation };
            let (bytes_fd, pristine_fd) = (bytes.into_raw(), pristine.into_raw());
            Ok(MappedFile {
                id,
                size_bytes,
                bytes_fd,
                pristine_fd,
            })
        }
        _ => Err(Errno::EIO),
    }
}

/// A mapping of the file went away (munmap): the keeper looks whether it was the last. Not waited
/// for; the keeper finds out by itself when the packet is lost or the process is killed.
pub fn unmapped(runtime: &Runtime, key: FileKey) {
    let _ = send(runtime, &KeeperRequest::Unmapped { file: key.into() });
}

/// msync, fsync: what mappings changed goes to the servers.
pub fn write_back(runtime: &Runtime, key: FileKey, wait_ms: u32) -> Result<()> {
    call(
        runtime,
        &KeeperRequest::WriteBack { file: key.into() },
        wait_ms,
    )
    .map(drop)
}

/// After a truncate of a file that is mapped.
pub fn resized(runtime: &Runtime, key: FileKey, size_bytes: u64, wait_ms: u32) -> Result<()> {
    let request = KeeperRequest::Resized {
        file: key.into(),
        size_bytes,
    };
    call(runtime, &request, wait_ms).map(drop)
}

/// A sealed memfd with the bytes of an executable, named `name`; the caller owns it.
pub fn image(
    runtime: &Runtime,
    key: FileKey,
    open: OpenId,
    version: ImageVersion,
    name: &[u8],
    wait_ms: u32,
) -> Result<i32> {
    let request = KeeperRequest::Image {
        file: key.into(),
        open,
        version,
        name: name.to_vec(),
    };
    let (_, mut descriptors) = call(runtime, &request, wait_ms)?;
    descriptors.pop().map(Fd::into_raw).ok_or(Errno::EIO)
}

/// The process `me` is about to execute a program, which closes descriptors of `slots`, and with them
/// its record locks on `files`: once the kernel has closed the returned descriptors along with them,
/// the keeper looks who is left. Not waited for; what cannot be said the keeper finds out by itself,
/// but for the locks. With each descriptor, which the caller owns, how many files it stands for.
pub fn leaving(
    runtime: &Runtime,
    me: Option<&Registration>,
    slots: &[SlotId],
    files: &[FileKey],
) -> Vec<(i32, u32)> {
    let (mut slots, mut files) = (slots.chunks(LEAVING_MAX), files.chunks(LEAVING_FILES_MAX));
    let mut said = Vec::with_capacity(1);
    loop {
        let (some, of) = (slots.next(), files.next());
        if some.is_none() && of.is_none() {
            return said;
        }
        let (some, of) = (some.unwrap_or_default(), of.unwrap_or_default());
        let request = KeeperRequest::Leaving {
            process: me.map_or(0, |me| me.index.0),
            image: me.map_or(0, |me| me.image),
            slots: some.iter().map(|id| (id.index, id.generation)).collect(),
            files: of.iter().map(|key| FileName::from(*key)).collect(),
        };
        if let Ok(socket) = send(runtime, &request) {
            said.push((socket.into_raw(), of.len() as u32));
        }
    }
}

/// execve(2) has failed: what was said by [`leaving`] on this descriptor is not so.
pub fn stayed(socket: i32) {
    if let Ok(bytes) = codec::encode(&KeeperRequest::Stayed) {
        let _ = rustix::net::send(sys::borrow(socket), &bytes, SendFlags::NOSIGNAL);
    }
}

/// Programs of this node may have ended that keep their files from being written.
pub fn ended(runtime: &Runtime, wait_ms: u32) -> Result<()> {
    call(runtime, &KeeperRequest::Ended, wait_ms).map(drop)
}
