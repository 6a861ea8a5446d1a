//! What inotify(7) watches of volumes, as far as it outlives a process: the descriptors of shadows that
//! stand for open descriptions, and the shadows that nobody watches any more.
//!
//! A watch goes without a word: with the last descriptor of its instance, in whatever process. The
//! kernel says which inodes an instance watches in /proc/PID/fdinfo; a shadow that no instance of any
//! process has for [`LOOKS`] looks in a row goes.
//!
//! What must stay true: a shadow that is watched stays, so whatever cannot be looked at may watch all.
//! (A descriptor that is in a socket for longer than these looks take is not seen: its watches end as
//! if their files had been removed.)

use crate::door::Visitor;
use crate::run::Node;
use sealfs_client::node::SlotId;
use sealfs_client::node::mapped::FileKey;
use sealfs_client::node::shadow::Touch;
use sealfs_client::node::sys::Fd;
use sealfs_client::node::wire::KeeperReply;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The shadows are looked through so often, and less often where that takes long.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// At most one part in so many of the time goes into it.
const LOOK_SHARE: u32 = 50;
/// Looks in a row that find a shadow unwatched before it goes.
const LOOKS: u32 = 3;

#[derive(Default)]
pub struct Shadows {
    held: HashMap<SlotId, Vec<Fd>>,
    /// Shadows, by inode number on the tmpfs, and how often they were found unwatched.
    unwatched: HashMap<u64, u32>,
    next: Option<Instant>,
}

fn id((index, generation): (u32, u32)) -> SlotId {
    SlotId { index, generation }
}

impl Shadows {
    pub fn hold(&mut self, slot: (u32, u32), visitor: &Visitor) {
        self.held
            .entry(id(slot))
            .or_default()
            .extend(visitor.take_brought());
        visitor.answer(&KeeperReply::Done, &[]);
    }

    /// A program did something to a file without a name.
    pub fn touch(&self, slot: (u32, u32), touch: Touch, visitor: &Visitor) {
        for file in self.held.get(&id(slot)).into_iter().flatten() {
            touch.by(file);
        }
        visitor.answer(&KeeperReply::Done, &[]);
    }

    /// A program says that the description is closed.
    pub fn let_go(&mut self, slot: (u32, u32), visitor: &Visitor) {
        self.release(id(slot));
        visitor.answer(&KeeperReply::Done, &[]);
    }

    /// The description is closed: watchers are told.
    pub fn release(&mut self, id: SlotId) {
        self.held.remove(&id);
    }

    /// Now and then: what nobody watches goes.
    pub fn look(&mut self, node: &Node) {
        let started = Instant::now();
        let is_due = self.next.is_none_or(|at| at <= started);
        if !is_due || !node.arena.is_watching() {
            return;
        }
        self.look_now(node);
        self.next = Some(Instant::now() + LOOK_EVERY.max(started.elapsed() * LOOK_SHARE));
    }

    pub(crate) fn look_now(&mut self, node: &Node) {
        let watched = node.arena.shadows(&node.runtime);
        let mut gone = unwatched_of(watched.all(), node);
        let known = std::mem::take(&mut self.unwatched);
        gone.retain(|(_, inode)| {
            let looks = known.get(inode).map_or(1, |looks| looks + 1);
            self.unwatched.insert(*inode, looks);
            looks >= LOOKS
        });
        if gone.is_empty() {
            return;
        }
        // Who puts a watch on a shadow that is there has this lock meanwhile.
        let keys: Vec<FileKey> = gone.iter().map(|(key, _)| *key).collect();
        let _lock = watched.lock(&keys);
        for (key, inode) in unwatched_of(gone, node) {
            watched.forget(key, inode);
        }
        watched.clear_links();
    }
}

/// Those of the shadows that no instance watches.
fn unwatched_of(mut shadows: Vec<(FileKey, u64)>, node: &Node) -> Vec<(FileKey, u64)> {
    let seen = seen_by_instances(node);
    shadows.retain(|(_, inode)| seen.as_ref().is_some_and(|seen| !seen.contains(inode)));
    shadows
}

/// The inodes of the runtime directory's file system that inotify instances watch; `None` if there are
/// processes of this session that cannot be looked at.
fn seen_by_instances(node: &Node) -> Option<HashSet<u64>> {
    let ours: HashSet<u32> = node.arena.processes().map(|p| p.process.pid).collect();
    let mut seen = HashSet::new();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            let is_ours = ours.contains(&pid);
            look_at_process(&process.path(), is_ours, node.runtime.dev(), &mut seen)?;
        }
    }
    Some(seen)
}

fn look_at_process(process: &Path, is_ours: bool, dev: u64, seen: &mut HashSet<u64>) -> Option<()> {
    let descriptors = match fs::read_dir(process.join("fd")) {
        Ok(descriptors) => descriptors,
        // Another user's, who can have none of ours, unless it is registered here.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied && is_ours => return None,
        Err(_) => return Some(()),
    };
    for descriptor in descriptors.flatten() {
        let is_instance =
            fs::read_link(descriptor.path()).is_ok_and(|to| to.as_os_str() == "anon_inode:inotify");
        if is_instance {
            let info = process.join("fdinfo").join(descriptor.file_name());
            let text = fs::read_to_string(info).unwrap_or_default();
            seen.extend(text.lines().filter_map(|line| watch_in(line, dev)));
        }
    }
    Some(())
}

/// `inotify wd:1 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 …`: numbers in hexadecimal.
fn watch_in(line: &str, dev: u64) -> Option<u64> {
    let fields = line.strip_prefix("inotify ")?;
    let number = |name: &str| {
        let text = fields.split(' ').find_map(|f| f.strip_prefix(name))?;
        u64::from_str_radix(text, 16).ok()
    };
    // As the kernel has device numbers inside: 12 bits of major, 20 of minor.
    let sdev = number("sdev:")?;
    let (major, minor) = (sdev >> 20, sdev & 0xf_ffff);
    let is_it = rustix::fs::major(dev) as u64 == major && rustix::fs::minor(dev) as u64 == minor;
    number("ino:").filter(|_| is_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_fdinfo_names_the_inode_on_its_device() {
        let line = "inotify wd:2 ino:9e7e sdev:1a mask:800afce ignored_mask:0 fhandle-bytes:8";
        let dev = rustix::fs::makedev(0, 0x1a);
        assert_eq!(watch_in(line, dev), Some(0x9e7e));
        assert_eq!(watch_in(line, dev + 1), None);
        assert_eq!(watch_in("pos:\t0", dev), None);
    }
}
