//! At the edge of the quota and of the space: a write that does not fit as a whole is done as far as it
//! fits, block by block, and the next one is refused, as by the kernel.
//!
//! The servers refuse what does not fit and change nothing, so shorter pieces may be tried. What must
//! stay true: a full volume costs one more try, not many; of an append only one piece is placed,
//! since somebody else may append in between.

use crate::client::Client;
use crate::config::FileRef;
use crate::plan::Window;
use sealfs_protocol::Errno;
use sealfs_transport::memory::IoVec;

/// What is counted: quotas and stores know no smaller unit.
const BLOCK_BYTES: u64 = 4096;

/// Whether less might have fitted.
pub(crate) fn is_full(errno: Errno) -> bool {
    matches!(errno, Errno::EDQUOT | Errno::ENOSPC)
}

/// How far it is from `offset` to the first block's end at or after half of `len`; `None` if `len` ends
/// within the first block.
fn half(offset: u64, len: usize) -> Option<usize> {
    let first = (offset / BLOCK_BYTES + 1) * BLOCK_BYTES;
    let middle = (offset + len as u64 / 2) / BLOCK_BYTES * BLOCK_BYTES;
    let cut = (middle.max(first) - offset) as usize;
    (cut < len).then_some(cut)
}

impl Client {
    /// After `landed` bytes of a window a piece of `len` was refused: as much of it as fits. How much
    /// of the window is there then.
    pub(crate) fn write_what_fits(
        &self,
        window: Window<'_>,
        landed: usize,
        len: usize,
        errno: Errno,
    ) -> Result<usize, Errno> {
        let (mut done, mut refused) = (landed, landed + len);
        let at = window.offset + landed as u64;
        // One block first: often there is nothing left at all.
        let mut next = ((at / BLOCK_BYTES + 1) * BLOCK_BYTES - at) as usize;
        while done + next < refused {
            let prefix = match self.write_prefix(window.part(done, next)) {
                Ok(prefix) => prefix,
                // What has landed is what the program is told.
                Err(_) if done > 0 => break,
                Err(errno) => return Err(errno),
            };
            done += prefix.landed;
            match prefix.failed {
                None if prefix.landed < next => break,
                None => {}
                Some((errno, _)) if is_full(errno) && prefix.landed == 0 => refused = done + next,
                Some(_) => break,
            }
            if done == landed {
                break;
            }
            match half(window.offset + done as u64, refused - done) {
                Some(cut) => next = cut,
                None => break,
            }
        }
        if done == 0 { Err(errno) } else { Ok(done) }
    }

    /// An append of `len` bytes was refused: one of as many as fit, roughly. How many, and where.
    pub(crate) fn append_what_fits(
        &self,
        file: FileRef,
        sources: &[IoVec<'_>],
        from: usize,
        len: usize,
        errno: Errno,
    ) -> Result<(usize, u64), Errno> {
        let size = self.stat_open(file)?.size_bytes;
        let mut len = len;
        while let Some(cut) = half(size, len) {
            match self.append_some(file, sources, from, cut) {
                Ok(at) => return Ok((cut, at)),
                Err(errno) if is_full(errno) => len = cut,
                Err(errno) => return Err(errno),
            }
        }
        Err(errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_end_at_blocks_and_come_to_an_end() {
        assert_eq!(half(0, 4096), None);
        assert_eq!(half(100, 3000), None);
        assert_eq!(half(100, 5000), Some(3996));
        assert_eq!(half(0, 1 << 20), Some(1 << 19));
        let (mut len, mut steps) = (1 << 20, 0);
        while let Some(cut) = half(77, len) {
            assert!(cut < len && (77 + cut as u64).is_multiple_of(BLOCK_BYTES));
            (len, steps) = (cut, steps + 1);
        }
        assert!(steps <= 9, "{steps}");
    }
}
