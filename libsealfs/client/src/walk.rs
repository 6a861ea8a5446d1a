//! Path walks: servers resolve what they own, we go from one to the next and follow symbolic links.
//!
//! An operation on a path is sent with the path to the owner of its starting directory, which walks
//! as far as it can and either does the operation or says where to go on. What must stay true: a
//! link that leads out of the mount, and `..` of its root, end the walk with the local path to go on
//! with ([`Failure::Outside`]); a directory learned on the way is used only as [`crate::cache`]
//! allows; more than 40 links are ELOOP.

use crate::cache::{Start, trim_slashes};
use crate::client::Client;
use crate::config::{At, Failure, Outcome};
use crate::part::{Answer, Part};
use crate::path::{above_mount, below_mount, join_target, split_last};
use sealfs_protocol::attr::Attr;
use sealfs_protocol::limits::{PATH_MAX_BYTES, SYMLINKS_MAX};
use sealfs_protocol::message::{At as WireAt, Op, OpReply, Passed, Refusal, Stop, Walked};
use sealfs_protocol::{Errno, InodeId, PartitionId, RenameVersion};
use sealfs_transport::memory::IoVecMut;

/// Where a walk is.
struct Walk {
    base: InodeId,
    path: Vec<u8>,
    links: u32,
    /// The next name is an original of the base, which is split: asked of the base's partition.
    original: bool,
}

/// What one request of a walk brought.
enum Step {
    /// The reply, and bytes of payload that came with it.
    Done(OpReply, usize),
    On,
}

/// How often directories that were found may turn out to be gone before that is the answer.
const GONE_MAX: u32 = 4;

/// What an operation on known directories may still try.
pub(crate) struct Retries {
    deadline: sealfs_transport::time::Instant,
    gone: u32,
}

impl Client {
    pub(crate) fn retries(&self) -> Retries {
        Retries {
            deadline: self.deadline(),
            gone: 0,
        }
    }

    /// Does the operation that `make` builds at the end of a path. Errors as the kernel's.
    pub(crate) fn on_path(&self, at: At<'_>, make: &dyn Fn(WireAt) -> Op) -> Outcome<OpReply> {
        let (reply, _) = self.on_path_into(at, make, None)?;
        Ok(reply)
    }

    /// As [`Client::on_path`], with payload into `incoming`; also how many bytes of it came.
    pub(crate) fn on_path_into(
        &self,
        at: At<'_>,
        make: &dyn Fn(WireAt) -> Op,
        mut incoming: Option<&mut IoVecMut<'_>>,
    ) -> Outcome<(OpReply, usize)> {
        let leading = at.path.iter().take_while(|b| **b == b'/').count();
        let mut walk = Walk {
            base: at.base,
            path: at.path[leading..].to_vec(),
            links: 0,
            original: false,
        };
        let deadline = self.deadline();
        loop {
            let incoming = incoming.as_deref_mut().map(IoVecMut::reborrow);
            if let Step::Done(reply, payload_bytes) = self.step(&mut walk, make, incoming)? {
                return Ok((reply, payload_bytes));
            }
            if self.shared.config.world.now() >= deadline {
                return Err(Errno::EIO.into());
            }
        }
    }

    fn step(
        &self,
        walk: &mut Walk,
        make: &dyn Fn(WireAt) -> Op,
        incoming: Option<IoVecMut<'_>>,
    ) -> Outcome<Step> {
        if walk.path.len() >= PATH_MAX_BYTES {
            return Err(Errno::ENAMETOOLONG.into());
        }
        let credential = self.credential();
        let (start, version, partition) = self.beginning(walk);
        walk.original = false;
        let rest = &walk.path[start.consumed..];
        let op = make(WireAt {
            base: start.base,
            path: rest.to_vec(),
        });
        let slot = self.shared.slots.take();
        let mut mode = self.mode(&slot);
        mode.rename_version = version;
        let mut incoming = incoming.map(|into| [into]);
        let incoming = incoming.as_mut().map_or(&mut [][..], |list| &mut list[..]);
        let mut parts = [Part::new(&slot, vec![(partition, op)], &[], incoming)];
        self.run(&mut parts, &mut mode);
        let [mut part] = parts;
        let mut answer = part.take_answer()?;
        let Some(reply) = answer.replies.pop() else {
            return Err(Errno::EIO.into());
        };
        match reply {
            OpReply::Refused(Refusal::StaleVersion {
                version,
                directories,
            }) => {
                let mut cache = self.shared.directories.lock();
                cache.stale(version, directories.as_deref());
                Ok(Step::On)
            }
            OpReply::Errno(Errno::ESTALE) => self.gone(walk, start),
            OpReply::Errno(errno) => {
                self.learn(credential, &start, rest, &answer, None);
                Err(errno.into())
            }
            // The part was not where it was said to be: the directory's owner knows.
            OpReply::Walked(walked)
                if walked.stop == Stop::Elsewhere
                    && walked.consumed_bytes == 0
                    && walked.base == start.base
                    && partition != start.base.partition() =>
            {
                self.shared.directories.lock().forget_split(start.base);
                Ok(Step::On)
            }
            OpReply::Walked(walked) => {
                self.learn(credential, &start, rest, &answer, None);
                self.go_on(walk, start, walked)?;
                Ok(Step::On)
            }
            reply => {
                self.learn(credential, &start, rest, &answer, directory_in(&reply));
                Ok(Step::Done(reply, answer.payload_bytes))
            }
        }
    }

    /// How far the cache knows the way, under which version, and the partition to ask.
    fn beginning(&self, walk: &Walk) -> (Start, RenameVersion, PartitionId) {
        let cache = self.shared.directories.lock();
        let start = cache.walk(self.credential(), walk.base, &walk.path, false);
        let partition = if walk.original && start.consumed == 0 {
            start.base.partition()
        } else {
            cache.partition(start.base, &walk.path[start.consumed..])
        };
        (start, cache.version(), partition)
    }

    /// The starting directory does not exist any more. If that was our cache's word, ask anew.
    fn gone(&self, walk: &Walk, start: Start) -> Outcome<Step> {
        if start.base == walk.base {
            return Err(Errno::ENOENT.into());
        }
        self.shared.directories.lock().forget(start.base);
        Ok(Step::On)
    }

    /// An operation on directories that may be known from the cache. `None`: what was known is out
    /// of date, find them again. A version that others raise again and again is no error before
    /// the deadline; directories that are gone [`GONE_MAX`] times are ENOENT.
    pub(crate) fn call_on_known(
        &self,
        directories: &[InodeId],
        op: Op,
        retries: &mut Retries,
    ) -> Result<Option<OpReply>, Errno> {
        let slot = self.shared.slots.take();
        let mut mode = self.mode(&slot);
        mode.rename_version = self.shared.directories.lock().version();
        let partition = directories.first().map_or(self.root(), |d| *d).partition();
        let mut parts = [Part::new(&slot, vec![(partition, op)], &[], &mut [])];
        self.run(&mut parts, &mut mode);
        let [part] = parts;
        let mut cache = self.shared.directories.lock();
        match part.single() {
            Ok(OpReply::Refused(Refusal::StaleVersion {
                version,
                directories,
            })) => {
                cache.stale(version, directories.as_deref());
                if self.shared.config.world.now() >= retries.deadline {
                    return Err(Errno::EIO);
                }
                Ok(None)
            }
            Err(Errno::ESTALE) => {
                retries.gone += 1;
                if retries.gone > GONE_MAX {
                    return Err(Errno::ENOENT);
                }
                for directory in directories {
                    cache.forget(*directory);
                }
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    fn learn(
        &self,
        credential: u16,
        start: &Start,
        path: &[u8],
        answer: &Answer,
        last: Option<InodeId>,
    ) {
        let mut passed = answer.passed.clone();
        if let Some(ino) = last
            && !trim_slashes(path).is_empty()
        {
            passed.push(Passed {
                consumed_bytes: path.len() as u32,
                ino,
            });
        }
        let mut cache = self.shared.directories.lock();
        cache.learn(credential, start.base, path, &passed, answer.rename_version);
    }

    /// Moves the walk to where the server stopped.
    fn go_on(&self, walk: &mut Walk, start: Start, walked: Walked) -> Outcome<()> {
        let consumed = start.consumed + walked.consumed_bytes as usize;
        let Some(rest) = walk.path.get(consumed..) else {
            return Err(Errno::EIO.into());
        };
        match walked.stop {
            Stop::Elsewhere => {
                // A stop that brings us nowhere would be asked for again and again.
                if consumed == 0 && walked.base == walk.base {
                    return Err(Errno::EIO.into());
                }
                let slashes = rest.iter().take_while(|b| **b == b'/').count();
                walk.path = rest[slashes..].to_vec();
                walk.base = walked.base;
                Ok(())
            }
            Stop::Split { parts } => {
                if parts.is_empty() {
                    return Err(Errno::EIO.into());
                }
                let mut cache = self.shared.directories.lock();
                cache.learn_split(walked.base, &parts);
                let slashes = rest.iter().take_while(|b| **b == b'/').count();
                walk.path = rest[slashes..].to_vec();
                walk.base = walked.base;
                Ok(())
            }
            Stop::Original => {
                let slashes = rest.iter().take_while(|b| **b == b'/').count();
                walk.path = rest[slashes..].to_vec();
                walk.base = walked.base;
                walk.original = true;
                Ok(())
            }
            Stop::AboveRoot => {
                let rest = &rest[rest.iter().take_while(|b| **b == b'/').count()..];
                let rest = rest.strip_prefix(b"..").unwrap_or(rest);
                let mount = &self.shared.config.mount;
                Err(Failure::Outside(above_mount(mount, rest)))
            }
            Stop::Symlink { target } => {
                walk.links += 1;
                if walk.links > SYMLINKS_MAX {
                    return Err(Errno::ELOOP.into());
                }
                let path = join_target(&target, rest);
                if path.first() != Some(&b'/') {
                    walk.base = walked.base;
                    walk.path = path;
                    return Ok(());
                }
                let Some(below) = below_mount(&path, &self.shared.config.mount) else {
                    return Err(Failure::Outside(path));
                };
                walk.base = self.shared.root;
                let slashes = below.iter().take_while(|b| **b == b'/').count();
                walk.path = below[slashes..].to_vec();
                Ok(())
            }
        }
    }

    /// The directory that a path names; ENOTDIR if it is none.
    pub(crate) fn directory_at(&self, at: At<'_>) -> Outcome<InodeId> {
        let path = trim_slashes(at.path);
        if path.is_empty() {
            return Ok(at.base);
        }
        let start = {
            let cache = self.shared.directories.lock();
            cache.walk(self.credential(), at.base, path, true)
        };
        if start.consumed == path.len() {
            return Ok(start.base);
        }
        let mut whole = path.to_vec();
        whole.push(b'/');
        let at = At {
            base: at.base,
            path: &whole,
        };
        let attr = self.stat(at, true)?;
        if attr.is_dir() {
            Ok(attr.ino)
        } else {
            Err(Errno::ENOTDIR.into())
        }
    }

    /// The directory that holds a path's last component, and that component: perhaps `.`, `..`, or
    /// empty when the path is.
    pub fn parent_of(&self, at: At<'_>) -> Outcome<(InodeId, Vec<u8>)> {
        let split = split_last(at.path);
        let parent = self.directory_at(At {
            base: at.base,
            path: split.parent,
        })?;
        Ok((parent, split.name.to_vec()))
    }

    pub(crate) fn attr_of(&self, reply: OpReply) -> Result<Attr, Errno> {
        match reply {
            OpReply::Attr(attr) => {
                self.shared.files.lock().refresh(&attr);
                Ok(attr)
            }
            reply => Err(unexpected(&reply)),
        }
    }
}

/// The directory that a reply is about: the path's last component is one, then.
fn directory_in(reply: &OpReply) -> Option<InodeId> {
    let (OpReply::Attr(attr) | OpReply::Opened { attr, .. }) = reply else {
        return None;
    };
    attr.is_dir().then_some(attr.ino)
}

/// The errno of a reply that is none of those that the operation may have.
pub(crate) fn unexpected(reply: &OpReply) -> Errno {
    match reply {
        OpReply::Errno(errno) => *errno,
        _ => Errno::EIO,
    }
}

pub(crate) fn done(reply: &OpReply) -> Result<(), Errno> {
    match reply {
        OpReply::Done => Ok(()),
        reply => Err(unexpected(reply)),
    }
}
