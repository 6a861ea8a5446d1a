//! Splitting a large directory over parts, and what concerns all parts of one.
//!
//! A directory that has grown large is split once, for good: from then on new names go by their
//! hash to parts on all shards, each with counts and times of its own. The names that it has by
//! then stay where they are and are remembered as its originals. What must stay true: parts are
//! there exactly as long as the directory has a name, each with the directory's access attributes;
//! a change of those, and the directory's removal, is a transaction over all parts.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::chunks::unexpected;
use super::directory::Dir;
use crate::core::{Fault, OpResult, View, World};
use crate::meta::db::{Db, Key, key};
use crate::records::{
    InodeRecord, ORIGINALS_PART, OriginalsRecord, PartRecord, PositionRecord, SPLIT_PART,
    first_entry, position_name,
};
use sealfs_protocol::peer::{PartCounts, PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId, PartitionId, ShardId, hash};

/// Links of a directory without subdirectories.
const OWN_LINKS: u32 = 2;

fn hosts(record: &InodeRecord) -> &[PartitionId] {
    record.directory().map_or(&[], |d| &d.split)
}

pub fn is_split(record: &InodeRecord) -> bool {
    !hosts(record).is_empty()
}

/// Keys of the parts that `hosts` keep.
fn keys(ino: InodeId, hosts: &[PartitionId]) -> Vec<(Db, Key)> {
    let keys = hosts.iter();
    keys.map(|host| (Db::Part, key::part(*host, ino, SPLIT_PART)))
        .collect()
}

/// All parts, read where they are; in a transaction they are locked.
fn parts<W: World>(v: &mut View<W>, ino: InodeId, record: &InodeRecord) -> OpResult<Vec<Dir>> {
    v.prefetch(&keys(ino, hosts(record)))?;
    let all = hosts(record).iter();
    all.map(|host| Dir::part_named(v, ino, *host)).collect()
}

/// Names in all parts.
pub fn entries<W: World>(v: &mut View<W>, ino: InodeId, record: &InodeRecord) -> OpResult<u64> {
    let parts = parts(v, ino, record)?;
    let counts = parts.iter().filter_map(|p| p.record.directory());
    Ok(counts.map(|d| d.entries).sum())
}

/// The directory is removed, and its parts with it.
pub fn drop_parts<W: World>(v: &mut View<W>, ino: InodeId, record: &mut InodeRecord) {
    let Some(directory) = record.directory_mut() else {
        return;
    };
    let hosts = std::mem::take(&mut directory.split);
    if hosts.is_empty() {
        return;
    }
    let home = ino.partition();
    v.delete(home, Db::Part, key::part(home, ino, ORIGINALS_PART));
    for host in hosts {
        v.delete(host, Db::Part, key::part(host, ino, SPLIT_PART));
        v.delete(host, Db::Part, key::part(host, ino, ORIGINALS_PART));
    }
}

/// Access attributes have changed, or with `times` the time of modification: parts learn them. The
/// directory as a whole, for the reply.
pub fn tell_parts<W: World>(
    v: &mut View<W>,
    ino: InodeId,
    record: &InodeRecord,
    times: bool,
) -> OpResult<InodeRecord> {
    let mut whole = record.clone();
    for mut part in parts(v, ino, record)? {
        let copy = &mut part.record;
        (copy.mode, copy.uid, copy.gid) = (record.mode, record.uid, record.gid);
        copy.layout = record.layout;
        if times {
            copy.mtime = record.mtime;
        }
        add(&mut whole, &counts_of(&part.record));
        part.store(v);
    }
    Ok(whole)
}

/// The directory's inode with the counts and times of all parts.
pub fn merged<W: World>(
    v: &mut View<W>,
    ino: InodeId,
    record: &InodeRecord,
) -> OpResult<InodeRecord> {
    let mut by_shard: BTreeMap<Option<ShardId>, Vec<PartitionId>> = BTreeMap::new();
    let mut here = Vec::new();
    for host in hosts(record) {
        if v.is_mine(*host) {
            here.push(*host);
        } else {
            let shard = v.cluster.owner(*host);
            by_shard.entry(shard).or_default().push(*host);
        }
    }
    let ask = |hosts| PeerRequest::Parts {
        directory: ino,
        hosts,
    };
    let questions = by_shard.into_iter();
    let questions = questions.map(|(shard, hosts)| (shard, ask(hosts), 0..0));
    let answers = v.ask_shards(questions.collect())?;
    let mut whole = record.clone();
    add(&mut whole, &counts(v, ino, &here)?);
    for answer in answers {
        match answer {
            PeerReply::Parts(counts) => add(&mut whole, &counts),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(whole)
}

/// What parts of this shard have to add to their directory.
pub fn counts<W: World>(
    v: &mut View<W>,
    directory: InodeId,
    hosts: &[PartitionId],
) -> OpResult<PartCounts> {
    let mut sum = PartCounts::default();
    for host in hosts {
        // A part that is gone adds nothing: so is the directory, then.
        if let Some(part) = Dir::part(v, directory, *host)? {
            let more = counts_of(&part.record);
            sum.subdirectories += more.subdirectories;
            sum.mtime = sum.mtime.max(more.mtime);
            sum.ctime = sum.ctime.max(more.ctime);
        }
    }
    Ok(sum)
}

fn counts_of(part: &InodeRecord) -> PartCounts {
    PartCounts {
        subdirectories: part.nlink.saturating_sub(OWN_LINKS),
        mtime: part.mtime,
        ctime: part.ctime,
    }
}

fn add(whole: &mut InodeRecord, counts: &PartCounts) {
    whole.nlink += counts.subdirectories;
    whole.mtime = whole.mtime.max(counts.mtime);
    whole.ctime = whole.ctime.max(counts.ctime);
}

/// Splits a directory that has grown large: a job of its inode's owner.
pub fn split<W: World>(v: &mut View<W>, ino: InodeId) -> OpResult<()> {
    let Some(mut record) = v.inode(ino)? else {
        return Ok(());
    };
    let grown = record.directory().is_some_and(|d| v.cluster.splits(d));
    let hosts = v.cluster.part_partitions(ino);
    let count = hosts.len() as u16;
    if !grown || hosts.is_empty() || record.nlink == 0 {
        return Ok(());
    }
    // Locks the places of the parts, and makes their shards participants.
    v.prefetch(&keys(ino, &hosts))?;
    let mut all = OriginalsRecord {
        hashes: hashes(v, ino)?,
    };
    all.hashes.sort_unstable();
    let home = ino.partition();
    v.put(home, Db::Part, key::part(home, ino, ORIGINALS_PART), &all);
    for (host, part) in hosts.iter().copied().zip(1..) {
        let belongs = |hash: &&u64| hash::part_of_hash(**hash, count) == Some(part);
        let forgotten = usize::from(W::plants(Fault::ForgetOriginal));
        let own = all.hashes.iter().filter(belongs).skip(forgotten);
        let own = OriginalsRecord {
            hashes: own.copied().collect(),
        };
        v.put(host, Db::Part, key::part(host, ino, ORIGINALS_PART), &own);
        let record = new_part(&record, part, count);
        v.put(host, Db::Part, key::part(host, ino, SPLIT_PART), &record);
    }
    if let Some(directory) = record.directory_mut() {
        directory.split = hosts;
    }
    v.put_inode(ino, &record);
    Ok(())
}

fn new_part(record: &InodeRecord, part: u16, parts: u16) -> PartRecord {
    let mut record = record.clone();
    record.nlink = OWN_LINKS;
    record.has_xattrs = false;
    if let Some(directory) = record.directory_mut() {
        directory.entries = 0;
        directory.next_entry = first_entry(part);
    }
    PartRecord {
        part,
        parts,
        record,
    }
}

/// The hashes of all names of an unsplit directory of this shard.
fn hashes<W: World>(v: &mut View<W>, ino: InodeId) -> OpResult<Vec<u64>> {
    let partition = ino.partition();
    let from = key::dent(partition, ino, &position_name(0));
    let until = key::dent(partition, ino, &[1]);
    let mut hashes = Vec::new();
    let mut damaged = false;
    v.scan(Db::Dent, &from, &until, |_, value| {
        match PositionRecord::access(value) {
            Ok(entry) => hashes.push(hash::name(&entry.name)),
            Err(_) => damaged = true,
        }
        ControlFlow::Continue(())
    })?;
    if damaged {
        log::error!("directory {ino} holds a damaged entry");
        return Err(Errno::EIO.into());
    }
    Ok(hashes)
}
