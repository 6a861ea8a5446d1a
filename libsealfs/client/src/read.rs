//! Reading: all chunks involved at once, straight into the caller's memory.
//!
//! Chunks know nothing of the file's size: what a chunk does not have is a hole if the file is longer
//! than that, and the end otherwise. So where the known size does not reach to the end of what is
//! asked, the owner's attributes are asked along. What must stay true: zeros are put in place of
//! missing bytes only when the size that makes them a hole was known before the bytes were asked for
//! (else a write in between would be read as zeros that never were).

use crate::attr::itself;
use crate::client::Client;
use crate::config::FileRef;
use crate::files::FileInfo;
use crate::part::{Answer, Part};
use sealfs_protocol::layout::Span;
use sealfs_protocol::limits::IO_MAX_BYTES;
use sealfs_protocol::message::{Op, OpReply, Refusal};
use sealfs_protocol::{Errno, PartitionId};
use sealfs_transport::memory::{IoVecMut, total_mut};

/// Most data that is asked for at once, in bytes.
const WINDOW_BYTES: usize = 8 << 20;

/// One span and where its bytes go.
struct Piece<'m> {
    span: Span,
    /// Where it begins in the file.
    offset: u64,
    places: Vec<IoVecMut<'m>>,
    /// The file's attributes are asked first, in the same request.
    with_attr: bool,
}

/// What one round of requests has found.
struct Round {
    /// Bytes of each piece, in order; what follows is not about pieces.
    got: Vec<usize>,
    /// The truncate generation was another: ask again.
    stale: bool,
    /// The owner was asked for the size.
    asked_size: bool,
}

impl Client {
    /// Reads from `offset` into `targets`; short only at the end of the file.
    pub fn read(
        &self,
        file: FileRef,
        offset: u64,
        targets: &mut [IoVecMut<'_>],
    ) -> Result<usize, Errno> {
        self.read_as(file, offset, targets, true)
    }

    /// As [`Client::read`]; without `atime` the access time stays (O_NOATIME).
    pub fn read_as(
        &self,
        file: FileRef,
        offset: u64,
        targets: &mut [IoVecMut<'_>],
        atime: bool,
    ) -> Result<usize, Errno> {
        let wanted = total_mut(targets).min((i64::MAX as u64).saturating_sub(offset) as usize);
        if wanted == 0 {
            return Ok(0);
        }
        let deadline = self.deadline();
        let mut done = 0;
        while done < wanted {
            let window = (wanted - done).min(WINDOW_BYTES);
            match self.read_window(file, offset + done as u64, targets, done, window, atime) {
                Ok(Progress::Read(n)) => done += n,
                Ok(Progress::End(n)) => return Ok(done + n),
                Ok(Progress::Again) if self.shared.config.world.now() < deadline => {}
                Ok(Progress::Again) if done == 0 => return Err(Errno::EIO),
                Err(errno) if done == 0 => return Err(errno),
                Ok(Progress::Again) | Err(_) => return Ok(done),
            }
        }
        Ok(done)
    }

    fn read_window(
        &self,
        file: FileRef,
        offset: u64,
        targets: &mut [IoVecMut<'_>],
        skip: usize,
        len: usize,
        atime: bool,
    ) -> Result<Progress, Errno> {
        let info = self.file_info(file)?;
        let mut end = offset + len as u64;
        let covered = end <= info.size_bytes;
        if !covered {
            // Beyond the known size only the first chunk is tried before the size is known better.
            let chunk_end = (offset / info.layout.chunk_size_bytes() + 1)
                .saturating_mul(info.layout.chunk_size_bytes());
            end = end.min(chunk_end.max(info.size_bytes));
        }
        let mut pieces = cut(targets, skip, offset, (end - offset) as usize, info);
        let round = self.read_round(file, info, &mut pieces, !covered, atime)?;
        if round.stale {
            return Ok(Progress::Again);
        }
        let size = if round.asked_size {
            self.file_info(file)?.size_bytes
        } else {
            info.size_bytes
        };
        let known_before = |p: &Piece<'_>, limit: u64| p.with_attr || limit <= info.size_bytes;
        let mut good = 0;
        for (piece, got) in pieces.iter_mut().zip(round.got) {
            let piece_end = piece.offset + u64::from(piece.span.len_bytes);
            let limit = piece_end.min(size).max(piece.offset);
            let want = (limit - piece.offset) as usize;
            if got < want {
                if !known_before(piece, limit) {
                    good += got;
                    return Ok(if good > 0 {
                        Progress::Read(good)
                    } else {
                        Progress::Again
                    });
                }
                let hooks = &self.shared.config.hooks;
                hooks
                    .zero(&mut piece.places, got, want - got)
                    .map_err(|_| Errno::EFAULT)?;
            }
            good += want;
            if limit < piece_end {
                return Ok(Progress::End(good));
            }
        }
        Ok(Progress::Read(good))
    }

    fn read_round(
        &self,
        file: FileRef,
        info: FileInfo,
        pieces: &mut [Piece<'_>],
        ask_size: bool,
        atime: bool,
    ) -> Result<Round, Errno> {
        let state = self.shared.cluster.state();
        let ring = &state.ring;
        let owner = ring.owner(file.ino.partition()).map(|o| o.id);
        let slot = self.shared.slots.take();
        let get_attr = || {
            let op = Op::GetAttr {
                at: itself(file.ino),
                follow: false,
            };
            (file.ino.partition(), op)
        };
        let reads_first = pieces.iter().any(|piece| piece.span.chunk == 0);
        let mut asked_along = false;
        let mut parts = Vec::with_capacity(pieces.len() + 1);
        for piece in pieces.iter_mut() {
            let partition = partition_of(file, info, piece.span, ring.partitions());
            let mut ops = Vec::with_capacity(2);
            if ask_size && ring.owner(partition).map(|o| o.id) == owner {
                ops.push(get_attr());
                piece.with_attr = true;
                asked_along = true;
            }
            let op = Op::Read {
                ino: file.ino,
                chunk: piece.span.chunk,
                offset_bytes: piece.span.offset_bytes,
                len_bytes: piece.span.len_bytes,
                atime,
                generation: info.generation,
            };
            ops.push((partition, op));
            parts.push(Part::new(&slot, ops, &[], &mut piece.places));
        }
        if ask_size && !asked_along {
            parts.push(Part::new(&slot, vec![get_attr()], &[], &mut []));
        }
        let tells = atime && self.shared.files.lock().accessed(file.ino);
        if tells && !reads_first {
            // Nothing is read where the inode is, so that has to be told.
            let op = Op::Read {
                ino: file.ino,
                chunk: 0,
                offset_bytes: 0,
                len_bytes: 0,
                atime,
                generation: info.generation,
            };
            let ops = vec![(file.ino.partition(), op)];
            parts.push(Part::new(&slot, ops, &[], &mut []));
        }
        self.run(&mut parts, &mut self.mode(&slot));
        let mut round = Round {
            got: Vec::with_capacity(parts.len()),
            stale: false,
            asked_size: ask_size,
        };
        for part in &mut parts {
            let answer = part.take_answer()?;
            self.take_in(file, &answer, &mut round)?;
        }
        Ok(round)
    }

    /// Takes over what one answer says.
    fn take_in(&self, file: FileRef, answer: &Answer, round: &mut Round) -> Result<(), Errno> {
        for reply in &answer.replies {
            match reply {
                OpReply::Attr(attr) => self.shared.files.lock().refresh(attr),
                OpReply::Read { len_bytes } => {
                    if answer.payload_bytes != *len_bytes as usize {
                        return Err(Errno::EIO);
                    }
                    round.got.push(*len_bytes as usize);
                }
                OpReply::Refused(Refusal::StaleGeneration { attr }) => {
                    round.stale = true;
                    self.refresh_file(file, attr.as_ref())?;
                }
                OpReply::Errno(errno) => return Err(*errno),
                _ => return Err(Errno::EIO),
            }
        }
        Ok(())
    }

    /// The truncate generation that we knew is old.
    pub(crate) fn refresh_file(
        &self,
        file: FileRef,
        attr: Option<&sealfs_protocol::attr::Attr>,
    ) -> Result<(), Errno> {
        match attr {
            Some(attr) => self.shared.files.lock().refresh(attr),
            None => {
                self.stat_open(file)?;
            }
        }
        Ok(())
    }
}

/// How far a window came.
enum Progress {
    Read(usize),
    /// So many bytes, and then the end of the file.
    End(usize),
    /// What was known of the file has changed: try again.
    Again,
}

pub(crate) fn partition_of(
    file: FileRef,
    info: FileInfo,
    span: Span,
    partitions: u16,
) -> PartitionId {
    info.layout.partition_of(file.ino, span.chunk, partitions)
}

/// Cuts a byte range into pieces of one request each, with the memory for each.
fn cut<'m>(
    targets: &'m mut [IoVecMut<'_>],
    skip: usize,
    offset: u64,
    len: usize,
    info: FileInfo,
) -> Vec<Piece<'m>> {
    let mut places = targets.iter_mut().map(IoVecMut::reborrow);
    let mut current = places.next();
    let mut take = |mut len: usize, out: &mut Vec<IoVecMut<'m>>| {
        while len > 0 {
            let Some(place) = &mut current else { return };
            let front = place.split_off_front(len);
            if front.is_empty() {
                current = places.next();
                continue;
            }
            len -= front.len();
            out.push(front);
        }
    };
    take(skip, &mut Vec::new());
    let mut pieces = Vec::new();
    for span in info.layout.split(offset, len as u64) {
        let start = span.chunk * info.layout.chunk_size_bytes();
        for at in (0..span.len_bytes).step_by(IO_MAX_BYTES as usize) {
            let part = Span {
                chunk: span.chunk,
                offset_bytes: span.offset_bytes + at,
                len_bytes: (span.len_bytes - at).min(IO_MAX_BYTES),
            };
            let mut list = Vec::with_capacity(1);
            take(part.len_bytes as usize, &mut list);
            pieces.push(Piece {
                span: part,
                offset: start + u64::from(part.offset_bytes),
                places: list,
                with_attr: false,
            });
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealfs_protocol::TruncateGeneration;
    use sealfs_protocol::attr::Layout;

    #[test]
    fn pieces_share_the_memory_out_without_gaps() {
        let info = FileInfo {
            layout: Layout {
                chunk_size_log2: 16,
                width: 4,
            },
            generation: TruncateGeneration(0),
            wide: true,
            size_bytes: 0,
        };
        let (mut a, mut b) = (vec![0u8; 100_000], vec![0u8; 60_000]);
        let mut targets = [IoVecMut::new(&mut a), IoVecMut::new(&mut b)];
        let pieces = cut(&mut targets, 1_000, 65_000, 150_000, info);
        let lens: Vec<usize> = pieces.iter().map(|p| total_mut(&p.places)).collect();
        assert_eq!(lens, [536, 65_536, 65_536, 18_392]);
        assert_eq!(pieces[1].offset, 65_536);
        assert_eq!(
            pieces[1].places.len(),
            2 - 1 + usize::from(100_000 < 1_000 + 536 + 65_536)
        );
    }
}
