//! The locks on one file, byte by byte: record locks, or flock(2) with a single byte.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::linear::Object;
use sealfs_protocol::Errno;

#[derive(Clone, Default, PartialEq, Eq, Hash, Debug)]
pub struct Locks {
    /// Whether the owner holds the byte for writing.
    held: BTreeMap<(u64, u8), bool>,
    /// As flock(2): who asks for another lock gives up the one it has first.
    gives_up: bool,
}

#[derive(Clone, Debug)]
pub enum LockCall {
    /// For writing or reading, waiting or not.
    Take {
        owner: u64,
        write: bool,
        bytes: Range<u8>,
    },
    Release {
        owner: u64,
        bytes: Range<u8>,
    },
    /// Whether such a lock could be had.
    Test {
        owner: u64,
        write: bool,
        bytes: Range<u8>,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LockAnswer {
    Done,
    /// EAGAIN, EDEADLK: there was a lock in the way.
    Refused(Errno),
    /// Whether there was a lock in the way.
    InTheWay(bool),
}

impl Locks {
    pub fn flock() -> Locks {
        Locks {
            held: BTreeMap::new(),
            gives_up: true,
        }
    }

    fn in_the_way(&self, owner: u64, write: bool, bytes: &Range<u8>) -> bool {
        let others = self.held.iter().filter(|((o, _), _)| *o != owner);
        let mut others = others.filter(|((_, byte), _)| bytes.contains(byte));
        others.any(|(_, theirs)| write || *theirs)
    }

    fn release(&mut self, owner: u64, bytes: &Range<u8>) {
        self.held
            .retain(|(o, byte), _| *o != owner || !bytes.contains(byte));
    }
}

impl Object for Locks {
    type Call = LockCall;
    type Answer = LockAnswer;

    fn carry_out(&mut self, call: &LockCall, answer: Option<&LockAnswer>) -> bool {
        match call {
            LockCall::Take {
                owner,
                write,
                bytes,
            } => {
                let blocked = self.in_the_way(*owner, *write, bytes);
                if blocked && self.gives_up {
                    self.release(*owner, bytes);
                }
                if !blocked {
                    for byte in bytes.clone() {
                        self.held.insert((*owner, byte), *write);
                    }
                }
                match answer {
                    None => true,
                    Some(LockAnswer::Done) => !blocked,
                    Some(LockAnswer::Refused(_)) => blocked,
                    Some(LockAnswer::InTheWay(_)) => false,
                }
            }
            LockCall::Release { owner, bytes } => {
                self.release(*owner, bytes);
                answer.is_none_or(|a| *a == LockAnswer::Done)
            }
            LockCall::Test {
                owner,
                write,
                bytes,
            } => {
                let blocked = self.in_the_way(*owner, *write, bytes);
                answer.is_none_or(|a| *a == LockAnswer::InTheWay(blocked))
            }
        }
    }
}
