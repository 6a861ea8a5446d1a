//! The counters of `sealfs profile`, mapped by the command and by those it counts.

use super::super::profile::{Did, Profile, Why};
use super::Place;
use sealfs_protocol::Errno;

const READ: usize = 0;
const OPEN: usize = 2;

#[test]
fn what_others_count_is_what_the_command_reads() {
    let place = Place::new();
    let runtime = place.runtime();
    let command = Profile::create(&runtime, 1).unwrap();
    let path = Profile::path(&runtime, 1);
    for _ in 0..2 {
        let image = Profile::join(path.as_c_str()).unwrap();
        let did = |ns, failed, bytes| Did::Ours {
            ns: Some(ns),
            failed,
            bytes,
        };
        image.note(READ, "read", did(1000, false, 70), 1);
        image.note(READ, "read", did(9000, true, 0), 0);
        image.note(READ, "read", Did::Kernel(Why::Descriptor), 0);
        image.note(OPEN, "open", Did::Kernel(Why::Path), 0);
        image.note(usize::MAX, "beyond the table", Did::Kernel(Why::Part), 0);
    }
    assert_eq!(command.images(), 2);
    let totals = command.totals();
    let names: Vec<&str> = totals.iter().map(|t| &t.name[..]).collect();
    assert_eq!(names, ["read", "open"], "by time");
    let read = &totals[0];
    assert_eq!((read.ours, read.failed, read.theirs), (4, 2, [0, 2, 0]));
    assert_eq!((read.bytes, read.requests, read.total_ns), (140, 2, 20_000));
    assert!(read.p50_ns.abs_diff(1000) < 32 && read.p99_ns.abs_diff(9000) < 288);
    assert_eq!((totals[1].theirs, totals[1].p50_ns), ([2, 0, 0], 0));
}

#[test]
fn a_file_that_holds_no_counters_is_refused() {
    let place = Place::new();
    let runtime = place.runtime();
    let path = Profile::path(&runtime, 1);
    assert_eq!(Profile::join(path.as_c_str()).unwrap_err(), Errno::ENOENT);
    std::fs::write(place.path.join("profile-1"), vec![0u8; 4096]).unwrap();
    assert_eq!(Profile::join(path.as_c_str()).unwrap_err(), Errno::EINVAL);
    std::fs::write(place.path.join("profile-1"), vec![0u8; 4 << 20]).unwrap();
    assert_eq!(Profile::join(path.as_c_str()).unwrap_err(), Errno::EINVAL);
}
