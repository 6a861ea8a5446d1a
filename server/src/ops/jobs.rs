//! Work of this shard on its own account, and what other shards ask it to do with chunks.

use std::ops::ControlFlow;

use super::chunks::{self, Cut};
use super::data::{self, Bytes};
use super::unlink::drop_first_chunk;
use super::{copy, lock, reserve, space, split, truncate, version};
use crate::core::{Job, OpResult, View, World};
use crate::meta::db::{Db, Key, key, until};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId, PartitionId, hash};

pub fn run<V: World>(v: &mut View<V>, job: Job) -> OpResult<()> {
    match job {
        Job::Truncate(ino) => truncate::finish(v, ino),
        Job::Doubt(ino) => {
            data::doubt(v, ino);
            Ok(())
        }
        Job::Reap(ino) => reap(v, ino),
        Job::Split(ino) => split::split(v, ino),
        Job::Unlock(ino, ended) => {
            lock::release(v, ino, |owner| ended.owned(owner));
            Ok(())
        }
        Job::GiveBack(call) => space::give_back(v, call),
        Job::Drop(ino, gone) => {
            lock::release(v, ino, |owner| *owner == gone);
            Ok(())
        }
    }
}

/// Removes an inode without names, and all that hangs on it, unless somebody has it open.
fn reap<V: World>(v: &mut View<V>, ino: InodeId) -> OpResult<()> {
    let partition = ino.partition();
    let orphan = key::orphan(partition, ino);
    v.hold(Db::Ino, key::ino(partition, ino))?;
    let Some(record) = v.inode(ino)? else {
        v.delete(partition, Db::Orphan, orphan);
        return Ok(());
    };
    if record.nlink > 0 || v.opens.is_open(ino) || v.grace {
        return Ok(());
    }
    if record.wide {
        let places = chunks::slot_partitions(v, ino, record.layout);
        for (p, _) in &places {
            if v.is_mine(*p) && chunks::remove(v, *p, ino)? {
                v.again();
                return Ok(());
            }
        }
        let elsewhere = places.iter().filter(|(p, _)| !v.is_mine(*p));
        if elsewhere.clone().count() > 0 {
            // A power cut may bring the file's name back: not without its bytes.
            v.wait_until_durable(record.volume, false)?;
        }
        let questions = elsewhere
            .map(|(p, slot)| (*p, PeerRequest::RemoveChunks { ino, slot: *slot }, 0..0))
            .collect();
        truncate::expect_acknowledged(v.ask(questions)?)?;
    }
    if record.has_xattrs {
        delete_prefix(v, Db::Xattr, &key::xattr_prefix(partition, ino))?;
    }
    drop_first_chunk(v, ino, &record)?;
    lock::store(v, ino, Vec::new());
    v.delete_inode(ino);
    v.delete(partition, Db::Orphan, orphan);
    Ok(())
}

fn delete_prefix<V: World>(v: &mut View<V>, db: Db, prefix: &Key) -> OpResult<()> {
    let mut keys = Vec::new();
    v.scan(db, prefix, &until(prefix), |key, _| {
        keys.push(Key::from_slice(key));
        ControlFlow::Continue(())
    })?;
    for key in keys {
        let partition = crate::records::partition_of_key(&key).unwrap_or_default();
        v.delete(partition, db, key);
    }
    Ok(())
}

/// What another shard asks for about what belongs to its inodes and lies here.
pub fn serve<V: World>(v: &mut View<V>, request: &PeerRequest) -> OpResult<PeerReply> {
    if let PeerRequest::Parts { directory, hosts } = request {
        if hosts.iter().any(|host| !v.is_mine(*host)) {
            let ring_version = v.cluster.ring_version();
            return Ok(PeerReply::WrongEpoch { ring_version });
        }
        return Ok(PeerReply::Parts(split::counts(v, *directory, hosts)?));
    }
    let partitions = v.cluster.partitions();
    let place = |ino, slot| hash::layout_slot_partition(ino, slot, partitions);
    let partition = match request {
        PeerRequest::Truncate { ino, slot, .. }
        | PeerRequest::Punch { ino, slot, .. }
        | PeerRequest::Reserve { ino, slot, .. }
        | PeerRequest::GiveBack { ino, slot, .. }
        | PeerRequest::Clear { ino, slot, .. }
        | PeerRequest::RemoveChunks { ino, slot }
        | PeerRequest::UsedBlocks { ino, slot } => place(*ino, *slot),
        PeerRequest::WriteSpan { partition, .. } => *partition,
        PeerRequest::ReadSpan { source, .. } => source.partition,
        PeerRequest::BumpRenameVersion { volume, .. } => v.cluster.root(*volume).partition(),
        _ => return Err(Errno::EPROTO.into()),
    };
    if !v.is_mine(partition) {
        return Ok(PeerReply::WrongEpoch {
            ring_version: v.cluster.ring_version(),
        });
    }
    if request
        .volume()
        .is_some_and(|id| v.cluster.volume(id).is_none())
    {
        return Err(Errno::ESTALE.into());
    }
    v.partition = partition;
    change(v, partition, request)
}

/// Carries out what was asked for in a partition of this shard.
fn change<V: World>(
    v: &mut View<V>,
    partition: PartitionId,
    request: &PeerRequest,
) -> OpResult<PeerReply> {
    let more = match request {
        PeerRequest::Truncate {
            ino,
            volume,
            layout,
            generation,
            size_bytes,
            spare,
            ..
        } => {
            let (file, cut) = ((*volume, *layout), (*size_bytes, *spare));
            chunks::install(v, (partition, *ino), file, *generation, cut)?
        }
        PeerRequest::Punch {
            ino,
            volume,
            layout,
            generation,
            offset,
            len,
            ..
        } => {
            let range = Cut {
                partition,
                ino: *ino,
                layout: *layout,
                from: *offset,
                until: offset.saturating_add(*len),
                spare: false,
                how: v.write_as(*volume, *generation),
            };
            chunks::cut(v, &range)?
        }
        PeerRequest::RemoveChunks { ino, .. } => chunks::remove(v, partition, *ino)?,
        PeerRequest::Reserve { .. } | PeerRequest::GiveBack { .. } | PeerRequest::Clear { .. } => {
            return reserve::serve(v, partition, request);
        }
        PeerRequest::UsedBlocks { ino, .. } => {
            let blocks_512 = chunks::used_blocks(v, partition, *ino)?;
            return Ok(PeerReply::Used { blocks_512 });
        }
        PeerRequest::BumpRenameVersion {
            volume,
            directories,
        } => return version::bump(v, *volume, directories),
        PeerRequest::ReadSpan {
            volume,
            source,
            len_bytes,
            ..
        } => return copy::read_span(v, *volume, source, *len_bytes),
        _ => return write_span(v, request),
    };
    if more {
        v.again();
    }
    Ok(PeerReply::Acknowledged)
}

fn write_span<V: World>(v: &mut View<V>, request: &PeerRequest) -> OpResult<PeerReply> {
    let PeerRequest::WriteSpan {
        ino,
        volume,
        chunk,
        offset_bytes,
        generation,
        ..
    } = request
    else {
        return Err(Errno::EPROTO.into());
    };
    let data = v.payload;
    let span = Bytes {
        ino: *ino,
        chunk: *chunk,
        offset: *offset_bytes,
        len: data.len() as u32,
        generation: *generation,
    };
    data::write_slot(v, span, *volume, data)?;
    Ok(PeerReply::Written {
        incarnation: v.incarnation(),
    })
}
