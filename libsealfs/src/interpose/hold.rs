//! Descriptions without a descriptor: they keep an inode of the volume for which something of the
//! kernel's stands here, the working directory or an open FIFO, when its last name goes.
//!
//! What must stay true: a hold is its process's alone and ends with it at the latest (its slot is
//! owned by the process, so that the keeper takes it over); a child that shares our memory holds
//! nothing, and a forked one has what its parent holds until it goes elsewhere itself.

use super::fd;
use crate::connected::ClientRef;
use crate::cwd::Cwd;
use crate::process::{self, Node};
use crate::route::{Answer, Outcome};
use crate::sync::{Mutex, RawMutex};
use crate::{fds, fdtable, subject};
use sealfs_client::node::{OpenedFile, Slot, SlotId, SlotInit};
use sealfs_client::{At, Failure, FileRef};
use sealfs_protocol::attr::{S_IFDIR, S_IFIFO};
use sealfs_protocol::{Errno, InodeId, OpenId};

/// The slots of this process that have no descriptor, and the process that holds them.
static HELD: Mutex<(u32, Vec<SlotId>)> =
    Mutex::const_new(<RawMutex as lock_api::RawMutex>::INIT, (0, Vec::new()));

/// Before `ino` becomes the working directory. Without a hold it can be left, and no more, when it is
/// removed.
pub fn directory(client: &ClientRef, ino: InodeId) -> Result<(), Failure> {
    if is_childs() || ino == client.root() || is_held(ino) {
        return Ok(());
    }
    let node = process::node()?;
    let open = node.arena.mint_open();
    let id = node.arena.allocate(
        node.runtime,
        process::me()?,
        &init(open, libc::O_PATH | libc::O_DIRECTORY)?,
    )?;
    let at = At {
        base: ino,
        path: b"",
    };
    let flags = (libc::O_PATH | libc::O_DIRECTORY) as u32;
    if let Err(failure) = client.open(at, flags, 0, open) {
        node.arena.release(id);
        return Err(failure);
    }
    if let Err(errno) = publish(node, id, ino, S_IFDIR) {
        client.close(FileRef { ino, open });
        return Err(errno.into());
    }
    keep(id);
    Ok(())
}

/// A FIFO was opened at the server: its slot loses its descriptor and stands for the kernel's FIFO,
/// unless this process has such a one already. Then it is to be closed.
pub fn fifo(node: &Node, id: SlotId, ino: InodeId) -> Result<bool, Errno> {
    if is_childs() || is_held(ino) {
        return Ok(false);
    }
    publish(node, id, ino, S_IFIFO)?;
    Ok(true)
}

/// The kernel's FIFO is open, or could not be opened.
pub fn fifo_opened(id: Option<SlotId>, opened: &Answer) {
    let Some(id) = id else { return };
    if matches!(opened, Ok(Outcome::Ours(fd)) if *fd >= 0) {
        keep(id);
    } else if let Some(slot) = process::known_arena().and_then(|arena| arena.slot(id)) {
        fd::release_if_last(&slot);
    }
}

fn publish(node: &Node, id: SlotId, ino: InodeId, kind: u32) -> Result<(), Errno> {
    let opened = OpenedFile {
        ino,
        kind,
        parent: ino,
        name: b"",
    };
    node.arena.publish(id, &opened)
}

fn keep(id: SlotId) {
    let me = process::pid();
    let mut held = HELD.lock();
    if held.0 != me {
        // Those of our parent are its own.
        *held = (me, Vec::new());
    }
    held.1.push(id);
}

fn is_held(ino: InodeId) -> bool {
    let held = HELD.lock();
    let Some(arena) = process::known_arena().filter(|_| held.0 == process::pid()) else {
        return false;
    };
    let mut slots = held.1.iter().filter_map(|id| arena.slot(*id));
    slots.any(|slot| slot.ino() == ino)
}

/// The working directory is this one now.
pub fn settle_directory(cwd: &Cwd) {
    leave(|slot| slot.kind() == S_IFDIR && *cwd != Cwd::Ours(slot.ino()));
}

/// Descriptors of FIFOs were closed. Which those of another process are is not known: it holds them
/// until it ends.
pub fn settle_fifos() {
    if subject::FOREIGN {
        return;
    }
    let open: Vec<InodeId> = fdtable::fifos().filter_map(fds::fifo).collect();
    leave(|slot| slot.kind() == S_IFIFO && !open.contains(&slot.ino()));
}

/// The process ends.
pub fn leave_all() {
    leave(|_| true);
}

fn leave(goes: impl Fn(&Slot<'static>) -> bool) {
    let Some(arena) = process::known_arena().filter(|_| !is_childs()) else {
        return;
    };
    let mut gone = Vec::new();
    {
        let mut held = HELD.lock();
        if held.0 != process::pid() {
            return;
        }
        held.1.retain(|id| {
            let slot = arena.slot(*id);
            gone.extend(slot.filter(&goes));
            slot.is_some_and(|slot| !goes(&slot))
        });
    }
    gone.iter().for_each(fd::release_if_last);
}

/// The caller may be a child that shares our memory.
fn is_childs() -> bool {
    fdtable::is_frozen() && !subject::FOREIGN
}

/// What a new slot of this process says.
pub fn init(open: OpenId, flags: i32) -> Result<SlotInit, Errno> {
    let template = process::template()?;
    Ok(SlotInit {
        cluster: template.cluster,
        manager: template.manager,
        volume: template.volume,
        mount: 0,
        open,
        flags: flags as u32,
    })
}
