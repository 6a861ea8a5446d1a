//! Memory of mapped files and images of executables, as a process gets them over the socket.
#![allow(unsafe_code, reason = "one test maps memory as a program does")]
//!
//! # Safety
//! The one mapping is used by the one test that makes it.

use super::*;
use crate::images::Images;
use crate::mappings::Mappings;
use rustix::mm::{MapFlags, ProtFlags};
use sealfs_client::node::keeper_link::{self, MappedFile};
use sealfs_client::node::mapped::{self, FileKey};
use sealfs_client::node::wire::{FileName, ImageVersion};
use sealfs_protocol::OpenId;
use std::os::unix::process::CommandExt;

const WAIT_MS: u32 = 20_000;
const LONG: Duration = Duration::from_secs(100);
const INO: InodeId = InodeId(42);

fn key() -> FileKey {
    FileKey {
        manager: ManagerIndex(0),
        volume: VolumeId(3),
        ino: INO,
    }
}

fn kept_with(bytes: &[u8]) -> Kept {
    let kept = Kept::start(LONG);
    kept.told.files.lock().unwrap().insert(INO, bytes.to_vec());
    kept
}

fn map(kept: &Kept) -> MappedFile {
    keeper_link::map(&kept.node.runtime, key(), OpenId(1), WAIT_MS).unwrap()
}

#[test]
fn two_processes_get_the_same_memory_with_the_files_bytes() {
    let kept = kept_with(b"hello");
    assert_eq!(kept.node.arena.mapped(key()), None);
    let (one, two) = (map(&kept), map(&kept));
    assert_eq!((one.id, one.size_bytes), (two.id, 5));
    assert_eq!(kept.node.arena.mapped(key()), Some(one.id));
    sys::write_at(one.bytes_fd, 1, b"E").unwrap();
    let mut seen = [0u8; 8];
    assert_eq!(sys::read_at(two.bytes_fd, 0, &mut seen), Ok(5));
    assert_eq!(&seen[..5], b"hEllo");
}

#[test]
fn only_changed_bytes_are_written_back() {
    let kept = kept_with(&[b'.'; 600]);
    let mapped = map(&kept);
    sys::write_at(mapped.bytes_fd, 10, b"mine").unwrap();
    kept.told.files.lock().unwrap().get_mut(&INO).unwrap()[300] = b'T';
    keeper_link::write_back(&kept.node.runtime, key(), WAIT_MS).unwrap();
    assert_eq!(*kept.told.writes.lock().unwrap(), [(10, 4)]);
    let file = kept.told.files.lock().unwrap()[&INO].clone();
    assert_eq!((&file[8..16], file[300]), (b"..mine..".as_slice(), b'T'));
    keeper_link::write_back(&kept.node.runtime, key(), WAIT_MS).unwrap();
    assert_eq!(kept.told.writes.lock().unwrap().len(), 1, "nothing is new");
}

#[test]
fn changes_all_over_a_file_reach_the_servers() {
    let kept = kept_with(&vec![0u8; 3 << 20]);
    let mapped = map(&kept);
    let mut expected = vec![0u8; 3 << 20];
    for at in (0..3 << 20).step_by(4099) {
        expected[at] = 1 + (at % 200) as u8;
        sys::write_at(mapped.bytes_fd, at as u64, &expected[at..=at]).unwrap();
    }
    keeper_link::write_back(&kept.node.runtime, key(), WAIT_MS).unwrap();
    assert!(kept.told.files.lock().unwrap()[&INO] == expected);
    let written: usize = kept.told.writes.lock().unwrap().iter().map(|w| w.1).sum();
    assert_eq!(written, (3usize << 20).div_ceil(4099), "and nothing else");
}

#[test]
fn reading_takes_the_servers_bytes_but_for_those_that_a_mapping_changed() {
    let kept = kept_with(b"aaaaaaaaaa");
    let mapped = map(&kept);
    sys::write_at(mapped.bytes_fd, 3, b"M").unwrap();
    let mut from_server = *b"bbbbbbbbbb";
    mapped::overlay(mapped.bytes_fd, mapped.pristine_fd, 0, &mut from_server).unwrap();
    assert_eq!(&from_server, b"bbbMbbbbbb");
    mapped::write_through(mapped.bytes_fd, mapped.pristine_fd, 3, b"w").unwrap();
    keeper_link::write_back(&kept.node.runtime, key(), WAIT_MS).unwrap();
    assert!(
        kept.told.writes.lock().unwrap().is_empty(),
        "a write goes to the servers itself"
    );
}

#[test]
fn a_truncated_file_has_shorter_memory_and_nothing_past_its_end_is_written() {
    let kept = kept_with(&[b'.'; 100]);
    let mapped = map(&kept);
    kept.told
        .files
        .lock()
        .unwrap()
        .get_mut(&INO)
        .unwrap()
        .truncate(50);
    keeper_link::resized(&kept.node.runtime, key(), 50, WAIT_MS).unwrap();
    assert_eq!(sys::fstat(mapped.bytes_fd).unwrap().st_size, 50);
    assert_eq!(kept.node.arena.mapped_size(mapped.id), Some(50));
    sys::write_at(mapped.bytes_fd, 48, b"XXXX").unwrap();
    keeper_link::write_back(&kept.node.runtime, key(), WAIT_MS).unwrap();
    assert_eq!(*kept.told.writes.lock().unwrap(), [(48, 2)]);
}

#[test]
fn a_file_that_is_gone_is_the_askers_error() {
    let kept = Kept::start(LONG);
    let none = keeper_link::map(&kept.node.runtime, key(), OpenId(1), WAIT_MS);
    assert_eq!(none.err(), Some(Errno::ESTALE));
    assert_eq!(kept.node.arena.mapped(key()), None);
}

#[test]
fn memory_stays_while_it_is_mapped_and_its_last_changes_reach_the_servers() {
    let kept = kept_with(&[b'.'; 100]);
    let clusters: Arc<dyn Clusters> = Arc::new(One(Arc::clone(&kept.told)));
    let mappings = Mappings::new(Arc::clone(&kept.node), clusters);
    mappings.hurry();
    let name = FileName {
        manager: 0,
        volume: VolumeId(3),
        ino: INO,
    };
    let granted = mappings.map(name, OpenId(1)).unwrap();
    let (rw, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    let fd = sys::borrow(granted.bytes.raw());
    // SAFETY: a new mapping; unmapped below.
    let memory = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 100, rw, shared, fd, 0) };
    let memory = memory.unwrap();
    mappings.tend();
    assert!(kept.node.arena.mapped(key()).is_some(), "somebody maps it");
    // SAFETY: within the mapping made above, which nobody else uses.
    unsafe {
        memory.cast::<u8>().add(7).write(b'Z');
        rustix::mm::munmap(memory, 100).unwrap();
    }
    mappings.tend();
    assert_eq!(kept.node.arena.mapped(key()), None);
    assert_eq!(kept.told.files.lock().unwrap()[&INO][7], b'Z');
    assert_eq!(
        kept.told.closed.lock().unwrap().len(),
        1,
        "its own description"
    );
}

#[test]
fn a_keeper_that_is_told_to_end_writes_back_what_is_mapped_and_goes() {
    let mut kept = kept_with(&[b'.'; 100]);
    let mapped = map(&kept);
    let (rw, shared) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
    let fd = sys::borrow(mapped.bytes_fd);
    // SAFETY: a new mapping; it goes with this process.
    let memory = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 100, rw, shared, fd, 0) };
    // SAFETY: within the mapping made above, which nobody else uses.
    unsafe { memory.unwrap().cast::<u8>().add(7).write(b'Z') };
    let before = Instant::now();
    assert_eq!(kept.stop(), End::Signal);
    assert!(before.elapsed() < Duration::from_millis(1_500));
    assert_eq!(kept.told.files.lock().unwrap()[&INO][7], b'Z');
}

#[test]
fn an_executable_becomes_a_sealed_image_that_runs() {
    let program = std::fs::read("/bin/true").unwrap();
    let kept = kept_with(&program);
    let version = ImageVersion {
        size_bytes: program.len() as u64,
        mtime_ns: 1,
        ctime_ns: 1,
    };
    let get = |version| {
        keeper_link::image(
            &kept.node.runtime,
            key(),
            OpenId(1),
            version,
            b"true",
            WAIT_MS,
        )
    };
    let fd = get(version).unwrap();
    assert_eq!(sys::write_at(fd, 0, b"x"), Err(Errno::EPERM));
    let mut command = Command::new(format!("/proc/{}/fd/{fd}", std::process::id()));
    assert!(command.arg0("true").status().unwrap().success());
    let standing = kept.told.executed.lock().unwrap().clone();
    assert_eq!(standing.len(), 1, "nobody writes it meanwhile");
    assert!(kept.told.closed.lock().unwrap().is_empty());
    kept.told.files.lock().unwrap().clear();
    assert!(get(version).is_ok(), "the second time nobody is asked");
    let other = ImageVersion {
        mtime_ns: 2,
        ..version
    };
    assert_eq!(get(other), Err(Errno::ESTALE));
}

#[test]
fn a_file_can_be_written_when_the_last_that_runs_it_has_ended() {
    let program = std::fs::read("/bin/cat").unwrap();
    let kept = kept_with(&program);
    let images = Images::new(
        Arc::clone(&kept.node),
        Arc::new(One(Arc::clone(&kept.told))),
    );
    let version = ImageVersion {
        size_bytes: program.len() as u64,
        mtime_ns: 1,
        ctime_ns: 1,
    };
    let name = FileName {
        manager: 0,
        volume: VolumeId(3),
        ino: INO,
    };
    // Asked for by a process that is gone: only its being executed keeps the file.
    let fd = images
        .get(name, (OpenId(1), u32::MAX), version, b"cat")
        .unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), fd.raw());
    let mut running = Command::new(path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let again = images.get(name, (OpenId(1), u32::MAX), version, b"cat");
    assert!(again.is_ok());
    let closed = || kept.told.closed.lock().unwrap().len();
    let stood = kept.told.executed.lock().unwrap().len();
    images.tend();
    assert_eq!(closed(), stood - 1, "the one that stands for what runs");
    drop(running.stdin.take());
    running.wait().unwrap();
    images.tend();
    assert_eq!(closed(), stood);
}
