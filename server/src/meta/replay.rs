//! Opening a store: whose it is, making a new one, and replaying the log.
//!
//! Nothing is written before everything has been found to be ours. Replay begins behind what the
//! index has applied and believes a record only as `log` says; entries past the last barrier must
//! also find their data on the device, or the log ends before them. An opening is a record itself
//! (`Start`): it covers what a lost tail leaves in its place, and is the barrier for everything
//! before it, so that a served store begins with nothing pending.

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use sealfs_protocol::ids::{ClusterId, Incarnation, PartitionId, ShardId};

use super::db::{Db, until};
use super::group::{Group, Item, Items};
use super::jobs::FlushJob;
use super::listings::Listings;
use super::log::{Kind, Log, LogIndex};
use super::log_reader::{End, LogReader};
use super::overlay::Overlay;
use super::recent::Recent;
use super::sequences::{Partitions, Sequences};
use super::usage::Usages;
use super::{Limits, Meta, identity, meta_key};
use crate::env::{BlockDevice, Kv};
use crate::store::{BlockStore, ChunkRecord, OpenError, Region, StoreError};

/// Which store to open, and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub cluster: ClusterId,
    pub shard: ShardId,
    /// Of this machine's running kernel; see `boot_id`.
    pub boot_id: u128,
    /// Identity for the store if a new one is made: random.
    pub uuid: u128,
    /// Size of the log of a new store; `None`: a sixteenth of the device, or all of a log device.
    pub log_bytes: Option<u64>,
    pub limits: Limits,
}

/// Identity of the running kernel (`/proc/sys/kernel/random/boot_id`).
pub fn boot_id() -> io::Result<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).map_err(io::Error::other)
}

/// How far the index has the log's entries: value of `meta_key::APPLIED`.
#[derive(Clone, Copy, Default)]
struct Applied {
    index: LogIndex,
    /// Where the next record begins, and the least life it can have.
    position: u64,
    life: u32,
}

impl Applied {
    fn reader<'a, D: BlockDevice>(&self, device: &'a D, region: Region) -> LogReader<'a, D> {
        let next = LogIndex(self.index.0 + 1);
        LogReader::new(device, region, self.position, next, self.life)
    }
}

pub(super) fn encode_applied(index: LogIndex, position: u64, life: u32) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&index.0.to_le_bytes());
    bytes[8..16].copy_from_slice(&position.to_le_bytes());
    bytes[16..].copy_from_slice(&life.to_le_bytes());
    bytes
}

fn decode_applied(bytes: &[u8]) -> Option<Applied> {
    let (index, rest) = bytes.split_first_chunk()?;
    let (position, life) = rest.split_first_chunk()?;
    Some(Applied {
        index: LogIndex(u64::from_le_bytes(*index)),
        position: u64::from_le_bytes(*position),
        life: u32::from_le_bytes(life.try_into().ok()?),
    })
}

impl<K: Kv, D: BlockDevice> Meta<K, D> {
    /// Opens the store on `data`, with its log on a device of its own or on the same one, and
    /// makes a new store if the devices are blank. Anything else is refused, and not written to.
    pub fn open(
        options: Options,
        mut kv: K,
        data: Arc<D>,
        log: Option<Arc<D>>,
    ) -> Result<Meta<K, D>, OpenError> {
        kv.refresh().map_err(OpenError::io("index"))?;
        let superblocks = match identity::find(&options, &kv, &*data, log.as_deref())? {
            Some(superblocks) => superblocks,
            None => identity::format(&options, &mut kv, &*data, log.as_deref())?,
        };
        let log = log.unwrap_or_else(|| Arc::clone(&data));
        let mut superblock = superblocks.log;
        let applied = kv.get(Db::Meta, meta_key::APPLIED);
        let applied = match applied.map_err(OpenError::io("index"))? {
            None => Some(Applied::default()),
            Some(bytes) => decode_applied(bytes),
        };
        let applied = applied.ok_or_else(|| damaged(&*data, "its index is damaged"))?;
        let survey = survey(&*log, superblock.log, applied).map_err(OpenError::io(log.name()))?;

        let store = BlockStore::new(data, superblocks.data.data);
        let mut meta = Meta::blank(options.limits, kv, store, log, superblock.log, applied);
        meta.load()?;
        let lost = meta.replay(superblock.log, applied, survey)?;
        superblock.life += 1;
        if superblock.boot_id != options.boot_id || lost {
            superblock.incarnation.0 += 1;
            meta.lost_after = Some(meta.log.written());
        }
        superblock.boot_id = options.boot_id;
        meta.incarnation = superblock.incarnation;
        let log = Arc::clone(meta.log.device());
        let written = superblock.write(&*log);
        written.map_err(OpenError::io(log.name()))?;
        meta.log.begin_life(superblock.life);
        meta.start(options.boot_id).map_err(|e| wrap(&*log, e))?;
        Ok(meta)
    }

    /// With nothing in it but the place where replay begins.
    fn blank(
        limits: Limits,
        kv: K,
        store: BlockStore<D>,
        log: Arc<D>,
        region: Region,
        applied: Applied,
    ) -> Meta<K, D> {
        let last = applied.index;
        Meta {
            kv,
            overlay: Overlay::default(),
            log: Log::resume(log, region, applied.life, applied.position, last),
            store,
            limits,
            incarnation: Incarnation(0),
            lost_after: None,
            sequences: Sequences::new(0),
            partitions: Partitions::default(),
            usages: Usages::default(),
            last_group: last,
            flushed: last,
            committed: last,
            barriers: VecDeque::new(),
            last_barrier: last,
            flush_under_way: false,
            commit_under_way: false,
            dirty_since_ns: None,
            uncommitted_since_ns: None,
            failed: None,
            spare_group: Group::default(),
            listings: Listings::default(),
            recent: Recent::new(),
        }
    }

    /// Takes over what the index has: bitmaps, partition sequences, usage.
    fn load(&mut self) -> Result<(), OpenError> {
        let device = Arc::clone(self.store.device());
        let (alloc, kv) = (self.store.alloc(), &self.kv);
        let mut good = true;
        kv.scan(Db::Alloc, &[0, 0], &[0, 1], |key, bitmap| {
            let group = key[2..].try_into().map(u32::from_be_bytes);
            good &= group.is_ok_and(|group| alloc.load_group(group, bitmap));
            ControlFlow::Continue(())
        })
        .map_err(OpenError::io("index"))?;
        if !good {
            return Err(damaged(&*device, "a bitmap of its index is damaged"));
        }
        let usages = &mut self.usages;
        kv.scan(Db::Usage, &[], &[0xff; 3], |key, value| {
            good &= usages.load(key, value);
            ControlFlow::Continue(())
        })
        .map_err(OpenError::io("index"))?;
        if !good {
            return Err(damaged(&*device, "a usage record of its index is damaged"));
        }
        let prefix = meta_key::PARTITION;
        let partitions = &mut self.partitions;
        kv.scan(Db::Meta, prefix, &until(prefix), |key, value| {
            let partition = key[prefix.len()..].try_into().map(u16::from_be_bytes);
            if let (Ok(partition), Ok(last)) = (partition, value.try_into()) {
                partitions.load(PartitionId(partition), u64::from_le_bytes(last));
            }
            ControlFlow::Continue(())
        })
        .map_err(OpenError::io("index"))
    }

    /// Applies the log behind `applied`. True if entries were lost that somebody may know of.
    fn replay(
        &mut self,
        region: Region,
        applied: Applied,
        survey: Survey,
    ) -> Result<bool, OpenError> {
        let log = Arc::clone(self.log.device());
        let mut reader = applied.reader(&*log, region);
        while let Some((header, body)) = reader.next().map_err(OpenError::io(log.name()))? {
            let is_group = header.kind == Kind::Group;
            if is_group && header.index > survey.durable && !self.data_is_there(body)? {
                // This entry and all behind it never became durable.
                return Ok(true);
            }
            if is_group {
                let applied = self.apply(header.index, body, true);
                applied.map_err(|e| wrap(&*log, e))?;
                self.last_group = header.index;
            }
            self.log.skip(&header);
            if self.overlay.bytes() >= self.limits.commit_bytes {
                self.settle().map_err(|e| wrap(&*log, e))?;
            }
        }
        Ok(survey.end == End::Damaged)
    }

    /// Whether the data that a group names is on the device as the group's checksums say.
    fn data_is_there(&self, body: &[u8]) -> Result<bool, OpenError> {
        let device = &**self.store.device();
        let wrong = || damaged(device, "its log holds a record that does not parse");
        let mut chunk: Option<ChunkRecord> = None;
        for item in Items::new(body) {
            match item.map_err(|_| wrong())? {
                Item::Put {
                    db: Db::Chunk,
                    value,
                    ..
                } => chunk = Some(ChunkRecord::decode(value).map_err(|_| wrong())?),
                Item::Written { first, blocks } => {
                    let record = chunk.as_ref().ok_or_else(wrong)?;
                    if !self.store.holds(record, first, blocks) {
                        return Ok(false);
                    }
                }
                _ => {}
            }
        }
        Ok(true)
    }

    /// Flushes and commits on the spot; nothing is served yet.
    fn settle(&mut self) -> Result<(), StoreError> {
        self.flush_now()?;
        if let Some(job) = self.begin_commit()? {
            self.finish_commit(job.run())?;
        }
        Ok(())
    }

    fn flush_now(&mut self) -> Result<(), StoreError> {
        self.write_out()?;
        let job = FlushJob {
            data: Some(Arc::clone(self.store.device())),
            log: Arc::clone(self.log.device()),
            through: self.log.last(),
        };
        if let Err((device, e)) = job.run().result {
            return Err(self.fail(format!("flushing {device} failed: {e}")));
        }
        self.flushed = self.log.last();
        self.last_barrier = self.flushed;
        self.sequences.flushed(self.flushed);
        Ok(())
    }

    /// Begins a life of the store: what was replayed becomes durable, the opening is logged, and
    /// inode sequences are reserved.
    fn start(&mut self, boot_id: u128) -> Result<(), StoreError> {
        self.flush_now()?;
        let mut body = [0; 24];
        body[..16].copy_from_slice(&boot_id.to_le_bytes());
        body[16..].copy_from_slice(&self.incarnation.0.to_le_bytes());
        self.log.push(Kind::Start, &body);
        let reserved = match self.get(Db::Meta, meta_key::SEQUENCES)? {
            None => 0,
            Some(bytes) => bytes
                .try_into()
                .map(u64::from_le_bytes)
                .map_err(|_| StoreError::Invalid("reservation of inode sequences"))?,
        };
        self.sequences = Sequences::new(reserved);
        self.reserve_sequences();
        self.flush_now()?;
        if self.log.used() >= self.log.capacity() / 2 {
            self.settle()?;
        }
        Ok(())
    }
}

/// What a first pass over the log found.
#[derive(Clone, Copy)]
struct Survey {
    /// Through here log and data are known to have been durable.
    durable: LogIndex,
    end: End,
}

fn survey<D: BlockDevice>(device: &D, region: Region, applied: Applied) -> io::Result<Survey> {
    let mut reader = applied.reader(device, region);
    let mut durable = applied.index;
    while let Some((header, body)) = reader.next()? {
        let covers = match header.kind {
            Kind::Group => continue,
            Kind::Start => header.index.0 - 1,
            Kind::Barrier => body.try_into().map_or(0, u64::from_le_bytes),
        };
        durable = durable.max(LogIndex(covers));
    }
    let end = reader.end()?;
    Ok(Survey { durable, end })
}

fn damaged(device: &impl BlockDevice, what: &'static str) -> OpenError {
    OpenError::Damaged {
        name: device.name().to_owned(),
        what,
    }
}

fn wrap(device: &impl BlockDevice, error: StoreError) -> OpenError {
    OpenError::io(device.name())(io::Error::other(error))
}
