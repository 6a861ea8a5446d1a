//! Changing a file's size, and installing truncations on layout slots.
//!
//! What must stay true: nothing that was cut off appears again, whoever still writes. A truncation
//! of a wide file raises the generation and is recorded in the inode first; once that is durable it is
//! installed on the layout slots of other shards (else a power cut that takes it back here would leave
//! a file whose slots refuse it, and have lost its bytes), and only then answered. After a restart it
//! is resumed from the record.

use super::chunks::{self, Cut};
use super::permission;
use crate::core::{Job, MemoryChange, OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::{Body, InodeRecord, OrphanRecord};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{InodeId, TruncateGeneration};

const BLOCKS_512_PER_BLOCK: u32 = 8;

/// Sets the size of a regular file and stores its inode. `touch`: times are set even if the size
/// stays.
pub fn resize<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &mut InodeRecord,
    size: u64,
    touch: bool,
) -> OpResult<()> {
    let before = record.size_bytes;
    let grows = size > before;
    // Blocks that are reserved past the end go with every truncation that does not grow the file.
    let cuts = size < before || size == before && record.reserves;
    // A power cut may have taken the note that there are bytes beyond chunk 0.
    record.wide |= grows && size > record.layout.chunk_size_bytes() && v.ends.is_doubted(ino);
    // On growth too: bytes that a writer left past the end and never published must not appear.
    if record.wide && (cuts || grows) {
        cut_slots(v, ino, record, size.min(before), grows);
    } else if cuts {
        record.generation = next(record.generation);
    }
    if cuts {
        cut_first_chunk(v, ino, record, size)?;
        record.reserves = false;
    }
    record.size_bytes = size;
    if touch {
        record.mtime = v.time();
        record.ctime = v.time();
    }
    record.mode = permission::mode_after_write(record, &v.caller.credentials);
    v.put_inode(ino, record);
    Ok(())
}

fn next(generation: TruncateGeneration) -> TruncateGeneration {
    TruncateGeneration(generation.0.wrapping_add(1))
}

/// Begins a truncation of all layout slots, under a new generation, in the inode that the caller
/// stores. `spares`: blocks that were never written stay.
fn cut_slots<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &mut InodeRecord,
    size: u64,
    spares: bool,
) {
    record.pending_spares = spares && (record.pending.is_none() || record.pending_spares);
    record.pending = Some(record.pending.map_or(size, |p| p.min(size)));
    record.generation = next(record.generation);
    if record.nlink > 0 {
        let orphan = key::orphan(ino.partition(), ino);
        v.put(
            ino.partition(),
            Db::Orphan,
            orphan,
            &OrphanRecord::Truncating,
        );
    }
    v.remember(MemoryChange::Settled(ino));
    v.then(Job::Truncate(ino));
}

/// Cuts what lies behind the end of a file and was never published, and stores its inode. Who is
/// about to publish something there finds another generation and writes it again.
pub fn settle<V: World>(v: &mut View<V>, ino: InodeId, record: &mut InodeRecord) {
    cut_slots(v, ino, record, record.size_bytes, true);
    v.put_inode(ino, record);
}

/// Cuts chunk 0 to at most `size` bytes.
fn cut_first_chunk<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &mut InodeRecord,
    size: u64,
) -> OpResult<()> {
    let partition = ino.partition();
    let how = v.write_as(record.volume, record.generation);
    match &mut record.body {
        Body::Inline(bytes) => bytes.truncate(size as usize),
        Body::Chunks { first_blocks_512 } => {
            let Some(chunk) = v.chunk(partition, ino, 0)? else {
                return Ok(());
            };
            if size == 0 {
                v.drop_chunk((partition, ino, 0), chunk);
                record.body = Body::Inline(Vec::new());
            } else if size < u64::from(chunk.reach()) {
                let at = (partition, ino, 0);
                let cut = v.shorten_chunk(at, &chunk, (size as u32, false), how)?;
                *first_blocks_512 = cut.blocks() * BLOCKS_512_PER_BLOCK;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Zeroes `from..until` in chunk 0; whole blocks lose their space, unless they are to `keep` it.
pub fn zero_first_chunk<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &mut InodeRecord,
    (from, until): (u64, u64),
    keep: bool,
) -> OpResult<()> {
    let partition = ino.partition();
    let how = v.write_as(record.volume, record.generation);
    match &mut record.body {
        Body::Inline(bytes) => {
            let until = until.min(bytes.len() as u64) as usize;
            if let Some(range) = bytes.get_mut(from as usize..until) {
                range.fill(0);
            }
        }
        Body::Chunks { first_blocks_512 } => {
            let Some(chunk) = v.chunk(partition, ino, 0)? else {
                return Ok(());
            };
            let until = until.min(u64::from(chunk.reach())) as u32;
            if from < u64::from(until) {
                let (at, range) = ((partition, ino, 0), from as u32..until);
                let zeroed = if keep {
                    v.clear_chunk(at, &chunk, range, how)?
                } else {
                    v.punch_chunk(at, &chunk, range, how)?
                };
                *first_blocks_512 = zeroed.blocks() * BLOCKS_512_PER_BLOCK;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Installs an inode's pending truncation on all its layout slots.
pub fn finish<V: World>(v: &mut View<V>, ino: InodeId) -> OpResult<()> {
    let partition = ino.partition();
    // Who knew the new generation now would write under it what is cut then.
    v.hold_shut(Db::Ino, key::ino(partition, ino))?;
    let Some(mut record) = v.inode(ino)? else {
        return Ok(());
    };
    if let Some(size) = record.pending {
        let file = (record.volume, record.layout);
        let places = chunks::slot_partitions(v, ino, record.layout);
        let elsewhere = places.iter().filter(|(p, _)| !v.is_mine(*p));
        if elsewhere.clone().count() > 0 {
            v.wait_until_durable(record.volume, true)?;
        }
        let questions = elsewhere
            .map(|(p, slot)| {
                let request = PeerRequest::Truncate {
                    ino,
                    slot: *slot,
                    volume: record.volume,
                    state: v.cluster.version,
                    layout: record.layout,
                    generation: record.generation,
                    size_bytes: size,
                    spare: record.pending_spares,
                };
                (*p, request, 0..0)
            })
            .collect();
        expect_acknowledged(v.ask(questions)?)?;
        for (p, _) in places {
            let cut = (size, record.pending_spares);
            if v.is_mine(p) && chunks::install(v, (p, ino), file, record.generation, cut)? {
                v.again();
                return Ok(());
            }
        }
        record.pending = None;
        record.pending_spares = false;
        v.put_inode(ino, &record);
    }
    if record.nlink > 0 {
        v.delete(partition, Db::Orphan, key::orphan(partition, ino));
    }
    Ok(())
}

pub fn expect_acknowledged(answers: Vec<PeerReply>) -> OpResult<()> {
    for answer in answers {
        if answer != PeerReply::Acknowledged {
            return Err(chunks::unexpected(&answer));
        }
    }
    Ok(())
}

/// Deallocates a byte range of a wide file on its layout slots; whether more is to do here.
pub fn punch_slots<V: World>(
    v: &mut View<V>,
    ino: InodeId,
    record: &InodeRecord,
    from: u64,
    until: u64,
) -> OpResult<bool> {
    let places = chunks::slot_partitions(v, ino, record.layout);
    let elsewhere = places.iter().filter(|(p, _)| !v.is_mine(*p));
    let questions = elsewhere
        .map(|(p, slot)| {
            let request = PeerRequest::Punch {
                ino,
                slot: *slot,
                volume: record.volume,
                state: v.cluster.version,
                layout: record.layout,
                generation: record.generation,
                offset: from,
                len: until - from,
            };
            (*p, request, 0..0)
        })
        .collect();
    expect_acknowledged(v.ask(questions)?)?;
    let mut more = false;
    for (partition, _) in places.into_iter().filter(|(p, _)| v.cluster.is_mine(*p)) {
        let range = Cut {
            partition,
            ino,
            layout: record.layout,
            from,
            until,
            spare: false,
            how: v.write_as(record.volume, record.generation),
        };
        more |= chunks::cut(v, &range)?;
    }
    Ok(more)
}
