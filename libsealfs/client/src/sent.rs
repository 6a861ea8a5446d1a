//! What became of the pieces of a write, and of the new size.
//!
//! What must stay true: what a call reports is the contiguous prefix that landed; bytes that may lie
//! behind it are known here, since nobody will publish them.

use crate::plan::{Fate, Piece};
use crate::room::is_full;
use sealfs_protocol::Errno;

/// How far a window came.
pub(crate) struct Prefix {
    /// Bytes from its start on that are there.
    pub landed: usize,
    /// Why the piece behind them is not, and how long it is.
    pub failed: Option<(Errno, usize)>,
}

/// What became of a round's requests as a whole.
pub(crate) struct Sent {
    /// The truncate generation was another.
    pub stale: bool,
    pub size: Size,
}

/// What became of the new size.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Untold,
    /// Along with the data.
    Published,
    /// The truncate generation was another.
    Refused,
}

pub(crate) fn prefix_of(pieces: &[Piece]) -> Prefix {
    let mut prefix = Prefix {
        landed: 0,
        failed: None,
    };
    for piece in pieces {
        let len = piece.span.len_bytes as usize;
        match piece.fate {
            Fate::Landed => prefix.landed += len,
            Fate::Failed(errno) => {
                prefix.failed = Some((errno, len));
                break;
            }
            Fate::Beyond | Fate::Open => break,
        }
    }
    prefix
}

/// Whether bytes may have landed behind the prefix, where nobody publishes them.
pub(crate) fn leaves_some(pieces: &[Piece]) -> bool {
    let rest = pieces.iter().skip_while(|p| p.fate == Fate::Landed);
    // What there was no room for is not there.
    let may_be_there = |fate| match fate {
        Fate::Landed => true,
        Fate::Failed(errno) => !is_full(errno),
        Fate::Beyond | Fate::Open => false,
    };
    rest.map(|p| p.fate).any(may_be_there)
}

/// What has landed behind byte `end` of the file is to be sent again.
pub(crate) fn reopen(pieces: &mut [Piece], offset: u64, end: u64) {
    for piece in pieces.iter_mut().filter(|p| p.fate == Fate::Landed) {
        if offset + piece.at as u64 + u64::from(piece.span.len_bytes) > end {
            piece.fate = Fate::Open;
        }
    }
}
