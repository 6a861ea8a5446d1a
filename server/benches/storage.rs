//! What the storage path costs. Prints figures and judges none:
//! `cargo bench -p sealfs-server --bench storage`
#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    reason = "figures to read"
)]

#[path = "../tests/storage_support/mod.rs"]
mod storage_support;

use std::io::IoSlice;
use std::sync::Arc;
use std::time::Instant;

use sealfs_protocol::ids::InodeId;
use sealfs_server::meta::db::key;
use sealfs_server::meta::{Db, Limits, LmdbKv, Meta};
use sealfs_server::store::alloc::{Allocator, GROUP_BLOCKS};
use sealfs_server::store::{ChunkChange, ChunkRecord, DeviceExtent, FileDevice};
use storage_support::*;

type Store = Meta<LmdbKv, FileDevice>;

fn store(dir: &tempfile::TempDir, size_bytes: u64) -> Store {
    let data = FileDevice::open(&dir.path().join("data"), Some(size_bytes)).unwrap();
    let kv = LmdbKv::open(&dir.path().join("meta")).unwrap();
    let mut options = options(1);
    options.limits = Limits::default();
    options.log_bytes = Some(256 << 20);
    Meta::open(options, kv, Arc::new(data), None).unwrap()
}

/// Median and mean of the time of one call, in µs.
fn measure(what: &str, times: usize, mut call: impl FnMut(usize)) {
    let mut ns: Vec<u64> = Vec::with_capacity(times);
    for i in 0..times {
        let start = Instant::now();
        call(i);
        ns.push(start.elapsed().as_nanos() as u64);
    }
    let mean = ns.iter().sum::<u64>() as f64 / times as f64 / 1000.0;
    ns.sort_unstable();
    let p = |q: usize| ns[times * q / 100] as f64 / 1000.0;
    println!(
        "{what:44} p50 {:8.2} µs  p99 {:8.2}  mean {mean:8.2}",
        p(50),
        p(99)
    );
}

/// Commits like the runtime does, without being measured.
fn make_room(meta: &mut Store) {
    if meta.wants_commit(0) {
        commit(meta).unwrap();
    }
}

fn write(meta: &mut Store, change: &mut ChunkChange, ino: u64, at: u32, bytes: &[u8]) {
    let key = chunk_key(ino);
    let old = meta.get(Db::Chunk, &key).unwrap();
    let old = old.map(|b| ChunkRecord::decode(b).unwrap());
    let data = [IoSlice::new(bytes)];
    let store = meta.store_mut();
    store
        .write(chunk_name(ino), old.as_ref(), at, &data, how(false), change)
        .unwrap();
    let mut group = meta.group();
    group.sub(PARTITION, EPOCH, NO_TXN);
    group.put_chunk(&key, change);
    meta.append(group).unwrap();
    meta.write_out().unwrap();
}

fn bench_small_groups() {
    let dir = tempfile::tempdir().unwrap();
    let mut meta = store(&dir, 2 << 30);
    let value = [7; 160];
    let mut name = *b"file-00000000";
    let append = |meta: &mut Store, name: &mut [u8; 13], i: usize| {
        name[5..].copy_from_slice(format!("{i:08}").as_bytes());
        let mut group = meta.group();
        group.sub(PARTITION, EPOCH, NO_TXN);
        group.put(
            Db::Dent,
            &key::dent(PARTITION, InodeId(1), &name[..]),
            &value[..16],
        );
        group.put(Db::Ino, &key::ino(PARTITION, InodeId(i as u64)), &value);
        group.put(Db::Slot, &key::ino(PARTITION, InodeId(1)), &value[..40]);
        meta.append(group).unwrap();
    };
    for (what, out_every) in [
        ("append of a create", 64),
        ("append of a create + write_out", 1),
    ] {
        measure(what, 200_000, |i| {
            append(&mut meta, &mut name, i);
            if i % out_every == 0 {
                meta.write_out().unwrap();
            }
        });
        let start = Instant::now();
        commit(&mut meta).unwrap();
        println!("commit of that: {:?}", start.elapsed());
    }
    let key_of = |i: usize| key::ino(PARTITION, InodeId(i as u64));
    measure("get from the index", 200_000, |i| {
        meta.get(Db::Ino, &key_of(i * 7919 % 200_000))
            .unwrap()
            .unwrap();
    });
}

fn bench_chunk_io() {
    let dir = tempfile::tempdir().unwrap();
    let mut meta = store(&dir, 8 << 30);
    let mut change = ChunkChange::default();
    let mib: Vec<u8> = (0..1 << 20).map(|i| ((i * 31) >> 3) as u8).collect();
    let mut out = vec![0; 1 << 20];

    measure("4 KiB file: write, append, write_out", 50_000, |i| {
        write(&mut meta, &mut change, i as u64, 0, &mib[..4096]);
    });
    make_room(&mut meta);
    measure("4 KiB file: read", 50_000, |i| {
        let record = meta.get(Db::Chunk, &chunk_key(i as u64)).unwrap().unwrap();
        let record = ChunkRecord::decode(record).unwrap();
        let store = meta.store();
        store
            .read(chunk_name(0), &record, 0, &mut out[..4096])
            .unwrap();
    });
    measure("100 B appended to a small file", 20_000, |i| {
        write(
            &mut meta,
            &mut change,
            1 << 20,
            (i % 8000) as u32 * 100 + 4096,
            &mib[..100],
        );
    });
    make_room(&mut meta);
    for round in ["first", "again"] {
        measure(
            &format!("1 MiB chunk: write, append, write_out ({round})"),
            1000,
            |i| {
                write(&mut meta, &mut change, 2 << 20 | i as u64, 0, &mib);
            },
        );
        commit(&mut meta).unwrap();
    }
    measure("1 MiB chunk: read", 1000, |i| {
        let key = chunk_key(2 << 20 | i as u64);
        let record = ChunkRecord::decode(meta.get(Db::Chunk, &key).unwrap().unwrap()).unwrap();
        meta.store()
            .read(chunk_name(0), &record, 0, &mut out)
            .unwrap();
    });
    let mut random = Random::new(1);
    measure(
        "4 KiB at random in 256 MiB of chunks: write",
        50_000,
        |_| {
            let (ino, at) = (2 << 20 | random.below(256), random.below(256) as u32 * 4096);
            write(&mut meta, &mut change, ino, at, &mib[..4096]);
        },
    );
    measure("the same: read", 50_000, |_| {
        let (ino, at) = (2 << 20 | random.below(256), random.below(256) as u32 * 4096);
        let record = meta.get(Db::Chunk, &chunk_key(ino)).unwrap().unwrap();
        let record = ChunkRecord::decode(record).unwrap();
        let store = meta.store();
        store
            .read(chunk_name(0), &record, at, &mut out[..4096])
            .unwrap();
    });
}

fn bench_allocator() {
    let blocks = 1 << 28; // 1 TiB
    let mut alloc = Allocator::new(blocks, false);
    let mut out = Vec::new();
    measure("allocate 4 KiB of an empty TiB", 200_000, |_| {
        alloc.allocate(1, None, &mut out);
    });
    measure("allocate 1 MiB of it", 200_000, |_| {
        alloc.allocate(256, None, &mut out);
    });
    let mut random = Random::new(3);
    while alloc.allocate(GROUP_BLOCKS, None, &mut out) {}
    while alloc.allocate(1, None, &mut out) {}
    for _ in 0..1_000_000 {
        let block = random.below(blocks);
        alloc.release(DeviceExtent { block, blocks: 1 });
    }
    measure("allocate 4 KiB of a TiB 99.6% full", 200_000, |_| {
        alloc.allocate(1, None, &mut out);
    });
}

fn bench_a_million_small_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut meta = store(&dir, 8 << 30);
    let mut change = ChunkChange::default();
    let start = Instant::now();
    for ino in 0..1_000_000u64 {
        let mut group = meta.group();
        group.sub(PARTITION, EPOCH, NO_TXN);
        let name = format!("file-{ino:08}");
        let dent = key::dent(PARTITION, InodeId(1 + ino / 1000), name.as_bytes());
        group.put(Db::Dent, &dent, &[1; 16]);
        group.put(Db::Ino, &key::ino(PARTITION, InodeId(ino)), &[2; 160]);
        let data = [IoSlice::new(&[3; 1000])];
        let store = meta.store_mut();
        store
            .write(chunk_name(ino), None, 0, &data, how(false), &mut change)
            .unwrap();
        group.put_chunk(&chunk_key(ino), &change);
        meta.append(group).unwrap();
        meta.write_out().unwrap();
        make_room(&mut meta);
    }
    println!("a million files of 1000 bytes: {:?}", start.elapsed());
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for line in status.lines().filter(|l| l.starts_with("Rss")) {
        println!("{line}");
    }
}

fn main() {
    // Cargo runs benches among the tests, too, but without this.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    bench_small_groups();
    bench_chunk_io();
    bench_allocator();
    bench_a_million_small_files();
}
