//! Sealed copies of executables in the mount: what the kernel runs instead of a path it cannot see.
//!
//! One per (inode, version), kept while there is room, so that a program started a hundred times is
//! read once. The memory of one that is running stays alive by itself when its copy is dropped here.
//!
//! **While a program runs**, a description of the keeper's own stands for it at the server, so that
//! nobody opens its file for writing (ETXTBSY). Whether it runs the kernel tells, however it was
//! started and will end: memory that is executed cannot be opened for writing either.
//!
//! What must stay true: a description stands from before the caller's own goes until no process
//! runs the copy, and no one that has just got it can be about to.

use crate::cluster::{Cluster, Clusters, File};
use crate::memory;
use crate::run::Node;
use rustix::fs::{Mode, OFlags, SealFlags};
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::sys::{self, Fd};
use sealfs_client::node::wire::{FileName, ImageVersion};
use sealfs_protocol::{Errno, OpenId};
use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Largest executable.
pub const IMAGE_SIZE_MAX_BYTES: u64 = 1 << 30;
/// Copies are kept up to this many bytes in all.
const KEPT_BYTES: u64 = 512 << 20;
/// Longest name that memfd_create(2) takes, in bytes.
const NAME_MAX_BYTES: usize = 249;
/// A process that got a copy executes it within this time.
const GRACE: Duration = Duration::from_secs(5);

struct Image {
    name: FileName,
    version: ImageVersion,
    title: Vec<u8>,
    fd: Arc<Fd>,
    /// Stands at the server as long as the copy runs.
    standing: Option<Standing>,
    /// Processes that may be about to execute it, and since when.
    askers: Vec<(u32, Instant)>,
}

#[derive(Clone)]
struct Standing {
    cluster: Arc<dyn Cluster>,
    manager: ManagerIndex,
    file: File,
}

/// The most recently used first.
pub struct Images {
    node: Arc<Node>,
    clusters: Arc<dyn Clusters>,
    kept: Mutex<VecDeque<Image>>,
}

impl Images {
    pub fn new(node: Arc<Node>, clusters: Arc<dyn Clusters>) -> Images {
        Images {
            node,
            clusters,
            kept: Mutex::default(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Image>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copy of this version, called `title` where the kernel shows it, for the process `asker`,
    /// which has the file open as `open` to execute it.
    pub fn get(
        &self,
        name: FileName,
        (open, asker): (OpenId, u32),
        version: ImageVersion,
        title: &[u8],
    ) -> Result<Arc<Fd>, Errno> {
        let is_it = |i: &Image| (i.name, i.version) == (name, version) && i.title == title;
        if !self.kept().iter().any(is_it) {
            let fd = Arc::new(self.make(name, open, version, title)?);
            let mut kept = self.kept();
            if !kept.iter().any(is_it) {
                kept.push_front(Image {
                    name,
                    version,
                    title: title.to_vec(),
                    fd,
                    standing: None,
                    askers: Vec::new(),
                });
            }
        }
        let (fd, stands) = {
            let mut kept = self.kept();
            let at = kept.iter().position(is_it).ok_or(Errno::EIO)?;
            let mut image = kept.remove(at).ok_or(Errno::EIO)?;
            image.askers.push((asker, Instant::now()));
            let found = (Arc::clone(&image.fd), image.standing.is_some());
            kept.push_front(image);
            found
        };
        if !stands {
            self.stand(name, &is_it)?;
        }
        self.tend();
        Ok(fd)
    }

    /// Puts a description at the server for a copy that is about to be executed.
    fn stand(&self, name: FileName, is_it: &dyn Fn(&Image) -> bool) -> Result<(), Errno> {
        let manager = ManagerIndex(name.manager);
        let standing = Standing {
            cluster: self.clusters.get(manager, Some(name.volume))?,
            manager,
            file: File {
                ino: name.ino,
                open: self.node.arena.mint_open(),
            },
        };
        standing.cluster.reassert(standing.file, true)?;
        self.pins().insert((manager, (standing.file, true)));
        let mut kept = self.kept();
        match kept.iter_mut().find(|i| is_it(i)) {
            Some(image) if image.standing.is_none() => image.standing = Some(standing),
            // Another thread was faster.
            _ => {
                drop(kept);
                self.end(standing);
            }
        }
        Ok(())
    }

    fn pins(&self) -> MutexGuard<'_, std::collections::BTreeSet<(ManagerIndex, (File, bool))>> {
        let pins = self.node.pins.lock();
        pins.unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, standing: Standing) {
        self.pins()
            .remove(&(standing.manager, (standing.file, true)));
        // A server that cannot be reached hears of it with the session's next list, or ends it.
        if let Err(errno) = standing.cluster.close(standing.file) {
            log::info!("a program that ended, inode {}: {errno}", standing.file.ino);
        }
    }

    /// Files of programs that run no more can be written again; copies beyond the room go.
    pub fn tend(&self) {
        let mut over = Vec::new();
        {
            let mut kept = self.kept();
            let mut bytes = 0;
            kept.retain_mut(|image| {
                if image.is_in_use() {
                    return true;
                }
                over.extend(image.standing.take());
                bytes += image.version.size_bytes;
                bytes <= KEPT_BYTES
            });
        }
        for standing in over {
            self.end(standing);
        }
    }

    fn make(
        &self,
        name: FileName,
        open: OpenId,
        version: ImageVersion,
        title: &[u8],
    ) -> Result<Fd, Errno> {
        let cluster = self
            .clusters
            .get(ManagerIndex(name.manager), Some(name.volume))?;
        let file = File {
            ino: name.ino,
            open,
        };
        let made = Images::copy(&*cluster, file, version, title);
        cluster.give_back(file);
        made
    }

    fn copy(
        cluster: &dyn Cluster,
        file: File,
        version: ImageVersion,
        title: &[u8],
    ) -> Result<Fd, Errno> {
        let size = cluster.size(file)?;
        if size > IMAGE_SIZE_MAX_BYTES {
            return Err(Errno::ENOMEM);
        }
        if size != version.size_bytes {
            return Err(Errno::ETXTBSY);
        }
        let title =
            CString::new(&title[..title.len().min(NAME_MAX_BYTES)]).map_err(|_| Errno::EINVAL)?;
        let fd = memory::create(title.as_c_str(), size)?;
        memory::fill(cluster, file, size, &[&fd], IMAGE_SIZE_MAX_BYTES)?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        // Writable by its mode, so that only its being executed stands against opening it so.
        let mode = Mode::from_raw_mode(0o755);
        rustix::fs::fchmod(sys::borrow(fd.raw()), mode).map_err(sys::errno)?;
        rustix::fs::fcntl_add_seals(sys::borrow(fd.raw()), seals).map_err(sys::errno)?;
        Ok(fd)
    }
}

impl Image {
    fn is_in_use(&mut self) -> bool {
        self.askers
            .retain(|(pid, since)| since.elapsed() < GRACE && is_alive(*pid));
        !self.askers.is_empty() || is_executed(&self.fd)
    }
}

/// Whether a process runs this memory: execve(2) keeps writers away from what it executes.
fn is_executed(fd: &Fd) -> bool {
    let path = format!("/proc/self/fd/{}", fd.raw());
    let opened = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    matches!(opened, Err(rustix::io::Errno::TXTBSY))
}

/// Whether a process has not ended; one that nobody has waited for has.
fn is_alive(pid: u32) -> bool {
    let text = std::fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    // pid (name) state …; the name may hold anything.
    let after_name = text.iter().rposition(|b| *b == b')');
    let state = after_name.and_then(|at| text.get(at + 2));
    state.is_some_and(|state| !matches!(state, b'Z' | b'X'))
}
