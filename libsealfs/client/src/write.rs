//! Writing: data goes to the chunks' owners from the caller's memory, then the size is published.
//!
//! What must stay true: nobody sees a size whose bytes are not there (data first, then the size; the
//! `wide` bit before any data beyond chunk 0), nor bytes behind the end that were never published (who
//! leaves some tells the owner, which cuts them before a gap shows them); a write that returned is what later reads see; what a
//! call reports is the contiguous prefix that landed (of what there is no room for as a whole, as much
//! as fits: `room`); a span that landed is not sent again under a new sequence, since that could undo
//! what somebody else wrote since, unless it lay behind the end and was cut.

use crate::client::Client;
use crate::config::FileRef;
use crate::files::FileInfo;
use crate::part::{Answer, Part};
use crate::plan::{Content, Extra, Fate, Piece, Window, batches, cut, publish_op};
use crate::room::is_full;
use crate::sent::{Prefix, Sent, Size, leaves_some, prefix_of, reopen};
use sealfs_protocol::limits::{FILE_SIZE_MAX_BYTES, IO_MAX_BYTES};
use sealfs_protocol::message::{Op, OpReply, Refusal};
use sealfs_protocol::ring::Ring;
use sealfs_protocol::{Errno, InodeId};
use sealfs_transport::memory::{IoVec, slice, total};

/// Most data that is under way at once, in bytes: a frame's payload at most.
const WINDOW_BYTES: usize = 8 << 20;
/// How long a write that failed tries to tell what it has left, in ms.
const DOUBT_WITHIN_MS: u32 = 1_000;

impl Client {
    /// Writes at `offset`; the length of the contiguous prefix that landed, or why nothing did.
    pub fn write(&self, file: FileRef, offset: u64, sources: &[IoVec<'_>]) -> Result<usize, Errno> {
        let wanted = total(sources);
        if wanted == 0 {
            return Ok(0);
        }
        if offset >= FILE_SIZE_MAX_BYTES {
            return Err(Errno::EFBIG);
        }
        let wanted = wanted.min((FILE_SIZE_MAX_BYTES - offset) as usize);
        let mut done = 0;
        while done < wanted {
            let window = Window {
                file,
                offset: offset + done as u64,
                content: Content::Memory(sources, done),
                len: (wanted - done).min(WINDOW_BYTES),
            };
            match self.write_window(window) {
                Ok(n) => {
                    done += n;
                    if n < window.len {
                        break;
                    }
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    pub(crate) fn write_window(&self, window: Window<'_>) -> Result<usize, Errno> {
        let Prefix { landed, failed } = self.write_prefix(window)?;
        match failed {
            Some((errno, len)) if is_full(errno) => {
                self.write_what_fits(window, landed, len, errno)
            }
            Some((errno, _)) if landed == 0 => Err(errno),
            _ => Ok(landed),
        }
    }

    /// One go at a whole window.
    pub(crate) fn write_prefix(&self, window: Window<'_>) -> Result<Prefix, Errno> {
        let info = self.file_info(window.file)?;
        let state = self.shared.cluster.state();
        let mut pieces = cut(window, info, &state.ring);
        let mut extends = false;
        let done = self.write_rounds(window, info, &mut pieces, &state.ring, &mut extends);
        if extends {
            let leaves = done.is_err() || leaves_some(&pieces);
            // If the owner cannot be told now, whoever sees this process end tells it.
            if !leaves || self.doubt_end(window.file.ino).is_ok() {
                self.shared.config.extending.inspect(|note| note(false));
            }
        }
        done.map(|()| prefix_of(&pieces))
    }

    /// Sends the pieces until all have found their fate, or fails. `extends`: something was sent behind
    /// the end.
    fn write_rounds(
        &self,
        mut window: Window<'_>,
        mut info: FileInfo,
        pieces: &mut [Piece],
        ring: &Ring,
        extends: &mut bool,
    ) -> Result<(), Errno> {
        let deadline = self.deadline();
        let is_over = |pieces: &[Piece]| pieces.iter().all(|p| p.fate != Fate::Open);
        let beyond = pieces.iter().any(|p| p.span.chunk > 0);
        let end = window.offset + window.len as u64;
        loop {
            if beyond && end > info.size_bytes && !*extends {
                *extends = true;
                self.shared.config.extending.inspect(|note| note(true));
            }
            let stale = self.write_round(window, info, pieces, ring)?;
            if !stale || is_over(pieces) {
                return Ok(());
            }
            if self.shared.config.world.now() >= deadline {
                return Err(Errno::EIO);
            }
            info = self.file_info(window.file)?;
            self.look_at_source(&mut window, pieces)?;
            if is_over(pieces) {
                return Ok(());
            }
        }
    }

    /// Tells that bytes may lie behind the end of a file which nobody will publish. It does not last
    /// long: an owner that is down does not need it, since it doubts every file when it starts.
    pub fn doubt_end(&self, ino: InodeId) -> Result<(), Errno> {
        let slot = self.shared.slots.take();
        let ops = vec![(ino.partition(), Op::Doubt { ino })];
        let mut parts = [Part::new(&slot, ops, &[], &mut [])];
        let mut mode = self.mode(&slot);
        mode.deadline = self.now().after_ms(DOUBT_WITHIN_MS);
        self.run(&mut parts, &mut mode);
        let [part] = parts;
        part.single().map(drop)
    }

    /// Sends every open piece, and publishes what landed. True: the truncate generation was another,
    /// some pieces are still open.
    fn write_round(
        &self,
        window: Window<'_>,
        info: FileInfo,
        pieces: &mut [Piece],
        ring: &Ring,
    ) -> Result<bool, Errno> {
        let home = window.file.ino.partition();
        let owner = ring.owner(home).map(|o| o.id);
        let beyond = pieces.iter().any(|p| p.span.chunk > 0);
        let local = pieces
            .iter()
            .all(|p| ring.owner(p.partition).map(|o| o.id) == owner);
        if !beyond {
            let sent = self.send_pieces(window, info, pieces, Extra::default())?;
            return Ok(sent.stale);
        }
        let end = window.offset + window.len as u64;
        let grows = end > info.size_bytes;
        let has_first = pieces.iter().any(|p| p.span.chunk == 0);
        let sent = if local {
            let size = if grows { end } else { 0 };
            let extra = Extra {
                widen: !info.wide,
                publish: (grows || !has_first).then_some(size),
                together: true,
            };
            self.send_pieces(window, info, pieces, extra)?
        } else {
            if !info.wide && self.publish(window, info, 0)? {
                return Ok(true);
            }
            let extra = Extra {
                widen: false,
                publish: (!grows && !has_first).then_some(0),
                together: false,
            };
            self.send_pieces(window, info, pieces, extra)?
        };
        let landed = prefix_of(pieces).landed as u64;
        let landed_end = window.offset + landed;
        let grown = landed > 0 && landed_end > info.size_bytes;
        let stale = match sent.size {
            Size::Refused => true,
            Size::Untold if grown => self.publish(window, info, landed_end)?,
            Size::Untold | Size::Published => false,
        };
        if stale {
            // What lay behind the end was cut in between: it is written again.
            reopen(pieces, window.offset, info.size_bytes);
        }
        Ok(sent.stale || stale)
    }

    /// Raises the size. True: the truncate generation was another.
    fn publish(
        &self,
        window: Window<'_>,
        info: FileInfo,
        size_at_least_bytes: u64,
    ) -> Result<bool, Errno> {
        let file = window.file;
        let op = publish_op(file, info, window.offset, size_at_least_bytes);
        match self.call(file.ino.partition(), op)? {
            OpReply::Written { size_bytes, .. } => {
                let mut files = self.shared.files.lock();
                files.grown(file.ino, info.generation, size_bytes, true);
                Ok(false)
            }
            OpReply::Refused(Refusal::StaleGeneration { attr }) => {
                self.refresh_file(file, attr.as_ref())?;
                Ok(true)
            }
            reply => Err(crate::walk::unexpected(&reply)),
        }
    }

    /// One request for each partition, or one for all of them.
    fn send_pieces(
        &self,
        window: Window<'_>,
        info: FileInfo,
        pieces: &mut [Piece],
        extra: Extra,
    ) -> Result<Sent, Errno> {
        let partitions = self.shared.cluster.state().ring.partitions();
        let batches = batches(window, info, pieces, extra, partitions);
        let slot = self.shared.slots.take();
        let mut roles = Vec::with_capacity(batches.len());
        let mut payloads = Vec::with_capacity(batches.len());
        let mut ops = Vec::with_capacity(batches.len());
        for batch in batches {
            roles.push(batch.roles);
            payloads.push(batch.payload);
            ops.push(batch.ops);
        }
        let parts = ops.into_iter().zip(&payloads);
        let mut parts: Vec<Part<'_, '_>> = parts
            .map(|(ops, payload)| Part::new(&slot, ops, payload, &mut []))
            .collect();
        self.run(&mut parts, &mut self.mode(&slot));
        let publishes = extra.publish.is_some_and(|size| size > 0);
        let mut sent = Sent {
            stale: false,
            size: if publishes {
                Size::Published
            } else {
                Size::Untold
            },
        };
        for (part, roles) in parts.iter_mut().zip(&roles) {
            match part.take_answer() {
                Ok(answer) => {
                    self.settle(window.file, info, pieces, roles, &answer, &mut sent)?;
                }
                Err(errno) => {
                    sent.size = Size::Untold;
                    for index in roles.iter().flatten() {
                        pieces[*index].fate = Fate::Failed(errno);
                    }
                }
            }
        }
        Ok(sent)
    }

    /// Takes over the fates that one answer tells, in the order of its operations.
    fn settle(
        &self,
        file: FileRef,
        info: FileInfo,
        pieces: &mut [Piece],
        roles: &[Option<usize>],
        answer: &Answer,
        sent: &mut Sent,
    ) -> Result<(), Errno> {
        for (role, reply) in roles.iter().zip(&answer.replies) {
            match reply {
                OpReply::Written {
                    size_bytes,
                    incarnation,
                    ..
                } => {
                    let mut files = self.shared.files.lock();
                    files.grown(file.ino, info.generation, *size_bytes, role.is_none());
                    if let Some(index) = role {
                        pieces[*index].fate = Fate::Landed;
                        files.note_written(file, answer.shard, *incarnation);
                    }
                }
                OpReply::Refused(Refusal::StaleGeneration { attr }) => {
                    sent.stale = true;
                    if role.is_none() {
                        sent.size = Size::Refused;
                    }
                    self.refresh_file(file, attr.as_ref())?;
                }
                OpReply::Errno(errno) => match role {
                    Some(index) => pieces[*index].fate = Fate::Failed(*errno),
                    None => sent.size = Size::Untold,
                },
                _ => return Err(Errno::EIO),
            }
        }
        Ok(())
    }

    /// O_APPEND: the owner puts the bytes at the end. Returns how many, and where the file ended
    /// then.
    pub fn append(&self, file: FileRef, sources: &[IoVec<'_>]) -> Result<(usize, u64), Errno> {
        let wanted = total(sources);
        let info = self.file_info(file)?;
        let (mut done, mut end) = (0, info.size_bytes);
        while done < wanted {
            let len = (wanted - done).min(IO_MAX_BYTES as usize);
            match self.append_some(file, sources, done, len) {
                Ok(at) => {
                    done += len;
                    end = at + len as u64;
                }
                Err(errno) if is_full(errno) => {
                    match self.append_what_fits(file, sources, done, len, errno) {
                        Ok((count, at)) => {
                            done += count;
                            end = at + count as u64;
                        }
                        Err(errno) if done == 0 => return Err(errno),
                        Err(_) => {}
                    }
                    break;
                }
                Err(errno) if done == 0 => return Err(errno),
                Err(_) => break,
            }
        }
        Ok((done, end))
    }

    /// Returns where the bytes went.
    pub(crate) fn append_some(
        &self,
        file: FileRef,
        sources: &[IoVec<'_>],
        from: usize,
        len: usize,
    ) -> Result<u64, Errno> {
        let mut payload = Vec::with_capacity(sources.len());
        slice(sources, from, len, &mut payload);
        let op = Op::Append {
            ino: file.ino,
            len_bytes: len as u32,
            open: file.open,
        };
        let slot = self.shared.slots.take();
        let ops = vec![(file.ino.partition(), op)];
        let mut parts = [Part::new(&slot, ops, &payload, &mut [])];
        self.run(&mut parts, &mut self.mode(&slot));
        let [mut part] = parts;
        let answer = part.take_answer()?;
        match answer.replies.first() {
            Some(OpReply::Written {
                offset,
                size_bytes,
                incarnation,
            }) => {
                let mut files = self.shared.files.lock();
                if let Some(info) = files.info(file.ino) {
                    let wide = *size_bytes > info.layout.chunk_size_bytes();
                    files.grown(file.ino, info.generation, *size_bytes, wide);
                }
                files.note_written(file, answer.shard, *incarnation);
                Ok(*offset)
            }
            Some(reply) => Err(crate::walk::unexpected(reply)),
            None => Err(Errno::EIO),
        }
    }
}
