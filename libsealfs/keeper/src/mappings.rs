//! The memory of files that are mapped shared on this node.
//!
//! Each such file has two memfds: its bytes, which processes map, and a pristine copy of what the
//! servers have. Both are filled when the file is first mapped; holes stay holes. Changed bytes go back on msync and
//! fsync, every few seconds, and at the end ([`crate::changes`]).
//!
//! **When a mapping is gone** the kernel says: a memfd can be sealed against writing exactly when
//! nobody has it mapped writable, whoever inherited the mapping over fork, and however its process
//! ended. So the keeper counts nothing; it tries the seal now and then, and when it takes, writes
//! back what is left and drops the memory. A process that got the descriptors and maps them too
//! late finds them sealed (EPERM) and asks again.
//!
//! What must stay true: the file is in the arena's table of mapped inodes before its bytes are read,
//! so that a write on this node goes to the memory too.

use crate::changes;
use crate::cluster::{Cluster, Clusters, File};
use crate::memory;
use crate::run::Node;
use rustix::fs::SealFlags;
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::mapped::{FileKey, MappedId};
use sealfs_client::node::sys::{self, Fd};
use sealfs_client::node::wire::FileName;
use sealfs_protocol::{Errno, OpenId};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most data of one file that is mapped, in bytes; it is read as a whole, but for its holes.
const MAPPED_DATA_MAX_BYTES: u64 = 1 << 30;
/// A process that got the descriptors maps them within this time.
const GRACE: Duration = Duration::from_secs(5);
/// Changed bytes go back at least so often, unless comparing takes long.
const WRITE_BACK_EVERY: Duration = Duration::from_secs(5);
/// At most this share of the time goes into comparing: 1 in so many.
const WRITE_BACK_SHARE: u32 = 20;
const PIECE_BYTES: usize = 1 << 20;
/// Threads that write back one file.
const WRITERS: usize = 8;

/// What a process gets: the place in the arena's table, the size, and two descriptors to send.
pub struct Granted {
    pub id: MappedId,
    pub size_bytes: u64,
    pub bytes: Arc<Fd>,
    pub pristine: Arc<Fd>,
}

struct Memory {
    id: MappedId,
    manager: ManagerIndex,
    /// Our own description, which keeps an unlinked file alive.
    file: File,
    cluster: Arc<dyn Cluster>,
    bytes: Arc<Fd>,
    pristine: Arc<Fd>,
    asked: Instant,
    written_back: Instant,
    next_write_back: Instant,
    is_sealed: bool,
}

/// One file; locked for as long as its bytes are read or written back.
#[derive(Default)]
struct Place(Mutex<Option<Memory>>);

pub struct Mappings {
    node: Arc<Node>,
    clusters: Arc<dyn Clusters>,
    places: Mutex<HashMap<FileName, Arc<Place>>>,
    /// Grace for processes that are about to map, in ms.
    grace_ms: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Mappings {
    pub fn new(node: Arc<Node>, clusters: Arc<dyn Clusters>) -> Mappings {
        Mappings {
            node,
            clusters,
            places: Mutex::default(),
            grace_ms: AtomicU64::new(GRACE.as_millis() as u64),
        }
    }

    /// The keeper is to end: memory that nobody maps goes at once.
    pub fn hurry(&self) {
        self.grace_ms.store(0, Ordering::Relaxed);
    }

    /// The memory of a file, read from the servers if it is not mapped yet. `open` is a description
    /// of the file that the asking process holds.
    pub fn map(&self, name: FileName, open: OpenId) -> Result<Granted, Errno> {
        let place = Arc::clone(lock(&self.places).entry(name).or_default());
        let mut memory = lock(&place.0);
        if memory.as_ref().is_some_and(|m| m.is_sealed) {
            self.drop_sealed(&mut memory)?;
        }
        if memory.is_none() {
            *memory = Some(self.read(name, open)?);
        }
        let memory = memory.as_mut().ok_or(Errno::EIO)?;
        memory.asked = Instant::now();
        Ok(Granted {
            id: memory.id,
            size_bytes: memory::size(&memory.bytes)?,
            bytes: Arc::clone(&memory.bytes),
            pristine: Arc::clone(&memory.pristine),
        })
    }

    fn read(&self, name: FileName, open: OpenId) -> Result<Memory, Errno> {
        let key = FileKey {
            manager: ManagerIndex(name.manager),
            volume: name.volume,
            ino: name.ino,
        };
        let cluster = self.clusters.get(key.manager, Some(key.volume))?;
        let asker = File {
            ino: name.ino,
            open,
        };
        let size = cluster.size(asker)?;
        let file = File {
            ino: name.ino,
            open: self.node.arena.mint_open(),
        };
        cluster.reassert(file, false)?;
        lock(&self.node.pins).insert((key.manager, (file, false)));
        let id = self.node.arena.add_mapped(&self.node.runtime, key, size)?;
        let filled = (|| {
            let bytes = memory::create(c"sealfs-file", size)?;
            let pristine = memory::create(c"sealfs-pristine", size)?;
            let copies = [&bytes, &pristine];
            memory::fill(&*cluster, file, size, &copies, MAPPED_DATA_MAX_BYTES)?;
            Ok((bytes, pristine))
        })();
        match filled {
            Ok((bytes, pristine)) => {
                let now = Instant::now();
                Ok(Memory {
                    id,
                    manager: key.manager,
                    file,
                    cluster,
                    bytes: Arc::new(bytes),
                    pristine: Arc::new(pristine),
                    asked: now,
                    written_back: now,
                    next_write_back: now + WRITE_BACK_EVERY,
                    is_sealed: false,
                })
            }
            Err(e) => {
                self.node.arena.remove_mapped(id);
                self.unpin(key.manager, &*cluster, file);
                Err(e)
            }
        }
    }

    /// msync, fsync: what was changed goes to the servers. Nothing to do for a file without memory.
    pub fn write_back(&self, name: FileName) -> Result<(), Errno> {
        match self.find(name) {
            Some(place) => lock(&place.0).as_mut().map_or(Ok(()), Memory::write_back),
            None => Ok(()),
        }
    }

    /// The file was truncated or extended by a process of this node.
    pub fn resize(&self, name: FileName, size: u64) -> Result<(), Errno> {
        let Some(place) = self.find(name) else {
            return Ok(());
        };
        let memory = lock(&place.0);
        let Some(memory) = memory.as_ref() else {
            return Ok(());
        };
        for fd in [&memory.bytes, &memory.pristine] {
            rustix::fs::ftruncate(sys::borrow(fd.raw()), size).map_err(sys::errno)?;
        }
        self.node.arena.resize_mapped(memory.id, size);
        Ok(())
    }

    fn find(&self, name: FileName) -> Option<Arc<Place>> {
        lock(&self.places).get(&name).map(Arc::clone)
    }

    /// Drops the memory of files that nobody maps any more, and writes back what is due.
    pub fn tend(&self) {
        let all: Vec<_> = lock(&self.places)
            .iter()
            .map(|(n, p)| (*n, Arc::clone(p)))
            .collect();
        for (name, place) in all {
            // Busy with its servers: next time.
            let Ok(mut memory) = place.0.try_lock() else {
                continue;
            };
            if let Err(e) = self.tend_one(&mut memory) {
                log::warn!("write-back of inode {}: {e}", name.ino);
            }
            let is_gone = memory.is_none();
            drop(memory);
            if is_gone {
                self.forget(name);
            }
        }
    }

    /// Takes the place away unless somebody came meanwhile.
    fn forget(&self, name: FileName) {
        let mut places = lock(&self.places);
        if places
            .get(&name)
            .is_some_and(|p| Arc::strong_count(p) <= 2 && p.0.try_lock().is_ok_and(|m| m.is_none()))
        {
            places.remove(&name);
        }
    }

    fn tend_one(&self, place: &mut Option<Memory>) -> Result<(), Errno> {
        let Some(memory) = place.as_mut() else {
            return Ok(());
        };
        if memory.is_sealed {
            return self.drop_sealed(place);
        }
        let grace = Duration::from_millis(self.grace_ms.load(Ordering::Relaxed));
        if memory.asked.elapsed() >= grace && memory.seal() {
            return self.drop_sealed(place);
        }
        if Instant::now() >= memory.next_write_back {
            memory.write_back()?;
        }
        Ok(())
    }

    /// The last mapping is gone: what it left goes to the servers, then the memory goes.
    fn drop_sealed(&self, place: &mut Option<Memory>) -> Result<(), Errno> {
        let Some(memory) = place.as_mut() else {
            return Ok(());
        };
        memory.write_back()?;
        self.node.arena.remove_mapped(memory.id);
        self.unpin(memory.manager, &*memory.cluster, memory.file);
        *place = None;
        Ok(())
    }

    fn unpin(&self, manager: ManagerIndex, cluster: &dyn Cluster, file: File) {
        lock(&self.node.pins).remove(&(manager, (file, false)));
        let _ = cluster.close(file);
    }

    /// Before the keeper ends while files are mapped: their bytes are safe. No cluster waits for
    /// another.
    pub fn write_back_all(&self) {
        let mut all: HashMap<u8, Vec<Arc<Place>>> = HashMap::new();
        for (name, place) in &*lock(&self.places) {
            all.entry(name.manager).or_default().push(Arc::clone(place));
        }
        let write = |places: Vec<Arc<Place>>| {
            for place in places {
                if let Some(Err(e)) = lock(&place.0).as_mut().map(Memory::write_back) {
                    log::error!("write-back at the end: {e}");
                }
            }
        };
        std::thread::scope(|scope| {
            for places in all.into_values() {
                scope.spawn(move || write(places));
            }
        });
    }
}

impl Memory {
    /// Succeeds when nobody maps it writable, and for good.
    fn seal(&mut self) -> bool {
        let sealed = rustix::fs::fcntl_add_seals(sys::borrow(self.bytes.raw()), SealFlags::WRITE);
        self.is_sealed = sealed.is_ok();
        self.is_sealed
    }

    fn write_back(&mut self) -> Result<(), Errno> {
        let started = Instant::now();
        let result = self.write_changes();
        let cost = started.elapsed();
        self.written_back = Instant::now();
        self.next_write_back =
            self.written_back + WRITE_BACK_EVERY.max(cost.saturating_mul(WRITE_BACK_SHARE));
        result
    }

    /// Bytes past the end of the file, as the servers know it now, are nobody's. What is a hole in
    /// both copies has not changed.
    fn write_changes(&self) -> Result<(), Errno> {
        let end = self
            .cluster
            .size(self.file)?
            .min(memory::size(&self.bytes)?);
        let mut now = vec![0u8; PIECE_BYTES];
        let mut before = vec![0u8; PIECE_BYTES];
        let copies = [&*self.bytes, &*self.pristine];
        let mut from = 0;
        while let Some(range) = memory::next_data(copies, from, end)? {
            let mut at = range.start;
            while at < range.end {
                let len = PIECE_BYTES.min((range.end - at) as usize);
                let n = sys::read_at(self.bytes.raw(), at, &mut now[..len])?;
                let m = sys::read_at(self.pristine.raw(), at, &mut before[..len])?;
                let ranges = changes::changed(&now[..n], &before[..m]);
                self.write_ranges(at, &ranges, &now[..n])?;
                at += len as u64;
            }
            from = range.end;
        }
        Ok(())
    }

    /// Writes ranges of `bytes`, which begin at offset `at` of the file; many of them by several
    /// threads, since each is a round trip.
    fn write_ranges(&self, at: u64, ranges: &[Range<usize>], bytes: &[u8]) -> Result<(), Errno> {
        let write = |some: &[Range<usize>]| {
            some.iter().try_for_each(|range| {
                let offset = at + range.start as u64;
                write_all(&*self.cluster, self.file, offset, &bytes[range.clone()])?;
                sys::write_at(self.pristine.raw(), offset, &bytes[range.clone()])
            })
        };
        if ranges.len() < WRITERS {
            return write(ranges);
        }
        std::thread::scope(|scope| {
            let shares = ranges.chunks(ranges.len().div_ceil(WRITERS));
            let writers: Vec<_> = shares
                .map(|some| scope.spawn(move || write(some)))
                .collect();
            writers
                .into_iter()
                .try_for_each(|w| w.join().unwrap_or(Err(Errno::EIO)))
        })
    }
}

fn write_all(cluster: &dyn Cluster, file: File, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match cluster.write(file, offset + done as u64, &bytes[done..])? {
            0 => return Err(Errno::EIO),
            n => done += n,
        }
    }
    Ok(())
}
