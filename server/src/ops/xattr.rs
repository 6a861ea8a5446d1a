//! Extended attributes: the name spaces `user.` and `trusted.` (xattr(7)); others are not supported.

use std::ops::ControlFlow;

use super::lookup::{self, Found};
use super::permission::{self, R, S_ISVTX, W};
use crate::core::{OpResult, View, World};
use crate::meta::db::{Db, key, until};
use sealfs_protocol::Errno;
use sealfs_protocol::limits::{XATTR_NAME_MAX_BYTES, XATTR_VALUE_MAX_BYTES};
use sealfs_protocol::message::{At, OpReply};

const CREATE: u32 = 1;
const REPLACE: u32 = 2;

/// What can be done with a name, by its name space.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Space {
    User,
    /// Root's alone, on inodes of any kind.
    Trusted,
    Unsupported,
}

fn check_length(name: &[u8]) -> Result<(), Errno> {
    if name.is_empty() || name.len() > XATTR_NAME_MAX_BYTES {
        return Err(Errno::ERANGE);
    }
    Ok(())
}

/// The name space, and whether a name follows it.
fn space_of(name: &[u8]) -> (Space, bool) {
    for (prefix, space) in [
        (&b"user."[..], Space::User),
        (&b"trusted."[..], Space::Trusted),
    ] {
        if let Some(rest) = name.strip_prefix(prefix) {
            return (space, !rest.is_empty());
        }
    }
    (Space::Unsupported, true)
}

/// xattr_permission() of the kernel, and then whether there are such names.
fn check_access<V: World>(v: &View<V>, found: &Found, name: &[u8], mask: u32) -> OpResult<()> {
    let record = &found.record;
    let who = &v.caller.credentials;
    let writes = mask & W != 0;
    let (space, is_named) = space_of(name);
    match space {
        Space::Trusted => {
            if !permission::is_root(who) {
                let errno = if writes { Errno::EPERM } else { Errno::ENODATA };
                return Err(errno.into());
            }
        }
        Space::User => {
            if !record.is_regular() && !record.is_dir() {
                let errno = if writes { Errno::EPERM } else { Errno::ENODATA };
                return Err(errno.into());
            }
            let sticky = record.is_dir() && record.mode & S_ISVTX != 0;
            if sticky && writes && !permission::owns(who, record) {
                return Err(Errno::EPERM.into());
            }
            permission::check(record, who, mask)?;
        }
        Space::Unsupported => {
            let kernels = name.starts_with(b"security.") || name.starts_with(b"system.");
            if !kernels {
                permission::check(record, who, mask)?;
            }
            return Err(Errno::EOPNOTSUPP.into());
        }
    }
    if is_named {
        Ok(())
    } else {
        Err(Errno::EINVAL.into())
    }
}

pub fn get<V: World>(v: &mut View<V>, at: &At, follow: bool, name: &[u8]) -> OpResult<OpReply> {
    check_length(name)?;
    let found = lookup::walk(v, at, follow)?;
    check_access(v, &found, name, R)?;
    let key = key::xattr(found.ino.partition(), found.ino, name);
    match v.read_bytes(Db::Xattr, &key)? {
        Some(value) => Ok(OpReply::Bytes(value)),
        None => Err(Errno::ENODATA.into()),
    }
}

pub fn set<V: World>(
    v: &mut View<V>,
    at: &At,
    follow: bool,
    (name, value): (&[u8], &[u8]),
    flags: u32,
) -> OpResult<OpReply> {
    if flags & !(CREATE | REPLACE) != 0 {
        return Err(Errno::EINVAL.into());
    }
    if value.len() > XATTR_VALUE_MAX_BYTES {
        return Err(Errno::E2BIG.into());
    }
    check_length(name)?;
    let mut found = lookup::walk(v, at, follow)?;
    v.check_writable(found.record.volume)?;
    check_access(v, &found, name, W)?;
    let partition = found.ino.partition();
    let key = key::xattr(partition, found.ino, name);
    let exists = v.read_bytes(Db::Xattr, &key)?.is_some();
    if exists && flags & CREATE != 0 {
        return Err(Errno::EEXIST.into());
    }
    if !exists && flags & REPLACE != 0 {
        return Err(Errno::ENODATA.into());
    }
    v.put_bytes(partition, Db::Xattr, key, value.to_vec());
    found.record.has_xattrs = true;
    found.record.ctime = v.time();
    v.put_inode(found.ino, &found.record);
    Ok(OpReply::Done)
}

pub fn list<V: World>(v: &mut View<V>, at: &At, follow: bool) -> OpResult<OpReply> {
    let found = lookup::walk(v, at, follow)?;
    let mut names = Vec::new();
    let root = permission::is_root(&v.caller.credentials);
    if found.record.has_xattrs {
        let prefix = key::xattr_prefix(found.ino.partition(), found.ino);
        v.scan(Db::Xattr, &prefix, &until(&prefix), |key, _| {
            let name = key.get(prefix.len()..).unwrap_or_default();
            if root || space_of(name).0 == Space::User {
                names.extend_from_slice(name);
                names.push(0);
            }
            ControlFlow::Continue(())
        })?;
    }
    Ok(OpReply::Bytes(names))
}

pub fn remove<V: World>(v: &mut View<V>, at: &At, follow: bool, name: &[u8]) -> OpResult<OpReply> {
    check_length(name)?;
    let mut found = lookup::walk(v, at, follow)?;
    v.check_writable(found.record.volume)?;
    check_access(v, &found, name, W)?;
    let partition = found.ino.partition();
    let key = key::xattr(partition, found.ino, name);
    if v.read_bytes(Db::Xattr, &key)?.is_none() {
        return Err(Errno::ENODATA.into());
    }
    v.delete(partition, Db::Xattr, key);
    found.record.ctime = v.time();
    v.put_inode(found.ino, &found.record);
    Ok(OpReply::Done)
}
