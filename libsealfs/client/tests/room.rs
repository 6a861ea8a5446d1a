//! Writes at the edge of a quota: what fits is written, and the next one is refused.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

mod sim;

use sealfs_client::{Client, FileRef, IoVec};
use sealfs_protocol::attr::{Attr, Layout, S_IFREG};
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, Incarnation, InodeId, OpenId};
use sim::{Act, Seen};
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

const BLOCK: u64 = 4096;
const LAYOUT: Layout = Layout {
    chunk_size_log2: 16,
    width: 4,
};
const FILE: FileRef = FileRef {
    ino: InodeId(0x0003_0000_0000_004d),
    open: OpenId(1),
};

/// One file's blocks and size, and how many blocks there may be.
#[derive(Default)]
struct Store {
    blocks: HashSet<u64>,
    room: usize,
    /// There is none at all in this chunk.
    full: Option<u64>,
    size: u64,
    asked: usize,
    doubted: usize,
}

impl Store {
    fn put(&mut self, offset: u64, len: u32) -> OpReply {
        self.asked += 1;
        let end = offset + u64::from(len);
        let mut blocks = self.blocks.clone();
        blocks.extend(offset / BLOCK..end.div_ceil(BLOCK));
        if blocks.len() > self.room || self.full == Some(offset >> 16) {
            return OpReply::Errno(Errno::EDQUOT);
        }
        self.blocks = blocks;
        self.written(offset)
    }

    fn written(&self, offset: u64) -> OpReply {
        OpReply::Written {
            offset,
            size_bytes: self.size,
            incarnation: Incarnation(1),
        }
    }

    fn serve(&mut self, seen: &Seen) -> Act {
        let mut replies: Vec<OpReply> = Vec::new();
        for entry in &seen.request.ops {
            let failed = replies.iter().find(|r| matches!(r, OpReply::Errno(_)));
            let reply = match (&entry.op, failed.cloned()) {
                (Op::GetAttr { .. }, _) => OpReply::Attr(Attr {
                    ino: FILE.ino,
                    mode: S_IFREG | 0o644,
                    layout: LAYOUT,
                    size_bytes: self.size,
                    wide: true,
                    ..Attr::default()
                }),
                (_, Some(failed)) => failed,
                (
                    Op::Write {
                        chunk,
                        offset_bytes,
                        len_bytes,
                        ..
                    },
                    None,
                ) => self.put(chunk << 16 | u64::from(*offset_bytes), *len_bytes),
                (Op::Append { len_bytes, .. }, None) => {
                    let reply = self.put(self.size, *len_bytes);
                    if let OpReply::Written { .. } = reply {
                        self.size += u64::from(*len_bytes);
                    }
                    reply
                }
                (
                    Op::Publish {
                        size_at_least_bytes,
                        ..
                    },
                    None,
                ) => {
                    self.size = self.size.max(*size_at_least_bytes);
                    self.written(0)
                }
                (Op::Doubt { .. }, None) => {
                    self.doubted += 1;
                    OpReply::Done
                }
                (other, _) => panic!("{other:?}"),
            };
            replies.push(reply);
        }
        Act::Reply(replies, Vec::new())
    }
}

fn client(room: usize) -> (Client, Arc<Mutex<Store>>) {
    let store = Arc::new(Mutex::new(Store {
        room,
        ..Store::default()
    }));
    let served = Arc::clone(&store);
    let (client, _) = sim::client(1, move |seen| served.lock().unwrap().serve(seen));
    (client, store)
}

#[test]
fn a_write_that_fits_in_part_is_short_and_the_next_is_refused() {
    for (offset, room) in [(0, 1), (0, 37), (100, 5), (4095, 20), (70_000, 33)] {
        let (client, store) = client(room);
        let data = vec![1; 300_000];
        let fits = (offset / BLOCK + room as u64) * BLOCK - offset;
        let sources = [IoVec::new(&data)];
        let count = client.write(FILE, offset, &sources);
        assert_eq!(count, Ok(fits as usize), "{room} blocks at {offset}");
        let rest = [IoVec::new(&data[fits as usize..])];
        let next = client.write(FILE, offset + fits, &rest);
        assert_eq!(next, Err(Errno::EDQUOT));
        let store = store.lock().unwrap();
        assert_eq!(store.blocks.len(), room);
    }
}

#[test]
fn the_owner_hears_of_what_has_landed_behind_a_refused_piece() {
    let store = Arc::new(Mutex::new(Store {
        room: usize::MAX,
        full: Some(1),
        ..Store::default()
    }));
    let served = Arc::clone(&store);
    let (client, _) = sim::client(3, move |seen| served.lock().unwrap().serve(seen));
    let data = vec![1; 4 << 16];
    assert_eq!(client.write(FILE, 0, &[IoVec::new(&data)]), Ok(1 << 16));
    assert_eq!(store.lock().unwrap().doubted, 1);
}

#[test]
fn a_write_where_nothing_is_left_is_refused_after_one_more_try() {
    let (client, store) = client(0);
    let data = vec![1; 60_000];
    let count = client.write(FILE, 0, &[IoVec::new(&data)]);
    assert_eq!(count, Err(Errno::EDQUOT));
    assert_eq!(store.lock().unwrap().asked, 2);
}

#[test]
fn appends_fill_up_to_the_last_block() {
    let (client, store) = client(37);
    let data = vec![1; 300_000];
    let mut written = 0;
    let refused = loop {
        match client.append(FILE, &[IoVec::new(&data[written..])]) {
            Ok((count, end)) => {
                written += count;
                assert_eq!(end, written as u64);
            }
            Err(errno) => break errno,
        }
    };
    assert_eq!((written as u64, refused), (37 * BLOCK, Errno::EDQUOT));
    assert_eq!(store.lock().unwrap().blocks.len(), 37);
}
