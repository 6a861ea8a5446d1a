//! open(2), creat(2), openat(2), openat2(2): from a path to a descriptor.
//!
//! The number comes first, as in the kernel: a full descriptor table is found out before a file is
//! made or cut. Then the server opens the inode, and the description becomes visible.
//!
//! What must stay true: whatever fails, neither number nor slot nor server-side open stays behind.

use super::at::{self, PathArg};
use super::program::unless_it_ended;
use super::{Ctx, NOT_FOUND, dir, hold, is_missing, naming, node, opendir, repeat, resolve, user};
use crate::credentials;
use crate::fds::{self, Fd};
use crate::fdtable::{self, State};
use crate::kernel::{self, AT_FDCWD};
use crate::log::{Level, say};
use crate::patch::class::TOUCHED;
use crate::path;
use crate::process::{self, ClientRef, Node};
use crate::route::{Answer, Bypass, Place, Target, asked, theirs};
use crate::{subject, vfork};
use core::sync::atomic::Ordering::Relaxed;
use sealfs_client::node::{OpenedFile, SlotId, placeholder};
use sealfs_client::{Failure, FileRef};
use sealfs_protocol::attr::{S_IFBLK, S_IFCHR, S_IFIFO, S_IFMT, S_IFSOCK};
use sealfs_protocol::{Errno, InodeId, OpenId};

/// The kernel's value of O_LARGEFILE on x86-64, which it sets by itself and F_GETFL shows.
pub const LARGEFILE: i32 = 0o100_000;
const TMPFILE_BIT: i32 = libc::O_TMPFILE & !libc::O_DIRECTORY;
/// Flags that act at open and are not kept.
const AT_OPEN: i32 =
    libc::O_CREAT | libc::O_EXCL | libc::O_NOCTTY | libc::O_TRUNC | libc::O_CLOEXEC;
/// What O_PATH leaves of the other flags.
const WITH_PATH: i32 = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;

/// open(path, flags, mode)
pub fn open(ctx: &mut Ctx<'_>) -> Answer {
    let (flags, mode) = (ctx.int(1), ctx.arg(2) as u32);
    open_path(ctx, AT_FDCWD, 0, flags, mode)
}

/// creat(path, mode)
pub fn creat(ctx: &mut Ctx<'_>) -> Answer {
    let mode = ctx.arg(1) as u32;
    open_path(
        ctx,
        AT_FDCWD,
        0,
        libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
        mode,
    )
}

/// openat(dir, path, flags, mode)
pub fn openat(ctx: &mut Ctx<'_>) -> Answer {
    let (dir, flags, mode) = (ctx.int(0), ctx.int(2), ctx.arg(3) as u32);
    open_path(ctx, dir, 1, flags, mode)
}

/// openat2(dir, path, how, size)
pub fn openat2(ctx: &mut Ctx<'_>) -> Answer {
    let dir = ctx.int(0);
    if ctx.arg(3) < HOW_BYTES {
        return theirs(Bypass::NotBelowMount);
    }
    let [flags, mode, resolve]: [u64; 3] = user::read(ctx.arg(2))?;
    let arg = PathArg {
        dir,
        index: 1,
        follow: follows(flags as i32),
        empty: false,
    };
    let mut target = restricted_target(ctx, arg, resolve)?;
    // Here and not before: an absolute path may mean one below a directory of ours (IN_ROOT).
    if let Target::Theirs(_) = target
        && !process::is_sandboxed()
    {
        let said = subject::ask(ctx);
        ctx.kernel_said = said.or(NOT_FOUND);
        if said.is_none_or(is_missing) {
            target = restricted_target(ctx, arg, resolve)?;
        }
        if !matches!(target, Target::Ours(_)) {
            return asked(Bypass::NotBelowMount, said);
        }
    }
    if let Target::Ours(_) = target {
        check_how(ctx, flags, mode, resolve)?;
    }
    let call = Call {
        flags: flags as i32 & KNOWN,
        mode: mode as u32,
        resolve,
        lists: false,
    };
    open_target(ctx, arg, target, call)
}

/// Where the path starts under restrictions of its walk. Those that only the kernel's part of a way
/// can break are kept by the kernel, since it gets the call as it is.
fn restricted_target(ctx: &Ctx<'_>, arg: PathArg, resolve: u64) -> Result<Target, Errno> {
    let text = user::path(ctx.arg(arg.index))?;
    let absolute = text.first() == Some(&b'/');
    if absolute
        && resolve & libc::RESOLVE_IN_ROOT != 0
        && let Target::Ours(place) = at::descriptor(arg.dir)?
    {
        let start = text.iter().position(|b| *b != b'/').unwrap_or(text.len());
        let path = if start == text.len() {
            b"."
        } else {
            &text[start..]
        };
        return Ok(Target::Ours(Place::below(place.base, path)));
    }
    let target = at::locate(ctx, arg)?;
    let Target::Ours(_) = &target else {
        return Ok(target);
    };
    let magic = absolute && path::below(process::mount(), &text).is_none();
    let no_links = libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS;
    if magic && resolve & no_links != 0 {
        return Err(Errno::ELOOP);
    }
    // From the kernel's root, or a directory above the mount, into the mount.
    let enters = absolute || !matches!(at::descriptor(arg.dir)?, Target::Ours(_));
    let bounds = if absolute {
        libc::RESOLVE_NO_XDEV | libc::RESOLVE_BENEATH
    } else {
        libc::RESOLVE_NO_XDEV
    };
    if enters && resolve & bounds != 0 {
        return Err(Errno::EXDEV);
    }
    Ok(target)
}

/// Bytes of `struct open_how` in its first version (openat2(2)).
const HOW_BYTES: usize = 24;

fn check_how(ctx: &Ctx<'_>, flags: u64, mode: u64, resolve: u64) -> Result<(), Errno> {
    const RESOLVE_KNOWN: u64 = 0x3f;
    let known = KNOWN as u64;
    let creates = flags & (libc::O_CREAT | TMPFILE_BIT) as u64 != 0;
    if flags & !known != 0
        || resolve & !RESOLVE_KNOWN != 0
        || mode & !0o7777 != 0
        || (mode != 0 && !creates)
        || (flags & libc::O_PATH as u64 != 0 && flags & !(WITH_PATH as u64) != 0)
    {
        return Err(Errno::EINVAL);
    }
    let rest = user::copy_in(ctx.arg(2) + HOW_BYTES, (ctx.arg(3) - HOW_BYTES).min(4096))?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(Errno::E2BIG);
    }
    let scopes = libc::RESOLVE_BENEATH | libc::RESOLVE_IN_ROOT;
    if resolve & scopes == scopes {
        return Err(Errno::EINVAL);
    }
    if resolve & libc::RESOLVE_CACHED != 0 {
        // Nothing is answered without asking the servers.
        return Err(Errno::EAGAIN);
    }
    Ok(())
}

/// Every flag that open(2) knows; it takes no notice of others.
const KNOWN: i32 = libc::O_ACCMODE
    | AT_OPEN
    | WITH_PATH
    | TMPFILE_BIT
    | LARGEFILE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_SYNC
    | libc::O_ASYNC
    | libc::O_DIRECT
    | libc::O_NOATIME;

fn open_path(ctx: &mut Ctx<'_>, dir: i32, index: usize, flags: i32, mode: u32) -> Answer {
    let arg = PathArg {
        dir,
        index,
        follow: follows(flags),
        empty: false,
    };
    if ctx.kernel_said.is_none() && dir::lists_descriptors(ctx, arg) {
        return Ok(dir::open_listing(ctx));
    }
    let target = at::locate(ctx, arg)?;
    let call = Call {
        flags: flags & KNOWN,
        mode,
        resolve: 0,
        lists: opendir::opens(ctx.arg(index), flags),
    };
    open_target(ctx, arg, target, call)
}

/// Whether a symbolic link at the end is followed.
fn follows(flags: i32) -> bool {
    let exclusive = libc::O_CREAT | libc::O_EXCL;
    flags & libc::O_NOFOLLOW == 0 && flags & exclusive != exclusive
}

/// What an open asks for.
#[derive(Clone, Copy)]
struct Call {
    flags: i32,
    mode: u32,
    /// RESOLVE_* of openat2.
    resolve: u64,
    /// It is opendir's: the entries are read next.
    lists: bool,
}

fn open_target(ctx: &mut Ctx<'_>, arg: PathArg, target: Target, call: Call) -> Answer {
    let mut flags = call.flags;
    flags = if flags & libc::O_PATH != 0 {
        flags & WITH_PATH
    } else {
        flags
    };
    let mut fifo = None;
    let answer = at::run_from(ctx, arg, target, &mut |client, place| {
        let opened = if call.resolve & resolve::RESTRICTS == 0 {
            open_place(client, place, Call { flags, ..call }, 0)?
        } else {
            let place = resolve::walk(client, place, call.resolve, follows(flags))?;
            open_place(client, &place, Call { flags, ..call }, libc::O_NOFOLLOW)?
        };
        match opened {
            Made::Descriptor(fd) => Ok(fd as usize),
            Made::Fifo(ino, held) => {
                fifo = Some((ino, held));
                Ok(0)
            }
        }
    })?;
    let Some((ino, held)) = fifo else {
        return Ok(answer);
    };
    let opened = node::open_fifo(ino, flags);
    hold::fifo_opened(held, &opened);
    opened
}

/// What opening a place led to.
enum Made {
    Descriptor(u32),
    /// A FIFO: the kernel's, found by the inode; and what keeps the inode, if it is new.
    Fifo(InodeId, Option<SlotId>),
}

/// `guard`: flags for the server alone.
fn open_place(client: &ClientRef, place: &Place, call: Call, guard: i32) -> Result<Made, Failure> {
    let flags = call.flags;
    let names = flags & libc::O_CREAT != 0 && flags & TMPFILE_BIT == 0;
    let creates = names || flags & TMPFILE_BIT != 0;
    if creates && flags & (TMPFILE_BIT | libc::O_DIRECTORY) == libc::O_DIRECTORY {
        return Err(Errno::EINVAL.into());
    }
    let mode = if creates { call.mode } else { 0 } & 0o7777 & !process::umask();
    let node = process::node()?;
    let open = node.arena.mint_open();
    let claim = Claim::new(node, open, flags)?;
    let asked = (flags | guard) as u32;
    let opened_there = if call.lists {
        opendir::open(client, place.at(), asked, open)?
    } else {
        let open = || unless_it_ended(|| client.open(place.at(), asked, mode, open));
        naming::opening(client, place.at(), names, open)?
    };
    let attr = &opened_there.attr;
    let file = FileRef {
        ino: attr.ino,
        open,
    };
    if flags & libc::O_PATH == 0 {
        match attr.mode & S_IFMT {
            S_IFIFO if hold::fifo(node, claim.id, attr.ino)? => {
                return Ok(Made::Fifo(attr.ino, Some(claim.without_descriptor())));
            }
            S_IFIFO => {
                client.close(file);
                return Ok(Made::Fifo(attr.ino, None));
            }
            S_IFCHR | S_IFBLK => {
                client.close(file);
                return Err(Errno::EACCES.into());
            }
            S_IFSOCK => {
                client.close(file);
                return Err(Errno::ENXIO.into());
            }
            _ => {}
        }
    }
    let (parent, name) = origin(place);
    let opened = OpenedFile {
        ino: attr.ino,
        kind: attr.mode & S_IFMT,
        parent,
        name: &name,
    };
    if let Err(errno) = node.arena.publish(claim.id, &opened) {
        client.close(file);
        return Err(errno.into());
    }
    repeat::opened(client, place.at(), &opened_there, claim.id, flags);
    if flags & libc::O_TRUNC != 0 && attr.is_regular() {
        super::map::resized(attr.ino, 0)?;
    }
    Ok(Made::Descriptor(claim.keep()?))
}

/// Where the file was opened, for `/proc/self/fd`: a directory and the path below it. A descriptor
/// that is opened again passes on where it came from.
fn origin(place: &Place) -> (InodeId, Vec<u8>) {
    let Some(fd) = place.descriptor else {
        return (place.base, place.path.clone());
    };
    match fds::lookup(fd as usize) {
        Ok(Fd::Ours(other)) => other.slot.opened_by().unwrap_or((place.base, Vec::new())),
        _ => (place.base, Vec::new()),
    }
}

/// A slot and a number that are not visible yet; given back when dropped.
struct Claim {
    node: &'static Node,
    id: SlotId,
    fd: u32,
}

impl Claim {
    fn new(node: &'static Node, open: OpenId, flags: i32) -> Result<Claim, Errno> {
        if !subject::has_room() {
            return Err(Errno::EMFILE);
        }
        let init = hold::init(open, flags & !AT_OPEN | LARGEFILE)?;
        process::look_after_keeper(node);
        let id = node.arena.allocate(node.runtime, process::me()?, &init)?;
        let cloexec = flags & libc::O_CLOEXEC != 0;
        let _owner = credentials::as_owner(node.runtime);
        match placeholder::open(node.runtime, &node.arena, id, cloexec) {
            Ok(fd) => Ok(Claim {
                node,
                id,
                fd: fd as u32,
            }),
            Err(errno) => {
                node.arena.release(id);
                Err(errno)
            }
        }
    }

    fn keep(self) -> Result<u32, Errno> {
        let fd = subject::export(self.fd)?;
        fdtable::set(fd as usize, State::Ours(self.id.index));
        TOUCHED.store(true, Relaxed);
        if vfork::is_child() {
            // The slot's owner is our parent, which does not have this descriptor.
            let shared =
                placeholder::mark_shared(self.node.runtime, &self.node.arena, fd as i32, self.id);
            if shared.is_err() {
                say(
                    Level::Warn,
                    format_args!("a descriptor made for exec may be lost"),
                );
            }
        }
        core::mem::forget(self);
        Ok(fd)
    }
}

impl Claim {
    fn without_descriptor(self) -> SlotId {
        self.close();
        let id = self.id;
        core::mem::forget(self);
        id
    }

    fn close(&self) {
        fdtable::forget(self.fd as usize);
        kernel::close(self.fd);
        fdtable::forget(self.fd as usize);
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.close();
        self.node.arena.release(self.id);
    }
}
