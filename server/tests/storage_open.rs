//! Opening stores on real files and LMDB: what is refused, with which words, and what survives.
#![allow(clippy::unwrap_used, reason = "tests")]

mod storage_support;

use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use sealfs_protocol::errno::Errno;
use sealfs_protocol::ids::{ClusterId, InodeId, ShardId};
use sealfs_server::env::{BlockDevice, Kv};
use sealfs_server::meta::db::key;
use sealfs_server::meta::{Db, LmdbKv, MemoryKv, Meta, OpenError, Options};
use sealfs_server::store::{ChunkChange, ChunkRecord, FileDevice, StoreError};
use storage_support::*;

const SIZE: u64 = 16 << 20;

type FileStore = Meta<LmdbKv, FileDevice>;

fn open_files(dir: &Path, options: Options) -> Result<FileStore, OpenError> {
    let data = Arc::new(FileDevice::open(&dir.join("data"), Some(SIZE))?);
    Meta::open(options, LmdbKv::open(&dir.join("meta"))?, data, None)
}

fn put<K: Kv, D: BlockDevice>(meta: &mut Meta<K, D>, ino: u64, value: &[u8]) {
    let mut group = meta.group();
    group.sub(PARTITION, EPOCH, NO_TXN);
    group.put(Db::Ino, &key::ino(PARTITION, InodeId(ino)), value);
    meta.append(group).unwrap();
}

fn value<K: Kv, D: BlockDevice>(meta: &Meta<K, D>, ino: u64) -> Option<Vec<u8>> {
    let key = key::ino(PARTITION, InodeId(ino));
    meta.get(Db::Ino, &key).unwrap().map(<[u8]>::to_vec)
}

fn write_file<K: Kv, D: BlockDevice>(meta: &mut Meta<K, D>, ino: u64, bytes: &[u8]) {
    let mut change = ChunkChange::default();
    let data = [IoSlice::new(bytes)];
    let store = meta.store_mut();
    store
        .write(chunk_name(ino), None, 0, &data, how(false), &mut change)
        .unwrap();
    let mut group = meta.group();
    group.sub(PARTITION, EPOCH, NO_TXN);
    group.put_chunk(&chunk_key(ino), &change);
    meta.append(group).unwrap();
}

fn read_file<K: Kv, D: BlockDevice>(meta: &Meta<K, D>, ino: u64) -> Result<Vec<u8>, StoreError> {
    let record = meta.get(Db::Chunk, &chunk_key(ino))?.unwrap();
    let record = ChunkRecord::decode(record)?;
    let mut out = vec![0; record.end() as usize];
    meta.store().read(chunk_name(ino), &record, 0, &mut out)?;
    Ok(out)
}

#[test]
fn what_was_written_survives_a_kill_and_what_was_committed_is_in_lmdb() {
    let dir = tempfile::tempdir().unwrap();
    let mut meta = open_files(dir.path(), options(1)).unwrap();
    put(&mut meta, 1, b"committed");
    write_file(&mut meta, 1, &[7; 10_000]);
    commit(&mut meta).unwrap();
    put(&mut meta, 2, b"flushed");
    flush(&mut meta).unwrap();
    put(&mut meta, 3, b"written");
    write_file(&mut meta, 3, b"small");
    meta.write_out().unwrap();
    put(&mut meta, 4, b"queued only");
    drop(meta);

    let meta = open_files(dir.path(), options(1)).unwrap();
    let values = [1, 2, 3, 4].map(|ino| value(&meta, ino));
    let expected = [
        Some(&b"committed"[..]),
        Some(b"flushed"),
        Some(b"written"),
        None,
    ];
    assert_eq!(values.each_ref().map(Option::as_deref), expected);
    assert_eq!(read_file(&meta, 1).unwrap(), [7; 10_000]);
    assert_eq!(read_file(&meta, 3).unwrap(), b"small");
}

#[test]
fn the_incarnation_rises_with_the_boot_id_only() {
    let dir = tempfile::tempdir().unwrap();
    let first = open_files(dir.path(), options(1)).unwrap().incarnation();
    let killed = open_files(dir.path(), options(1)).unwrap().incarnation();
    let booted = open_files(dir.path(), options(2)).unwrap().incarnation();
    assert_eq!((killed, booted > killed), (first, true));
}

#[test]
fn inode_sequences_are_never_handed_out_twice() {
    let device = CrashDevice::new("disk", SIZE as usize);
    let kv = MemoryKv::new();
    let mut random = Random::new(5);
    let mut meta = open(kv.clone(), &device).unwrap();
    let mut last = 0;
    let mut device = device;
    for _ in 0..5 {
        for _ in 0..10 {
            let next = meta.next_sequence(PARTITION).unwrap();
            assert!(next > last);
            last = next;
        }
        device = device.after_power_cut(&mut random);
        meta = open(kv.clone(), &device).unwrap();
    }
}

#[test]
fn a_partitions_own_sequence_goes_on_after_a_restart() {
    let device = CrashDevice::new("disk", SIZE as usize);
    let kv = MemoryKv::new();
    let mut meta = open(kv.clone(), &device).unwrap();
    put(&mut meta, 1, b"a");
    commit(&mut meta).unwrap();
    put(&mut meta, 2, b"b");
    meta.write_out().unwrap();
    let meta = open(kv, &device.after_kill()).unwrap();
    assert_eq!(meta.partition_sequence(PARTITION), 2);
}

#[test]
fn a_changed_byte_is_an_error_that_names_file_and_device() {
    let device = CrashDevice::new("disk", SIZE as usize);
    let mut meta = open(MemoryKv::new(), &device).unwrap();
    write_file(&mut meta, 9, &[0x5a; 8192]);
    let place = device.contents().windows(64).position(|w| w == [0x5a; 64]);
    let place = place.unwrap() as u64 + 5000;
    device.write_at(&[IoSlice::new(b"!")], place).unwrap();
    let error = read_file(&meta, 9).unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    let text = error.to_string();
    assert!(
        text.contains("file 0:9") && text.contains("disk at byte"),
        "{text}"
    );
    assert!(text.contains("byte 4096:"), "{text}");
}

#[test]
fn a_failed_flush_makes_the_store_read_only() {
    let device = CrashDevice::new("disk", SIZE as usize);
    let mut meta = open(MemoryKv::new(), &device).unwrap();
    put(&mut meta, 1, b"before");
    device.fail_flushes();
    let job = meta.begin_flush().unwrap().unwrap();
    let error = meta.finish_flush(job.run()).unwrap_err();
    assert_eq!(error.errno(), Errno::EROFS);
    assert!(meta.failed().unwrap().contains("flushing disk failed"));
    let mut group = meta.group();
    group.sub(PARTITION, EPOCH, NO_TXN);
    assert!(matches!(meta.append(group), Err(StoreError::ReadOnly(_))));
    assert_eq!(value(&meta, 1).as_deref(), Some(&b"before"[..]));
}

#[test]
fn log_and_data_on_two_devices_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let device = |name: &str| {
        let path = dir.path().join(name);
        FileDevice::open(&path, Some(SIZE)).map(Arc::new)
    };
    let kv = || LmdbKv::open(&dir.path().join("meta"));
    let open = |data: &str, log: Option<&str>| {
        let log = log.map(device).transpose()?;
        Meta::open(options(1), kv()?, device(data)?, log)
    };
    let mut meta = open("data", Some("log")).unwrap();
    put(&mut meta, 1, b"x");
    meta.write_out().unwrap();
    drop(meta);

    let refusal = |data, log| open(data, log).map(|_| ()).unwrap_err().to_string();
    assert!(refusal("data", None).contains("its log is on another device"));
    assert!(refusal("data", Some("blank")).contains("is blank, but the store has a log"));
    assert!(refusal("blank", Some("log")).contains("its log device belongs to a store"));
    assert!(refusal("blank", None).contains("its meta_dir belongs to a store"));
    let meta = open("data", Some("log")).unwrap();
    assert_eq!(value(&meta, 1).as_deref(), Some(&b"x"[..]));
}

#[test]
fn a_device_of_another_cluster_or_shard_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_files(dir.path(), options(1)).unwrap());
    let before = fs::read(dir.path().join("data")).unwrap();
    let mut other = options(2);
    other.cluster = ClusterId(0xee);
    let error = open_files(dir.path(), other).map(|_| ()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("belongs to cluster c1, not to ee")
    );
    let mut other = options(2);
    other.shard = ShardId(4);
    let error = open_files(dir.path(), other).map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("belongs to shard 3, not to 4"));
    assert!(before == fs::read(dir.path().join("data")).unwrap());
}

#[test]
fn a_second_opening_of_the_same_store_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = open_files(dir.path(), options(1)).unwrap();
    let error = open_files(dir.path(), options(1)).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    let error = LmdbKv::open(&dir.path().join("meta"))
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
}

#[test]
fn a_lost_index_is_refused_rather_than_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_files(dir.path(), options(1)).unwrap());
    fs::remove_dir_all(dir.path().join("meta")).unwrap();
    let error = open_files(dir.path(), options(1)).map(|_| ()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("its index (meta_dir) is missing"),
        "{error}"
    );
}

#[test]
fn a_device_too_small_or_with_something_on_it_is_refused_and_left_alone() {
    let error = open(MemoryKv::new(), &memory(4 << 20))
        .map(|_| ())
        .unwrap_err();
    assert!(matches!(error, OpenError::TooSmall { .. }), "{error}");

    let device = CrashDevice::new("disk", SIZE as usize);
    device
        .write_at(&[IoSlice::new(&[0x53, 0xef])], 0x438)
        .unwrap();
    let before = device.contents();
    let error = open(MemoryKv::new(), &device).map(|_| ()).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("disk: holds an ext2/3/4 file system"),
        "{text}"
    );
    assert!(before == device.contents());
}

#[test]
fn a_directory_or_a_missing_file_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |path: &Path, create| FileDevice::open(path, create).map(|_| ()).unwrap_err();
    assert!(matches!(
        refusal(dir.path(), None),
        OpenError::Foreign { .. }
    ));
    let missing = dir.path().join("missing");
    let text = refusal(&missing, None).to_string();
    assert!(
        text.contains("missing") && text.contains("No such file"),
        "{text}"
    );
    let text = refusal(&missing, Some(1 << 20)).to_string();
    assert!(text.contains("1048576 bytes are too few"), "{text}");
    assert!(!missing.exists());
}

#[test]
fn an_interrupted_format_is_finished_at_the_next_opening() {
    let mut random = Random::new(11);
    for writes in (0..12).cycle().take(60) {
        let device = CrashDevice::new("disk", SIZE as usize);
        let kv = MemoryKv::new();
        device.fail_writes_after(writes);
        let first = open(kv.clone(), &device).map(|_| ());
        assert!(writes > 7 || first.is_err());
        let mut meta = open(kv, &device.after_power_cut(&mut random)).unwrap();
        put(&mut meta, 1, b"serves");
        flush(&mut meta).unwrap();
    }
}

#[test]
fn the_log_of_an_earlier_store_on_the_device_is_not_replayed() {
    let device = CrashDevice::new("disk", SIZE as usize);
    let mut meta = open(MemoryKv::new(), &device).unwrap();
    put(&mut meta, 1, b"of the earlier store");
    meta.write_out().unwrap();
    let wiped = [IoSlice::new(&[0; 4096])];
    for superblock in [0, 65536] {
        device.write_at(&wiped, superblock).unwrap();
    }
    let kv = MemoryKv::new();
    drop(open(kv.clone(), &device).unwrap());
    let meta = open(kv, &device).unwrap();
    assert_eq!(value(&meta, 1), None);
}

#[test]
fn without_room_a_change_is_refused_until_a_commit_makes_some() {
    let device = memory(SIZE as usize);
    let mut meta = open(MemoryKv::new(), &device).unwrap();
    let mut ino = 0;
    while meta.has_room(60_000) {
        ino += 1;
        put(&mut meta, ino, &vec![1; 60_000]);
    }
    assert!(meta.wants_commit(0));
    commit(&mut meta).unwrap();
    assert!(meta.has_room(60_000));
}

#[test]
fn an_idle_store_comes_to_rest() {
    let device = memory(SIZE as usize);
    let mut meta = open(MemoryKv::new(), &device).unwrap();
    assert!(!meta.wants_flush(0));
    write_file(&mut meta, 1, &[1; 4096]);
    let record = ChunkRecord::decode(meta.get(Db::Chunk, &chunk_key(1)).unwrap().unwrap()).unwrap();
    let mut group = meta.group();
    group.sub(PARTITION, EPOCH, NO_TXN);
    group.drop_chunk(&chunk_key(1), &record);
    meta.append(group).unwrap();
    let mut flushes = 0;
    for second in 0..20 {
        let now_ns = second * 1_000_000_000;
        if meta.wants_flush(now_ns) {
            flushes += 1;
            let job = meta.begin_flush().unwrap().unwrap();
            meta.finish_flush(job.run()).unwrap();
        }
    }
    assert_eq!(
        flushes, 2,
        "one for the data, one for the barrier that frees the blocks"
    );
    assert_eq!(meta.store().space().pending_bytes, 0);
}
