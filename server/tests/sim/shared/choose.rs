//! What a client does next where others do the same, chosen at random by what it has open and locked.
//!
//! `shared` sends it and takes its outcome. What must stay true: who holds a lock does not wait for
//! another, so that no circle closes.

use sealfs_testkit::model::{ContentCall, LockCall, NameCall};
use sealfs_testkit::{Client, Random};

use super::{Asked, Common, LOCK_BYTES, OPEN_MAX, Shared};
use crate::listing::Listing;

impl Shared {
    pub fn begin(&mut self, random: &mut Random, common: &Common, client: &mut Client) -> Asked {
        if let Some(asked) = self.todo.pop_front() {
            return asked;
        }
        match random.below(10) {
            0..6 => self.names(random, common, client),
            6 | 7 => self.content(random, common, client),
            _ => self.locks(random, common, client),
        }
    }

    /// Gives back one thing after the other.
    pub fn drain(&mut self, client: &Client) -> Option<Asked> {
        self.todo.clear();
        let owner = client.id.0 as u64;
        if let Some(ino) = self.locked.pop() {
            let bytes = 0..LOCK_BYTES as u8;
            return Some(Asked::Record(
                ino,
                LockCall::Release { owner, bytes },
                false,
            ));
        }
        if let Some(ino) = self.flocked.pop() {
            let call = LockCall::Release { owner, bytes: 0..1 };
            return Some(Asked::Flock(ino, call, false));
        }
        self.open.pop().map(|(ino, open)| Asked::Close(ino, open))
    }

    fn names(&mut self, random: &mut Random, common: &Common, client: &mut Client) -> Asked {
        let (a, b) = (common.place(random), common.place(random));
        Asked::Name(match random.below(100) {
            0..12 if self.open.len() < OPEN_MAX + 2 => NameCall::Create(a),
            0..12 if random.one_in(2) => {
                return self
                    .close(random)
                    .unwrap_or(Asked::Name(NameCall::Lookup(a)));
            }
            0..24 => NameCall::MakeDir(a),
            24..34 => NameCall::Unlink(a),
            34..42 => NameCall::RemoveDir(a),
            42..64 => NameCall::Rename {
                from: a,
                to: b,
                noreplace: random.one_in(6),
                exchange: false,
            },
            64..70 => NameCall::Rename {
                from: a,
                to: b,
                noreplace: false,
                exchange: true,
            },
            70..77 => match common.recent.get(random.below(4) as usize) {
                Some(ino) => NameCall::Link(*ino, a),
                None => NameCall::Create(a),
            },
            77..84 => NameCall::Lookup(a),
            84..89 => {
                let limit_bytes = if random.one_in(2) { 64 } else { 4096 };
                return Asked::List(Listing::new(a.0, limit_bytes));
            }
            89..93 => match self.open.get(random.below(4) as usize) {
                Some((ino, _)) => NameCall::Links(*ino),
                // The parts of a split directory count their own.
                None if common.splits => NameCall::Lookup(a),
                None => NameCall::Links(a.0),
            },
            93..96 if self.open.len() < OPEN_MAX + 2 => return Asked::Open(a, client.fresh_open()),
            _ => {
                return self
                    .close(random)
                    .unwrap_or(Asked::Name(NameCall::Lookup(a)));
            }
        })
    }

    /// Closes one of the files that do not stay.
    fn close(&mut self, random: &mut Random) -> Option<Asked> {
        if self.open.len() <= 2 {
            return None;
        }
        let index = 2 + random.below(self.open.len() as u64 - 2) as usize;
        let (ino, open) = self.open.remove(index);
        Some(Asked::Close(ino, open))
    }

    fn content(&mut self, random: &mut Random, common: &Common, client: &mut Client) -> Asked {
        let Some((ino, _)) = self.open.get(random.below(4) as usize).copied() else {
            return self.names(random, common, client);
        };
        let len = match random.below(8) {
            0 => 1_000 + random.below(2_000),
            _ => 1 + random.below(9),
        };
        let bytes = vec![random.below(256) as u8; len as usize];
        // Now and then far behind the end, so that a hole comes to be.
        let far = if random.one_in(4) { 6_000 } else { 40 };
        let at = random.below(far) as usize;
        let call = match random.below(8) {
            0 | 1 => ContentCall::Append(bytes),
            2 => ContentCall::Write(at, bytes),
            3 => ContentCall::Resize(at),
            4 => ContentCall::Punch(at..at + 1 + random.below(4 * far) as usize),
            _ => ContentCall::Read,
        };
        Asked::Content(ino, call)
    }

    fn locks(&mut self, random: &mut Random, common: &Common, client: &mut Client) -> Asked {
        let Some((ino, _)) = self.open.get(random.below(2) as usize).copied() else {
            return self.names(random, common, client);
        };
        let owner = client.id.0 as u64;
        let write = random.one_in(2);
        // Who holds something does not wait: no circle can close. Nobody does where a lock that was
        // given back may return with a loss of power, until its client ends.
        let idle = self.locked.is_empty() && self.flocked.is_empty();
        let waits = idle && !common.loses && random.one_in(2);
        if random.one_in(4) {
            if self.flocked.contains(&ino) && !random.one_in(4) {
                self.flocked.retain(|held| *held != ino);
                let call = LockCall::Release { owner, bytes: 0..1 };
                return Asked::Flock(ino, call, false);
            }
            let bytes = 0..1;
            let call = LockCall::Take {
                owner,
                write,
                bytes,
            };
            return Asked::Flock(ino, call, waits);
        }
        let from = random.below(LOCK_BYTES);
        let bytes = from as u8..(from + 1 + random.below(LOCK_BYTES - from)) as u8;
        let call = match random.below(8) {
            0 => LockCall::Test {
                owner,
                write,
                bytes,
            },
            1..5 if self.locked.contains(&ino) => {
                if random.one_in(2) {
                    self.locked.retain(|held| *held != ino);
                    let bytes = 0..LOCK_BYTES as u8;
                    return Asked::Record(ino, LockCall::Release { owner, bytes }, false);
                }
                LockCall::Release { owner, bytes }
            }
            _ => LockCall::Take {
                owner,
                write,
                bytes,
            },
        };
        let waits = waits && matches!(call, LockCall::Take { .. });
        Asked::Record(ino, call, waits)
    }
}
