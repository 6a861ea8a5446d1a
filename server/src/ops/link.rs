//! link(2): a further name for a file, or the first one for a file made by O_TMPFILE.

use super::create::{add_entry, check_create};
use super::lookup::{self, Last};
use super::permission;
use crate::core::{OpResult, View, World};
use crate::meta::db::{Db, key};
use sealfs_protocol::message::{At, OpReply};
use sealfs_protocol::{Errno, InodeId, OpenId};

pub fn link<W: World>(
    v: &mut View<W>,
    ino: InodeId,
    to: &At,
    from_open: Option<OpenId>,
) -> OpResult<OpReply> {
    let (last, slash) = lookup::single(to)?;
    let mut parent = lookup::walk_parent(v, to)?;
    v.prefetch(&[(Db::Ino, key::ino(ino.partition(), ino))])?;
    let mut record = v.inode(ino)?.ok_or(Errno::ENOENT)?;
    let Last::Name(name) = last else {
        return Err(Errno::EEXIST.into());
    };
    if lookup::dentry(v, parent.dir, name)?.is_some() {
        return Err(Errno::EEXIST.into());
    }
    if slash {
        return Err(Errno::ENOENT.into());
    }
    if record.volume != parent.record.volume {
        return Err(Errno::EXDEV.into());
    }
    permission::check_link(&record, &v.caller.credentials)?;
    check_create(v, &parent.record)?;
    if record.is_dir() {
        return Err(Errno::EPERM.into());
    }
    if record.nlink == 0 {
        if from_open.is_none() || !record.linkable {
            return Err(Errno::ENOENT.into());
        }
        let partition = ino.partition();
        v.delete(partition, Db::Orphan, key::orphan(partition, ino));
        record.linkable = false;
    }
    record.nlink = record.nlink.checked_add(1).ok_or(Errno::EMLINK)?;
    record.ctime = v.time();
    add_entry(v, parent.dir, &mut parent.record, name, ino, record.kind());
    v.put_inode(ino, &record);
    v.put_inode(parent.dir, &parent.record);
    Ok(OpReply::Attr(record.attr(ino, 0)))
}
