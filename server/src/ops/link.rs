//! link(2): a further name for a file, or the first one for a file made by O_TMPFILE.

use super::create::check_create;
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
    let mut parent = lookup::parent_anywhere(v, to)?;
    v.prefetch(&[(Db::Ino, key::ino(ino.partition(), ino))])?;
    let mut record = v.inode(ino)?.ok_or(Errno::ENOENT)?;
    let Last::Name(name) = parent.last else {
        return Err(Errno::EEXIST.into());
    };
    if parent.dir.dentry(v, name)?.is_some() {
        return Err(Errno::EEXIST.into());
    }
    if parent.slash {
        return Err(Errno::ENOENT.into());
    }
    v.check_writable(parent.dir.record.volume)?;
    if record.volume != parent.dir.record.volume {
        return Err(Errno::EXDEV.into());
    }
    permission::check_link(&record, &v.caller.credentials)?;
    check_create(v, &parent.dir.record)?;
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
    parent.dir.add(v, name, ino, record.kind());
    v.put_inode(ino, &record);
    parent.dir.store(v);
    Ok(OpReply::Attr(record.attr(ino, 0)))
}
