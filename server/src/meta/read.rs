//! Reading: what the overlay says, else what is kept of the index, else the index.

use std::ops::ControlFlow;

use super::db::{Db, Key};
use super::listings::Span;
use super::{Meta, StoreError};
use crate::env::{BlockDevice, Kv};

impl<K: Kv, D: BlockDevice> Meta<K, D> {
    /// The value of a key, with everything appended so far.
    pub fn get(&self, db: Db, key: &[u8]) -> Result<Option<&[u8]>, StoreError> {
        let value = self.overlay.get(&self.kv, db, key);
        value.map_err(StoreError::io("index"))
    }

    /// Visits the keys in `from..until` in key order until the visitor breaks.
    pub fn scan_with(
        &self,
        db: Db,
        from: &[u8],
        until: &[u8],
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let scanned = self.overlay.scan(&self.kv, db, from, until, visit);
        scanned.map_err(StoreError::io("index"))
    }

    /// The first `limit` keys in `from..until`, with their values.
    pub fn scan(
        &self,
        db: Db,
        from: &[u8],
        until: &[u8],
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        self.scan_with(db, from, until, |key, value| {
            found.push((Key::from_slice(key), value.to_vec()));
            if found.len() < limit {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        })?;
        Ok(found)
    }

    /// As [`Meta::get`]; a value of the index that `is_kept` holds for is at hand the next time.
    pub fn get_kept(
        &mut self,
        db: Db,
        key: &[u8],
        is_kept: fn(Db, &[u8]) -> bool,
    ) -> Result<Option<&[u8]>, StoreError> {
        if let Some(value) = self.overlay.known(db, key) {
            return Ok(value.as_deref());
        }
        // Looked up twice: the borrow of what is returned would last until the end otherwise.
        if self.recent.find(db, key).is_some() {
            return Ok(self.recent.find(db, key));
        }
        let value = self.kv.get(db, key).map_err(StoreError::io("index"))?;
        if let Some(value) = value.filter(|value| is_kept(db, value)) {
            self.recent.keep(db, key, value);
        }
        Ok(value)
    }

    /// The records of a listing, if they are kept.
    pub fn listing(&self, span: Span) -> Option<&[u8]> {
        self.listings.find(span)
    }

    /// Keeps the records of a listing that is complete.
    pub fn keep_listing(&mut self, span: Span, records: &[u8]) {
        self.listings.keep(span, records);
    }
}
