//! What a client does to the bytes of a file: one change, how it is chosen, and what it makes of the
//! bytes that are known. How it is sent is in `work`.

use sealfs_protocol::InodeId;
use sealfs_testkit::Random;

/// Files have up to five chunks of 64 KiB.
const OFFSET_MAX: u64 = 200_000;

const LEN_MAX: u64 = 90_000;

/// What is done to the bytes.
#[derive(Clone, Debug)]
pub enum Change {
    Write(u64, Vec<u8>),
    Append(Vec<u8>),
    /// Of another file, from an offset there, to an offset here.
    Copy(InodeId, u64, u64, usize),
    Resize(u64),
    /// A hole, or zeros that may lie behind the end.
    Punch(u64, u64),
    Zero(u64, u64),
    /// Space for what may lie behind the end, to which the file grows or not.
    Reserve(u64, u64, bool),
    Read(u64, usize),
}

impl Change {
    /// To a file with these bytes, beside another one.
    pub fn choose(random: &mut Random, other: (InodeId, &[u8])) -> Change {
        let small = random.one_in(2);
        let (offset_max, len_max) = if small {
            (9_000, 5_000)
        } else {
            (OFFSET_MAX, LEN_MAX)
        };
        let (offset, len) = (random.below(offset_max), 1 + random.below(len_max));
        let byte = random.below(255) as u8 + 1;
        let bytes = || vec![byte; len as usize];
        match random.below(12) {
            0..3 => Change::Append(bytes()),
            3..6 => Change::Write(offset, bytes()),
            6 | 7 => {
                let from = random.below(other.1.len() as u64 + 1);
                let left = other.1.len() as u64 - from;
                if left == 0 {
                    return Change::Resize(offset);
                }
                Change::Copy(other.0, from, offset, len.min(left) as usize)
            }
            8 => Change::Resize(offset),
            9 => Change::Punch(offset, len),
            10 if small => Change::Reserve(offset, len, random.one_in(2)),
            10 => Change::Zero(offset, len),
            _ => Change::Read(offset, len as usize),
        }
    }

    /// Puts the first `landed` bytes of what is written into a file; `source` is what is copied.
    pub fn apply(&self, content: &mut Vec<u8>, source: &[u8], landed: usize) {
        let put = |content: &mut Vec<u8>, at: u64, bytes: &[u8]| {
            let (at, end) = (at as usize, at as usize + bytes.len());
            content.resize(content.len().max(end), 0);
            content[at..end].copy_from_slice(bytes);
        };
        match self {
            _ if landed == 0 => {}
            Change::Write(at, bytes) => put(content, *at, &bytes[..landed]),
            Change::Copy(_, from, at, _) => put(content, *at, &source[*from as usize..][..landed]),
            Change::Append(bytes) => content.extend(bytes),
            Change::Resize(size) => content.resize(*size as usize, 0),
            Change::Zero(at, len) => put(content, *at, &vec![0; *len as usize]),
            Change::Punch(at, len) => {
                let end = content.len().min((at + len) as usize);
                let from = end.min(*at as usize);
                content[from..end].fill(0);
            }
            Change::Reserve(at, len, true) => {
                content.resize(content.len().max((at + len) as usize), 0);
            }
            Change::Reserve(..) | Change::Read(..) => {}
        }
    }

    /// What grows may find no room.
    pub fn may_be_refused(&self) -> bool {
        matches!(
            self,
            Change::Write(..)
                | Change::Append(_)
                | Change::Copy(..)
                | Change::Zero(..)
                | Change::Reserve(..)
        )
    }

    pub fn source(&self) -> Option<InodeId> {
        match self {
            Change::Copy(source, ..) => Some(*source),
            _ => None,
        }
    }
}
