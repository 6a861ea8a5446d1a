//! Sealed copies of executables in the mount: what the kernel runs instead of a path it cannot see.
//!
//! One per (inode, version), kept while there is room, so that a program started a hundred times is
//! read once. The memory of one that is running stays alive by itself when its copy is dropped here.

use crate::cluster::{Clusters, File};
use crate::memory;
use rustix::fs::{Mode, SealFlags};
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::sys::{self, Fd};
use sealfs_client::node::wire::{FileName, ImageVersion};
use sealfs_protocol::{Errno, OpenId};
use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};

/// Largest executable.
pub const IMAGE_SIZE_MAX_BYTES: u64 = 1 << 30;
/// Copies are kept up to this many bytes in all.
const KEPT_BYTES: u64 = 512 << 20;
/// Longest name that memfd_create(2) takes, in bytes.
const NAME_MAX_BYTES: usize = 249;

struct Image {
    name: FileName,
    version: ImageVersion,
    title: Vec<u8>,
    fd: Arc<Fd>,
}

/// The most recently used first.
pub struct Images {
    clusters: Arc<dyn Clusters>,
    kept: Mutex<VecDeque<Image>>,
}

impl Images {
    pub fn new(clusters: Arc<dyn Clusters>) -> Images {
        Images {
            clusters,
            kept: Mutex::default(),
        }
    }

    /// The copy of this version, called `title` where the kernel shows it.
    pub fn get(
        &self,
        name: FileName,
        open: OpenId,
        version: ImageVersion,
        title: &[u8],
    ) -> Result<Arc<Fd>, Errno> {
        if let Some(fd) = self.find(name, version, title) {
            return Ok(fd);
        }
        let fd = Arc::new(self.make(name, open, version, title)?);
        let image = Image {
            name,
            version,
            title: title.to_vec(),
            fd: Arc::clone(&fd),
        };
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|i| i.name != name || i.version == version);
        kept.push_front(image);
        while kept.iter().map(|i| i.version.size_bytes).sum::<u64>() > KEPT_BYTES {
            kept.pop_back();
        }
        Ok(fd)
    }

    fn find(&self, name: FileName, version: ImageVersion, title: &[u8]) -> Option<Arc<Fd>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept
            .iter()
            .position(|i| (i.name, i.version) == (name, version) && i.title == title)?;
        let image = kept.remove(at)?;
        let fd = Arc::clone(&image.fd);
        kept.push_front(image);
        Some(fd)
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
        memory::fill(&*cluster, file, size, &[&fd], IMAGE_SIZE_MAX_BYTES)?;
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        let mode = Mode::from_raw_mode(0o555);
        rustix::fs::fchmod(sys::borrow(fd.raw()), mode).map_err(sys::errno)?;
        rustix::fs::fcntl_add_seals(sys::borrow(fd.raw()), seals).map_err(sys::errno)?;
        Ok(fd)
    }
}
