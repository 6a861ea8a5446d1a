//! SEEK_DATA and SEEK_HOLE of lseek(2), over the chunks of a file that lie in one partition.
//!
//! The client asks every partition that hosts chunks of the file and takes the smallest answer. A
//! chunk that should lie here and does not is a hole; one that lies elsewhere is nobody's business
//! here.

use std::ops::ControlFlow;

use super::{chunks, data};
use crate::core::{OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::Body;
use crate::store::ChunkRecord;
use sealfs_protocol::attr::Layout;
use sealfs_protocol::message::OpReply;
use sealfs_protocol::{Errno, InodeId, TruncateGeneration};

/// What is data or a hole as a whole.
const BLOCK_BYTES: u32 = 4096;
/// Chunks looked at in one request.
const STEP_CHUNKS: usize = 4096;

/// A byte range of a file to be searched.
pub struct Request {
    pub ino: InodeId,
    pub from: u64,
    pub until: u64,
    pub layout: Layout,
    pub generation: TruncateGeneration,
}

pub fn seek<V: World>(v: &mut View<V>, want: &Request, data: bool) -> OpResult<OpReply> {
    if want.from > want.until {
        return Err(Errno::EINVAL.into());
    }
    if v.partition == want.ino.partition()
        && let Some(position) = in_first_chunk(v, want, data)?
    {
        return Ok(found(want, position));
    }
    chunks::check_generation(v, v.partition, want.ino, want.generation)?;
    if data {
        next_data(v, want)
    } else {
        next_hole(v, want)
    }
}

fn found(want: &Request, position: u64) -> OpReply {
    OpReply::Sought {
        position: position.min(want.until),
        found: position < want.until,
    }
}

/// Searches chunk 0, which lives with the inode.
fn in_first_chunk<V: World>(v: &mut View<V>, want: &Request, data: bool) -> OpResult<Option<u64>> {
    let record = data::regular(v, want.ino)?;
    data::check_generation(want.ino, &record, want.generation)?;
    let chunk_end = want.layout.chunk_size_bytes();
    if want.from >= chunk_end.min(want.until) {
        return Ok(None);
    }
    let offset = want.from as u32;
    let position = match &record.body {
        Body::Inline(bytes) => {
            let end = (bytes.len() as u32).next_multiple_of(BLOCK_BYTES);
            match (data, offset < end) {
                (true, true) | (false, false) => Some(offset),
                (false, true) => Some(end),
                (true, false) => None,
            }
        }
        _ => match v.chunk(v.partition, want.ino, 0)? {
            Some(chunk) if data => chunk.next_data(offset),
            Some(chunk) => Some(chunk.next_hole(offset)),
            None => (!data).then_some(offset),
        },
    };
    Ok(position.map(u64::from).filter(|at| *at < chunk_end))
}

/// Chunks beyond the first that are here, from `want.from` on, in order; at most a step's worth.
fn chunks_here<V: World>(
    v: &mut View<V>,
    want: &Request,
    mut visit: impl FnMut(u64, &ChunkRecord) -> ControlFlow<()>,
) -> OpResult<()> {
    let first = want.layout.chunk_of(want.from).max(1);
    let last = want.layout.chunk_of(want.until.saturating_sub(1));
    if last < first {
        return Ok(());
    }
    let from = key::chunk(v.partition, want.ino, first);
    let until = key::chunk(v.partition, want.ino, last.saturating_add(1));
    let mut damaged = None;
    v.scan(
        Db::Chunk,
        &from,
        &until,
        |key, value| match ChunkRecord::decode(value) {
            Ok(record) => visit(chunks::index_of(key), &record),
            Err(error) => {
                damaged = Some(error);
                ControlFlow::Break(())
            }
        },
    )?;
    damaged.map_or(Ok(()), |error| Err(error.into()))
}

fn next_data<V: World>(v: &mut View<V>, want: &Request) -> OpResult<OpReply> {
    let size = want.layout.chunk_size_bytes();
    let (mut position, mut seen, mut go_on) = (None, 0, want.until);
    chunks_here(v, want, |index, record| {
        let start = index * size;
        seen += 1;
        if let Some(at) = record.next_data(want.from.saturating_sub(start) as u32) {
            position = Some(start + u64::from(at));
            return ControlFlow::Break(());
        }
        if seen == STEP_CHUNKS {
            go_on = (start + size).min(want.until);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(match position {
        Some(position) => found(want, position),
        None => OpReply::Sought {
            position: go_on,
            found: false,
        },
    })
}

fn next_hole<V: World>(v: &mut View<V>, want: &Request) -> OpResult<OpReply> {
    let (partition, partitions) = (v.partition, v.cluster.partitions());
    let (size, width) = (
        want.layout.chunk_size_bytes(),
        u64::from(want.layout.width.max(1)),
    );
    // The first chunk at or after `chunk` that lies here: one of any `width` in a row, or none.
    let here = |chunk: u64| {
        (chunk..chunk + width)
            .find(|c| want.layout.partition_of(want.ino, *c, partitions) == partition)
    };
    let start_of = |chunk: u64| (chunk * size).max(want.from);
    let mut expected = here(want.layout.chunk_of(want.from).max(1));
    let (mut position, mut seen, mut go_on) = (None, 0, None);
    chunks_here(v, want, |index, record| {
        if expected.is_none_or(|e| e < index) {
            return ControlFlow::Break(());
        }
        let start = index * size;
        let at = u64::from(record.next_hole(want.from.saturating_sub(start) as u32));
        if at < size {
            position = Some(start + at);
            return ControlFlow::Break(());
        }
        expected = here(index + 1);
        seen += 1;
        if seen == STEP_CHUNKS {
            go_on = Some((start + size).min(want.until));
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    })?;
    Ok(match (position, go_on) {
        (Some(position), _) => found(want, position),
        (None, Some(position)) => OpReply::Sought {
            position,
            found: false,
        },
        (None, None) => found(want, expected.map_or(want.until, start_of)),
    })
}
