//! Names: making, removing, renaming and linking files, as mkdir(2), unlink(2), rename(2) and their
//! like do it.

use crate::client::Client;
use crate::config::{At, FileRef, Outcome};
use crate::path::{Split, split_last};
use crate::walk::{done, unexpected};
use sealfs_protocol::attr::Attr;
use sealfs_protocol::message::{At as WireAt, Op, OpReply};
use sealfs_protocol::{Errno, InodeId};

/// renameat2(2).
const RENAME_NOREPLACE: u32 = 1;
impl Client {
    pub fn mkdir(&self, at: At<'_>, mode: u32) -> Outcome<Attr> {
        let reply = self.on_path(at, &|at| Op::MakeDir { at, mode })?;
        Ok(self.attr_of(reply)?)
    }

    /// FIFOs, sockets, device nodes and regular files; `mode` with the type bits.
    pub fn mknod(&self, at: At<'_>, mode: u32, rdev: u64) -> Outcome<Attr> {
        let reply = self.on_path(at, &|at| Op::MakeNode { at, mode, rdev })?;
        Ok(self.attr_of(reply)?)
    }

    pub fn symlink(&self, at: At<'_>, target: &[u8]) -> Outcome<Attr> {
        let reply = self.on_path(at, &|at| Op::Symlink {
            at,
            target: target.to_vec(),
        })?;
        Ok(self.attr_of(reply)?)
    }

    pub fn unlink(&self, at: At<'_>) -> Outcome<()> {
        let reply = self.on_path(at, &|at| Op::Unlink { at })?;
        Ok(done(&reply)?)
    }

    pub fn rmdir(&self, at: At<'_>) -> Outcome<()> {
        let split = split_last(at.path);
        // What rmdir(2) says of these, whatever else is true of them.
        match split.name {
            b"" => return Err(Errno::EBUSY.into()),
            b"." => return Err(Errno::EINVAL.into()),
            b".." => return Err(Errno::ENOTEMPTY.into()),
            _ => {}
        }
        let reply = self.on_path(at, &|at| Op::RemoveDir { at })?;
        done(&reply)?;
        self.forget_entry(at.base, &split);
        Ok(())
    }

    /// Drops a name from the directory cache, as far as it can be told without asking.
    fn forget_entry(&self, base: InodeId, split: &Split<'_>) {
        let credential = self.credential();
        let mut cache = self.shared.directories.lock();
        let parent = cache.walk(credential, base, split.parent, true);
        for credential in 0..self.shared.credentials.count() {
            cache.forget_name(credential, parent.base, split.name);
        }
    }

    pub fn rename(&self, from: At<'_>, to: At<'_>, flags: u32) -> Outcome<()> {
        let (old, new) = (split_last(from.path), split_last(to.path));
        let place = |base, split: &Split<'_>| {
            let parent = At {
                base,
                path: split.parent,
            };
            let directory = self.directory_at(parent)?;
            Ok::<_, crate::Failure>(WireAt {
                base: directory,
                path: split.wire_name(),
            })
        };
        let mut retries = self.retries();
        loop {
            let (from_place, to_place) = (place(from.base, &old)?, place(to.base, &new)?);
            if old.is_special() {
                return Err(Errno::EBUSY.into());
            }
            if new.is_special() {
                let exists = flags & RENAME_NOREPLACE != 0;
                return Err(if exists { Errno::EEXIST } else { Errno::EBUSY }.into());
            }
            let parents = [from_place.base, to_place.base];
            let op = Op::Rename {
                from: from_place,
                to: to_place,
                flags,
            };
            if let Some(reply) = self.call_on_known(&parents, op, &mut retries)? {
                done(&reply)?;
                self.forget_entry(from.base, &old);
                self.forget_entry(to.base, &new);
                return Ok(());
            }
        }
    }

    /// link(2); `follow` as linkat(2)'s AT_SYMLINK_FOLLOW.
    pub fn link(&self, from: At<'_>, follow: bool, to: At<'_>) -> Outcome<Attr> {
        let ino = self.stat(from, follow)?.ino;
        self.link_inode(ino, None, to)
    }

    /// Gives the file of an open description a (further) name; it may have none so far.
    pub fn link_open(&self, file: FileRef, to: At<'_>) -> Outcome<Attr> {
        self.link_inode(file.ino, Some(file), to)
    }

    fn link_inode(&self, ino: InodeId, open: Option<FileRef>, to: At<'_>) -> Outcome<Attr> {
        let new = split_last(to.path);
        let mut retries = self.retries();
        loop {
            let directory = self.directory_at(At {
                base: to.base,
                path: new.parent,
            })?;
            if new.is_special() {
                return Err(Errno::EEXIST.into());
            }
            let op = Op::Link {
                ino,
                to: WireAt {
                    base: directory,
                    path: new.wire_name(),
                },
                from_open: open.map(|f| f.open),
            };
            if let Some(reply) = self.call_on_known(&[directory], op, &mut retries)? {
                return Ok(self.attr_of(reply)?);
            }
        }
    }

    pub fn readlink(&self, at: At<'_>) -> Outcome<Vec<u8>> {
        match self.on_path(at, &|at| Op::ReadLink { at })? {
            OpReply::Bytes(target) => Ok(target),
            reply => Err(unexpected(&reply).into()),
        }
    }
}
