//! The model's calls as requests, and replies as the model's answers.

use std::ops::Range;

use sealfs_protocol::attr::SetAttr;
use sealfs_protocol::message::{At, LockOwner, LockRange, LockSpace, LockType, Op, OpReply, Stop};
use sealfs_protocol::{Errno, InodeId, OpenId, TruncateGeneration};
use sealfs_testkit::client::at;
use sealfs_testkit::model::{
    ContentAnswer, ContentCall, LockAnswer, LockCall, NameAnswer, NameCall, Place,
};
use sealfs_testkit::{Client, Outcome};

use crate::listing::Listing;
use crate::{O_CREAT, O_EXCL, O_RDWR};

const RENAME_NOREPLACE: u32 = 1;
const RENAME_EXCHANGE: u32 = 2;
const READ_BYTES: u32 = 1 << 16;
/// fallocate(2): `FALLOC_FL_PUNCH_HOLE` with `FALLOC_FL_KEEP_SIZE`.
pub const PUNCH_HOLE: u32 = 3;

fn at_of(place: &Place) -> At {
    at(place.0, &place.1)
}

pub fn name_op(call: &NameCall, client: &mut Client) -> Op {
    match call {
        NameCall::Create(place) => open_op(place, O_RDWR | O_CREAT | O_EXCL, client.fresh_open()),
        NameCall::MakeDir(place) => Op::MakeDir {
            at: at_of(place),
            mode: 0o755,
        },
        NameCall::Unlink(place) => Op::Unlink { at: at_of(place) },
        NameCall::RemoveDir(place) => Op::RemoveDir { at: at_of(place) },
        NameCall::Rename {
            from,
            to,
            noreplace,
            exchange,
        } => Op::Rename {
            from: at_of(from),
            to: at_of(to),
            flags: (RENAME_NOREPLACE * u32::from(*noreplace))
                | (RENAME_EXCHANGE * u32::from(*exchange)),
        },
        NameCall::Link(ino, place) => Op::Link {
            ino: *ino,
            to: at_of(place),
            from_open: None,
        },
        NameCall::Lookup(place) | NameCall::Differs(place, _) => Op::GetAttr {
            at: at_of(place),
            follow: false,
        },
        NameCall::List(dir) => Listing::new(*dir, READ_BYTES).ask().1,
        NameCall::Links(ino) => Op::GetAttr {
            at: at(*ino, ""),
            follow: false,
        },
    }
}

pub fn open_op(place: &Place, flags: u32, open: OpenId) -> Op {
    Op::Open {
        at: at_of(place),
        flags,
        mode: 0o644,
        open,
        read_bytes: 0,
    }
}

pub fn content_op(
    ino: InodeId,
    call: &ContentCall,
    generation: TruncateGeneration,
) -> (Op, Vec<u8>) {
    match call {
        ContentCall::Resize(size) => {
            let set = SetAttr {
                size_bytes: Some(*size as u64),
                by_handle: true,
                ..SetAttr::default()
            };
            let at = at(ino, "");
            let follow = false;
            (Op::SetAttr { at, follow, set }, Vec::new())
        }
        ContentCall::Punch(bytes) => {
            let op = Op::Allocate {
                ino,
                mode: PUNCH_HOLE,
                offset: bytes.start as u64,
                len: bytes.len() as u64,
                open: OpenId(1),
            };
            (op, Vec::new())
        }
        ContentCall::Append(bytes) => {
            let op = Op::Append {
                ino,
                len_bytes: bytes.len() as u32,
                open: OpenId(1),
            };
            (op, bytes.clone())
        }
        ContentCall::Write(offset, bytes) => {
            let op = Op::Write {
                ino,
                chunk: 0,
                offset_bytes: *offset as u32,
                len_bytes: bytes.len() as u32,
                generation,
                open: OpenId(1),
            };
            (op, bytes.clone())
        }
        ContentCall::Read => {
            let op = Op::Read {
                ino,
                chunk: 0,
                offset_bytes: 0,
                len_bytes: READ_BYTES,
                atime: true,
                generation,
            };
            (op, Vec::new())
        }
    }
}

pub fn lock_op(
    ino: InodeId,
    call: &LockCall,
    wait: bool,
    space: LockSpace,
    owner: LockOwner,
) -> Op {
    let range = |bytes: &Range<u8>, kind| {
        let whole = space == LockSpace::Flock;
        LockRange {
            space,
            owner,
            kind,
            start: u64::from(bytes.start),
            last: if whole {
                u64::MAX
            } else {
                u64::from(bytes.end) - 1
            },
            pid: 1,
        }
    };
    let kind = |write: &bool| match write {
        true => LockType::Write,
        false => LockType::Read,
    };
    match call {
        LockCall::Take { write, bytes, .. } => Op::Lock {
            ino,
            range: range(bytes, kind(write)),
            wait: wait.then_some(0),
        },
        LockCall::Release { bytes, .. } => Op::Lock {
            ino,
            range: range(bytes, LockType::Unlock),
            wait: None,
        },
        LockCall::Test { write, bytes, .. } => Op::TestLock {
            ino,
            range: range(bytes, kind(write)),
        },
    }
}

pub fn name_answer(call: &NameCall, outcome: &Outcome) -> NameAnswer {
    match (&outcome.reply, call) {
        (OpReply::Errno(errno), _) => NameAnswer::Errno(*errno),
        (OpReply::Done, _) => NameAnswer::Done,
        (OpReply::Attr(attr), NameCall::Links(_)) => NameAnswer::Links(attr.nlink),
        (OpReply::Opened { attr, .. } | OpReply::Attr(attr), _) => NameAnswer::Ino(attr.ino),
        (OpReply::Walked(walked), NameCall::Lookup(_)) if walked.stop == Stop::Elsewhere => {
            NameAnswer::Ino(walked.base)
        }
        (other, call) => panic!("{call:?}: {other:?}"),
    }
}

pub fn content_answer(outcome: &Outcome) -> ContentAnswer {
    match outcome.reply {
        OpReply::Written { offset, .. } => ContentAnswer::At(offset as usize),
        OpReply::Attr(_) => ContentAnswer::Written,
        OpReply::Read { .. } => ContentAnswer::Bytes(outcome.payload.clone()),
        ref other => panic!("an open file: {other:?}"),
    }
}

pub fn lock_answer(outcome: &Outcome) -> LockAnswer {
    match &outcome.reply {
        OpReply::Done => LockAnswer::Done,
        OpReply::Errno(errno @ (Errno::EAGAIN | Errno::EDEADLK)) => LockAnswer::Refused(*errno),
        OpReply::LockHeld(held) => LockAnswer::InTheWay(held.is_some()),
        other => panic!("a lock: {other:?}"),
    }
}
