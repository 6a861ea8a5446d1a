//! Directories as they were listed last: the records of whole listings, ready to be sent.
//!
//! Many processes list the same directories (loaders, module paths, a shell's completion); forming
//! the records again takes longer than sending them. What must stay true: what is kept is what a scan
//! would find. Entries change through `Meta::apply` alone, which drops the listing of their
//! directory; commits move entries without changing them.

use std::collections::{HashMap, VecDeque};

use sealfs_protocol::ids::{InodeId, PartitionId};

/// All listings together take no more, in bytes.
const KEPT_MAX_BYTES: usize = 4 << 20;
/// One that is shorter is formed as fast as it is found.
const LISTING_MIN_BYTES: usize = 128;
const LISTING_MAX_BYTES: usize = 128 << 10;

/// Which entries: those that lie with `host`, from `position` on, up to the last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    pub host: PartitionId,
    pub directory: InodeId,
    pub position: u64,
    /// The position behind the last.
    pub behind: u64,
}

type Place = (PartitionId, InodeId);

#[derive(Default)]
pub(super) struct Listings {
    kept: HashMap<Place, (Span, Box<[u8]>)>,
    /// In the order of their coming; also such that are gone.
    order: VecDeque<Place>,
    bytes: usize,
}

impl Listings {
    pub fn find(&self, span: Span) -> Option<&[u8]> {
        let (kept, records) = self.kept.get(&(span.host, span.directory))?;
        (*kept == span).then_some(records)
    }

    /// Keeps the records of a listing that is complete.
    pub fn keep(&mut self, span: Span, records: &[u8]) {
        if !(LISTING_MIN_BYTES..=LISTING_MAX_BYTES).contains(&records.len()) {
            return;
        }
        let place = (span.host, span.directory);
        self.remove(place);
        while self.bytes + records.len() > KEPT_MAX_BYTES
            || self.order.len() > KEPT_MAX_BYTES / LISTING_MIN_BYTES
        {
            match self.order.pop_front() {
                Some(oldest) => self.remove(oldest),
                None => break,
            }
        }
        self.bytes += records.len();
        self.kept.insert(place, (span, records.into()));
        self.order.push_back(place);
    }

    /// An entry under `key` (partition, directory, name) has changed.
    pub fn changed(&mut self, key: &[u8]) {
        if self.kept.is_empty() {
            return;
        }
        let (Some(host), Some(directory)) = (key.first_chunk(), key.get(2..10)) else {
            return;
        };
        let directory = directory.first_chunk().copied().unwrap_or_default();
        self.remove((
            PartitionId(u16::from_be_bytes(*host)),
            InodeId(u64::from_be_bytes(directory)),
        ));
    }

    fn remove(&mut self, place: Place) {
        if let Some((_, records)) = self.kept.remove(&place) {
            self.bytes -= records.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::db::key;

    fn span(directory: u64, behind: u64) -> Span {
        Span {
            host: PartitionId(7),
            directory: InodeId(directory),
            position: 2,
            behind,
        }
    }

    #[test]
    fn a_listing_is_kept_until_an_entry_of_its_directory_changes() {
        let mut listings = Listings::default();
        listings.keep(span(1, 9), &[1; 1000]);
        listings.keep(span(2, 9), &[2; 1000]);
        assert_eq!(listings.find(span(1, 9)), Some(&[1; 1000][..]));
        assert_eq!(listings.find(span(1, 8)), None);
        listings.changed(&key::dent(PartitionId(6), InodeId(1), b"a"));
        assert!(listings.find(span(1, 9)).is_some());
        listings.changed(&key::dent(PartitionId(7), InodeId(1), b"a"));
        assert_eq!(listings.find(span(1, 9)), None);
        assert!(listings.find(span(2, 9)).is_some());
    }

    #[test]
    fn it_takes_no_more_than_its_share_of_memory() {
        let mut listings = Listings::default();
        for directory in 0..1000 {
            listings.keep(span(directory, 9), &vec![0; 64 << 10]);
            // Changed and listed again, over and over.
            listings.keep(span(1000, 9), &[0; LISTING_MIN_BYTES]);
            assert!(listings.bytes <= KEPT_MAX_BYTES);
            let sum = listings.kept.values().map(|(_, r)| r.len()).sum();
            assert_eq!(listings.bytes, sum);
        }
        assert!(listings.order.len() <= KEPT_MAX_BYTES / LISTING_MIN_BYTES + 1);
        assert!(listings.find(span(999, 9)).is_some());
        assert!(listings.find(span(1, 9)).is_none());
        listings.keep(span(5, 9), &vec![0; LISTING_MAX_BYTES + 1]);
        assert!(listings.find(span(5, 9)).is_none());
    }
}
