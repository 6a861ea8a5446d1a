//! Kills and power cuts at any moment of random work: what was acknowledged, or flushed, is there;
//! the rest is a prefix; every byte read is one that was written there; no block is lost or shared.
#![allow(clippy::unwrap_used, reason = "tests")]

mod storage_support;

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use sealfs_protocol::ids::InodeId;
use sealfs_server::meta::db::key;
use sealfs_server::meta::{CommitDone, CommitJob, Db, FlushDone, FlushJob, Group, MemoryKv, Meta};
use sealfs_server::store::{BLOCK_BYTES, ChunkChange, ChunkRecord, StoreError};
use storage_support::*;

/// Most bytes of one step's log entry.
const ROOM_BYTES: usize = 80_000;
const FILES: u64 = 6;
const CHUNK_BYTES: u64 = 160 * 1024;
/// Even files are of a volume with `durability = fsync`, odd ones with `memory`.
fn volatile(ino: u64) -> bool {
    ino % 2 == 1
}

/// What a user would see: contents by inode, and a step counter.
#[derive(Clone, Default)]
struct Model {
    files: BTreeMap<u64, Vec<u8>>,
    /// Long values, of one byte repeated, that make the log go around.
    values: BTreeMap<Vec<u8>, (u8, usize)>,
}

enum Flush {
    None,
    Begun(FlushJob<CrashDevice>),
    Run(FlushDone),
}

enum Commit {
    None,
    Begun(CommitJob<MemoryKv>),
    Run(CommitDone),
}

struct World {
    random: Random,
    data: Arc<CrashDevice>,
    log: Option<Arc<CrashDevice>>,
    kv: MemoryKv,
    meta: Meta<MemoryKv, CrashDevice>,
    boot: u128,
    /// `history[i]` is the state after step i.
    history: Vec<Model>,
    /// The steps known to be written, and to be flushed.
    written: usize,
    flushed: usize,
    /// Log index of each step.
    indices: Vec<u64>,
    flush: Flush,
    commit: Commit,
    change: ChunkChange,
    /// Of fallocate(2), the last.
    call: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let data = CrashDevice::new("data", 16 << 20);
        let log = random.one_in(2).then(|| CrashDevice::new("log", 6 << 20));
        let kv = MemoryKv::new();
        let meta = Meta::open(options(1), kv.clone(), data.clone(), log.clone()).unwrap();
        World {
            random,
            data,
            log,
            kv,
            meta,
            boot: 1,
            history: vec![Model::default()],
            written: 0,
            flushed: 0,
            indices: vec![0],
            flush: Flush::None,
            commit: Commit::None,
            change: ChunkChange::default(),
            call: 0,
        }
    }

    fn record(&self, ino: u64) -> Option<ChunkRecord> {
        let bytes = self.meta.get(Db::Chunk, &chunk_key(ino)).unwrap();
        bytes.map(|b| ChunkRecord::decode(b).unwrap())
    }

    /// Changes one file at random, as one group.
    fn step(&mut self) {
        if !self.meta.has_room(ROOM_BYTES) {
            self.finish_jobs();
            commit(&mut self.meta).unwrap();
            self.note_progress();
            assert!(self.meta.has_room(ROOM_BYTES), "no room after a commit");
        }
        let mut model = self.history.last().unwrap().clone();
        let mut group = self.meta.group();
        group.sub(PARTITION, EPOCH, NO_TXN);
        self.change_a_file(&mut model, &mut group);
        let step = self.history.len() as u64;
        let counter = key::ino(PARTITION, InodeId(1));
        group.put(Db::Ino, &counter, &step.to_le_bytes());
        if self.random.one_in(4) {
            let name = [self.random.below(20) as u8];
            let key = key::xattr(PARTITION, InodeId(1), &name);
            let (byte, len) = (step as u8, self.random.below(60_000) as usize);
            group.put(Db::Xattr, &key, &vec![byte; len]);
            model.values.insert(key.to_vec(), (byte, len));
        }
        let index = self.meta.append(group).unwrap();
        self.history.push(model);
        self.indices.push(index.0);
    }

    /// Writes to, cuts, punches, reserves for or removes one file at random.
    fn change_a_file(&mut self, model: &mut Model, group: &mut Group) {
        let ino = self.random.below(FILES);
        let offset = self.random.below(CHUNK_BYTES) as u32;
        let len = match self.random.below(3) {
            0 => self.random.below(200) + 1,
            1 => u64::from(BLOCK_BYTES),
            _ => self.random.below(40_000) + 1,
        } as usize;
        let (name, how) = (chunk_name(ino), how(volatile(ino)));
        let old = self.record(ino);
        let action = self.random.below(16);
        let range = (offset, (offset + len as u32).min(CHUNK_BYTES as u32));
        let file = model.files.entry(ino).or_default();
        let result = match (action, &old) {
            (0, Some(old)) => {
                group.drop_chunk(&chunk_key(ino), old);
                model.files.remove(&ino);
                return;
            }
            (1, Some(old)) => {
                file.truncate(offset as usize);
                let cut = (offset, self.random.one_in(3));
                let store = self.meta.store_mut();
                store.truncate(name, old, cut, how, &mut self.change)
            }
            (3 | 4, old) => {
                self.call += 1;
                let (call, store) = (self.call, self.meta.store_mut());
                store.reserve(old.as_ref(), range, call, how, &mut self.change)
            }
            (5, Some(old)) => {
                let end = (range.1 as usize).min(file.len());
                if let Some(range) = file.get_mut(offset as usize..end) {
                    range.fill(0);
                }
                let store = self.meta.store_mut();
                store.clear(name, old, range, how, &mut self.change)
            }
            (6, Some(old)) => {
                let call = if self.random.one_in(2) { old.call } else { 0 };
                let store = self.meta.store_mut();
                store.give_back(old, call, how, &mut self.change);
                Ok(())
            }
            (2, Some(old)) => {
                let end = (offset as usize + len).min(file.len());
                if let Some(range) = file.get_mut(offset as usize..end) {
                    range.fill(0);
                }
                let store = self.meta.store_mut();
                store.punch(name, old, offset, len as u32, how, &mut self.change)
            }
            _ => self.write_to(ino, file, old.as_ref(), (offset as usize, len)),
        };
        match result {
            Ok(()) => group.put_chunk(&chunk_key(ino), &self.change),
            // Data that a power cut has taken from a `memory` volume.
            Err(StoreError::Corrupt { .. }) if volatile(ino) => {
                group.drop_chunk(&chunk_key(ino), &old.unwrap());
                model.files.remove(&ino);
            }
            Err(e) => panic!("step failed: {e}"),
        }
    }

    /// Writes `len` bytes at an offset or, as often, at the end of a file.
    fn write_to(
        &mut self,
        ino: u64,
        file: &mut Vec<u8>,
        old: Option<&ChunkRecord>,
        (offset, len): (usize, usize),
    ) -> Result<(), StoreError> {
        let at_end = self.random.one_in(2) && file.len() + len < CHUNK_BYTES as usize;
        let at = if at_end { file.len() } else { offset };
        let bytes: Vec<u8> = (0..len).map(|_| self.random.below(255) as u8 + 1).collect();
        file.resize(file.len().max(at + len), 0);
        file[at..at + len].copy_from_slice(&bytes);
        let cut = self.random.below(len as u64) as usize;
        let pieces = [IoSlice::new(&bytes[..cut]), IoSlice::new(&bytes[cut..])];
        let (name, how) = (chunk_name(ino), how(volatile(ino)));
        let store = self.meta.store_mut();
        store.write(name, old, at as u32, &pieces, how, &mut self.change)
    }

    fn jobs(&mut self) {
        if self.random.one_in(3) {
            self.meta.write_out().unwrap();
        }
        if self.random.one_in(6) {
            self.flush = match std::mem::replace(&mut self.flush, Flush::None) {
                Flush::None => match self.meta.begin_flush().unwrap() {
                    Some(job) => Flush::Begun(job),
                    None => Flush::None,
                },
                Flush::Begun(job) => Flush::Run(job.run()),
                Flush::Run(done) => {
                    self.meta.finish_flush(done).unwrap();
                    Flush::None
                }
            };
        }
        if self.random.one_in(9) {
            self.commit = match std::mem::replace(&mut self.commit, Commit::None) {
                Commit::None => match self.meta.begin_commit().unwrap() {
                    Some(job) => Commit::Begun(job),
                    None => Commit::None,
                },
                Commit::Begun(job) => Commit::Run(job.run()),
                Commit::Run(done) => {
                    self.meta.finish_commit(done).unwrap();
                    Commit::None
                }
            };
        }
        self.note_progress();
    }

    fn finish_jobs(&mut self) {
        match std::mem::replace(&mut self.flush, Flush::None) {
            Flush::None => {}
            Flush::Begun(job) => drop(self.meta.finish_flush(job.run()).unwrap()),
            Flush::Run(done) => drop(self.meta.finish_flush(done).unwrap()),
        }
        match std::mem::replace(&mut self.commit, Commit::None) {
            Commit::None => {}
            Commit::Begun(job) => drop(self.meta.finish_commit(job.run()).unwrap()),
            Commit::Run(done) => drop(self.meta.finish_commit(done).unwrap()),
        }
    }

    fn note_progress(&mut self) {
        let through = |index: u64| self.indices.partition_point(|&i| i <= index) - 1;
        self.written = through(self.meta.written().0);
        self.flushed = through(self.meta.flushed().0);
    }

    fn after(&mut self, device: &Arc<CrashDevice>, power_cut: bool) -> Arc<CrashDevice> {
        if power_cut {
            device.after_power_cut(&mut self.random)
        } else {
            device.after_kill()
        }
    }

    /// Ends this life and opens the next; checks what is there.
    fn crash(&mut self, power_cut: bool) {
        let incarnation = self.meta.incarnation();
        if self.random.one_in(3) {
            // In the middle of writing the log out: nobody was told of what was in there.
            let bytes = self.random.below(20_000) as usize;
            self.log
                .as_ref()
                .unwrap_or(&self.data)
                .tear_next_write(bytes);
            let _ = self.meta.write_out();
        }
        self.data = self.after(&Arc::clone(&self.data), power_cut);
        let log = self.log.clone();
        self.log = log.map(|log| self.after(&log, power_cut));
        self.boot += u128::from(power_cut);
        self.flush = Flush::None;
        self.commit = Commit::None;
        let (data, log) = (self.data.clone(), self.log.clone());
        self.meta = Meta::open(options(self.boot), self.kv.clone(), data, log).unwrap();
        assert_eq!(self.meta.incarnation() > incarnation, power_cut);

        let counter = key::ino(PARTITION, InodeId(1));
        let step = self.meta.get(Db::Ino, &counter).unwrap();
        let step = step.map_or(0, |b| u64::from_le_bytes(b.try_into().unwrap())) as usize;
        let least = if power_cut {
            self.flushed
        } else {
            self.written
        };
        assert!(
            least <= step && step < self.history.len(),
            "{least} <= {step}"
        );
        self.history.truncate(step + 1);
        self.indices.truncate(step + 1);
        // All that was replayed is durable now; the log begins anew behind it.
        self.note_progress();
        self.flushed = step;
        self.written = step;
        self.check_contents();
        self.check_space();
    }

    fn check_contents(&self) {
        let model = self.history.last().unwrap();
        let mut values = model.values.iter();
        let (from, until) = (key::xattr_prefix(PARTITION, InodeId(1)), [0xff]);
        for (key, value) in self.meta.scan(Db::Xattr, &from, &until, 100).unwrap() {
            let (expected, &(byte, len)) = values.next().unwrap();
            assert_eq!((&key[..], value.len()), (&expected[..], len));
            assert!(value.iter().all(|&b| b == byte));
        }
        assert!(values.next().is_none());
        for ino in 0..FILES {
            let Some(record) = self.record(ino) else {
                assert!(!model.files.contains_key(&ino), "file {ino} is lost");
                continue;
            };
            let expected = &model.files[&ino];
            assert_eq!(record.end() as usize, expected.len());
            let mut got = vec![0xee; CHUNK_BYTES as usize + 50_000];
            match self
                .meta
                .store()
                .read(chunk_name(ino), &record, 0, &mut got)
            {
                Ok(()) => {
                    assert!(got[..expected.len()] == expected[..], "file {ino} differs");
                    assert!(got[expected.len()..].iter().all(|&b| b == 0));
                }
                Err(StoreError::Corrupt { .. }) if volatile(ino) && self.boot > 1 => {}
                Err(e) => panic!("file {ino}: {e}"),
            }
        }
    }

    /// Right after an opening: what no record names is free.
    fn check_space(&self) {
        let used: u64 = (0..FILES)
            .filter_map(|ino| self.record(ino))
            .map(|r| u64::from(r.blocks()) * u64::from(BLOCK_BYTES))
            .sum();
        let space = self.meta.store().space();
        assert_eq!(space.pending_bytes, 0);
        assert_eq!(space.total_bytes - space.free_bytes, used);
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..6 {
        for _ in 0..world.random.below(120) {
            world.step();
            world.jobs();
        }
        world.check_contents();
        let power_cut = world.random.one_in(2);
        world.crash(power_cut);
    }
    world.crash(true);
    world.crash(true);
}

#[test]
fn after_any_crash_a_prefix_is_there_with_all_that_was_promised() {
    // More seeds on demand: SEEDS=10000.
    let seeds = std::env::var("SEEDS").map_or(60, |s| s.parse().unwrap());
    for seed in 0..seeds {
        let result = std::panic::catch_unwind(|| run(seed));
        assert!(result.is_ok(), "seed {seed}");
    }
}
