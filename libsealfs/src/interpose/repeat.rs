//! Repeating what is done to the volume on the shadows that inotify(7) watches
//! ([`sealfs_client::node::shadow`]), so that the kernel tells watchers on this node.
//!
//! What must stay true: where nobody watches, a call pays one load; what fails here is no failure of
//! the call; events stand in the watchers' queues before the call that caused them comes back.

use super::naming;
use crate::connected::ClientRef;
use crate::credentials;
use crate::fds::{self, Fd, Open};
use crate::process::{self, Node};
use crate::route::Place;
use sealfs_client::node::mapped::FileKey;
use sealfs_client::node::shadow::Touch;
use sealfs_client::node::sys::Fd as Held;
use sealfs_client::node::{Slot, SlotId, held};
use sealfs_client::{At, Opened};
use sealfs_protocol::attr::SetAttr;
use sealfs_protocol::{Errno, InodeId};

/// The node, while somebody watches something there.
pub fn watching() -> Option<&'static Node> {
    let node = process::known_node()?;
    (node.arena.is_watching() && !process::is_sandboxed()).then_some(node)
}

/// The inode as the node knows it.
pub fn key(ino: InodeId) -> Option<FileKey> {
    let template = process::template().ok()?;
    Some(FileKey {
        manager: template.manager,
        volume: template.volume,
        ino,
    })
}

/// The inode was read, written or otherwise changed.
#[inline]
pub fn touched(ino: InodeId, touch: Touch) {
    if let Some(node) = watching() {
        touched_there(node, ino, touch);
    }
}

#[cold]
fn touched_there(node: &Node, ino: InodeId, touch: Touch) {
    let Some(key) = key(ino) else { return };
    if let Some(watched) = node.arena.watched(node.runtime, key) {
        let _owner = credentials::as_owner(node.runtime);
        watched.touched(key, touch);
    }
}

/// Attributes were set: which event that is, if it is one (fsnotify_change of Linux).
pub fn set(ino: InodeId, change: &SetAttr) {
    if let Some(touch) = touch_of(change) {
        touched(ino, touch);
    }
}

/// The same by a descriptor, of a FIFO perhaps.
pub fn set_by(fd: usize, ino: InodeId, change: &SetAttr) {
    if let Some(touch) = touch_of(change) {
        touched_by(fd, ino, touch);
    }
}

/// The inode was changed by a descriptor.
pub fn touched_by(fd: usize, ino: InodeId, touch: Touch) {
    match fds::lookup(fd) {
        Ok(Fd::Ours(open)) => open.touched(touch),
        _ => touched(ino, touch),
    }
}

fn touch_of(change: &SetAttr) -> Option<Touch> {
    let is_named = change.mode.is_some() || change.uid.is_some() || change.gid.is_some();
    Some(match (change.atime.is_some(), change.mtime.is_some()) {
        _ if is_named => Touch::Attributes,
        _ if change.size_bytes.is_some() => Touch::Modify,
        (true, true) => Touch::Attributes,
        (true, false) => Touch::Access,
        (false, true) => Touch::Modify,
        (false, false) => return None,
    })
}

/// An extended attribute of the inode at `place` was set or removed.
pub fn xattr_set(client: &ClientRef, place: &Place, follow: bool) {
    if let Some(fd) = place.descriptor {
        touched_by(fd as usize, place.base, Touch::Attributes);
    } else if watching().is_some()
        && let Ok(attr) = client.stat(place.at(), follow)
    {
        touched(attr.ino, Touch::Attributes);
    }
}

/// The description was opened at `at`: the keeper holds its shadows open for as long.
pub fn opened(client: &ClientRef, at: At<'_>, opened: &Opened, id: SlotId, flags: i32) {
    let Some(node) = watching().filter(|_| flags & libc::O_PATH == 0) else {
        return;
    };
    let attr = &opened.attr;
    let Some(key) = key(attr.ino) else { return };
    let Some(watched) = node.arena.watched(node.runtime, key) else {
        return;
    };
    if attr.nlink > 1
        && !attr.is_dir()
        && let Some(entry) = naming::entry_of(client, at, attr.ino)
    {
        let _owner = credentials::as_owner(node.runtime);
        watched.lead(&entry);
    }
    let _owner = credentials::as_owner(node.runtime);
    let files = watched.opened(key, flags as u32);
    if !files.is_empty() {
        hold(node, id, &files.iter().collect::<Vec<_>>());
    }
    if flags & libc::O_TRUNC != 0 && !opened.created {
        watched.touched(key, Touch::Modify);
    }
}

/// A program is executed: it is opened, read and closed again.
pub fn executed(ino: InodeId) {
    let Some(node) = watching() else { return };
    let Some(key) = key(ino) else { return };
    if let Some(watched) = node.arena.watched(node.runtime, key) {
        let _owner = credentials::as_owner(node.runtime);
        let _held = watched.opened(key, libc::O_RDONLY as u32);
        watched.touched(key, Touch::Access);
    }
}

/// Has the keeper hold shadows of an open description.
pub fn hold(node: &'static Node, id: SlotId, files: &[&Held]) {
    process::need_keeper(node);
    let Some(slot) = node.arena.slot(id) else {
        return;
    };
    // Before it is so: who closes it meanwhile finds out that it may be.
    slot.set_held();
    let _ = held::hold(node.runtime, id, files);
}

/// The last descriptor of the description is closed.
pub fn closed(slot: &Slot<'_>) {
    if let Some(node) = process::known_node().filter(|_| slot.is_held()) {
        let _ = held::release(node.runtime, slot.id());
    }
}

#[cold]
fn detached_touched(slot: &Slot<'_>, touch: Touch) {
    if let Some(node) = process::known_node() {
        let _ = held::touched(node.runtime, slot.id(), touch);
    }
}

impl Open {
    /// As [`touched`].
    #[inline]
    pub fn touched(&self, touch: Touch) {
        if self.slot.is_detached() {
            detached_touched(&self.slot, touch);
        } else {
            touched(self.ino(), touch);
        }
    }

    /// A transfer is over: what it moved, which is no event if it is nothing.
    pub fn moved(&self, count: Result<usize, Errno>, touch: Touch) -> Result<usize, Errno> {
        if matches!(count, Ok(1..)) {
            self.touched(touch);
        }
        count
    }
}
