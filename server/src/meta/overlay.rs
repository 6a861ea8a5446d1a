//! What the log holds and the index does not yet: the effects of recent entries, in memory.
//!
//! Two generations: the active one takes new effects; a frozen one is being committed and does not
//! change. Readers look into active, frozen, then the index. The allocation bitmaps that follow
//! from the log are part of it: they go to the index with the very entries they follow from.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;
use std::io;
use std::iter::Peekable;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use smallvec::SmallVec;

use super::db::{Db, Key};
use super::log::LogIndex;
use crate::env::{Kv, KvOp};
use crate::store::DeviceExtent;
use crate::store::alloc::{GROUP_BITMAP_BYTES, GROUP_BLOCKS};

/// Small values lie in the tree itself: a listing walks over hundreds of them, and the memory of one that
/// was not listed lately is far away.
pub type Value = Option<SmallVec<[u8; 48]>>;

/// What an entry costs besides the bytes of key and value, roughly, in bytes.
const ENTRY_OVERHEAD_BYTES: usize = 128;

/// The key of a group's bitmap: device (only 0 so far), group.
pub fn alloc_key(group: u32) -> [u8; 6] {
    let mut key = [0; 6];
    key[2..].copy_from_slice(&group.to_be_bytes());
    key
}

#[derive(Default)]
pub struct Generation {
    tables: [BTreeMap<Key, Value>; Db::ALL.len()],
    /// Memory it takes, roughly.
    bytes: usize,
    /// The last entry whose effects are in it, and where in the log the next one begins.
    pub through: LogIndex,
    pub through_position: u64,
}

impl Generation {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn set(&mut self, db: Db, key: &[u8], value: Option<&[u8]>) {
        let value: Value = value.map(SmallVec::from_slice);
        self.bytes += value.as_ref().map_or(0, SmallVec::len);
        if let Some(slot) = self.tables[db as usize].get_mut(key) {
            self.bytes -= slot.as_ref().map_or(0, SmallVec::len);
            *slot = value;
        } else {
            self.bytes += key.len() + ENTRY_OVERHEAD_BYTES;
            self.tables[db as usize].insert(Key::from_slice(key), value);
        }
    }

    /// What this generation says of a key, if anything: a value, or `None` if it is deleted.
    fn get(&self, db: Db, key: &[u8]) -> Option<&Value> {
        self.tables[db as usize].get(key)
    }

    fn range(&self, db: Db, from: &[u8], until: &[u8]) -> Range<'_, Key, Value> {
        let bounds = (Bound::Included(from), Bound::Excluded(until));
        self.tables[db as usize].range::<[u8], _>(bounds)
    }

    /// Everything in it, sorted by database and key, as the index takes it.
    pub fn ops(&self) -> impl Iterator<Item = KvOp<'_>> {
        Db::ALL.into_iter().flat_map(|db| {
            self.tables[db as usize]
                .iter()
                .map(move |(key, value)| KvOp {
                    db,
                    key,
                    value: value.as_deref(),
                })
        })
    }
}

#[derive(Default)]
pub struct Overlay {
    pub active: Generation,
    pub frozen: Option<Arc<Generation>>,
}

impl Overlay {
    /// The active generation is to be committed; a new one begins.
    pub fn freeze(&mut self) {
        debug_assert!(self.frozen.is_none(), "one commit at a time");
        self.frozen = Some(Arc::new(std::mem::take(&mut self.active)));
    }

    pub fn bytes(&self) -> usize {
        self.active.bytes + self.frozen.as_ref().map_or(0, |f| f.bytes)
    }

    pub fn get<'a, K: Kv>(&'a self, kv: &'a K, db: Db, key: &[u8]) -> io::Result<Option<&'a [u8]>> {
        match self.known(db, key) {
            Some(value) => Ok(value.as_deref()),
            None => kv.get(db, key),
        }
    }

    /// What the overlay itself says of a key, if anything.
    pub fn known(&self, db: Db, key: &[u8]) -> Option<&Value> {
        let below = || self.frozen.as_ref().and_then(|f| f.get(db, key));
        self.active.get(db, key).or_else(below)
    }

    /// Visits what is there in `from..until`, in key order, until the visitor breaks.
    pub fn scan<K: Kv>(
        &self,
        kv: &K,
        db: Db,
        from: &[u8],
        until: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        if from >= until {
            return Ok(());
        }
        let frozen = self.frozen.as_ref();
        let mut upper = Merged {
            active: self.active.range(db, from, until).peekable(),
            frozen: frozen.map(|f| f.range(db, from, until).peekable()),
        };
        if upper.is_empty() {
            return kv.scan(db, from, until, visit);
        }
        let mut broken = ControlFlow::Continue(());
        kv.scan(db, from, until, |key, value| {
            while let Some((own, changed)) = upper.next_through(key) {
                if let Some(changed) = changed {
                    broken = visit(own, changed);
                    if broken.is_break() {
                        return broken;
                    }
                }
                if own == key {
                    return ControlFlow::Continue(());
                }
            }
            broken = visit(key, value);
            broken
        })?;
        while broken.is_continue()
            && let Some((key, changed)) = upper.next()
        {
            if let Some(value) = changed {
                broken = visit(key, value);
            }
        }
        Ok(())
    }

    /// Marks blocks as used or free in the bitmaps that the next commit writes.
    pub fn mark<K: Kv>(&mut self, kv: &K, extent: DeviceExtent, used: bool) -> io::Result<()> {
        let mut at = extent.block;
        let until = extent.block + u64::from(extent.blocks);
        while at < until {
            let group = (at / u64::from(GROUP_BLOCKS)) as u32;
            let group_end = (u64::from(group) + 1) * u64::from(GROUP_BLOCKS);
            let end = until.min(group_end);
            let first = (at % u64::from(GROUP_BLOCKS)) as usize;
            let bits = first..first + (end - at) as usize;
            set_bits(self.bitmap(kv, group)?, bits, used);
            at = end;
        }
        Ok(())
    }

    /// The bitmap of a group in the active generation; taken from below at its first change.
    fn bitmap<K: Kv>(&mut self, kv: &K, group: u32) -> io::Result<&mut [u8]> {
        let key = alloc_key(group);
        if self.active.get(Db::Alloc, &key).is_none() {
            let blank = [0; GROUP_BITMAP_BYTES];
            let mut bitmap = blank;
            if let Some(old) = self.get(kv, Db::Alloc, &key)? {
                if old.len() != GROUP_BITMAP_BYTES {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "damaged bitmap"));
                }
                bitmap.copy_from_slice(old);
            }
            self.active.set(Db::Alloc, &key, Some(&bitmap));
        }
        let slot = self.active.tables[Db::Alloc as usize].get_mut(&key[..]);
        slot.and_then(|value| value.as_deref_mut())
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

fn set_bits(bitmap: &mut [u8], mut bits: std::ops::Range<usize>, set: bool) {
    while !bits.is_empty() {
        let at = bits.start;
        if at.is_multiple_of(8) && bits.len() >= 8 {
            let bytes = at / 8..bits.end / 8;
            bits.start = bytes.end * 8;
            bitmap[bytes].fill(if set { 0xff } else { 0 });
        } else {
            let mask = 1 << (at % 8);
            let byte = &mut bitmap[at / 8];
            *byte = if set { *byte | mask } else { *byte & !mask };
            bits.start += 1;
        }
    }
}

/// Two generations as one, the active one hiding the frozen one.
struct Merged<'a> {
    active: Peekable<Range<'a, Key, Value>>,
    frozen: Option<Peekable<Range<'a, Key, Value>>>,
}

impl<'a> Merged<'a> {
    fn is_empty(&mut self) -> bool {
        let frozen = self.frozen.as_mut().and_then(Peekable::peek);
        frozen.is_none() && self.active.peek().is_none()
    }

    /// The next key that is not above `limit`.
    fn next_through(&mut self, limit: &[u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let active = self
            .active
            .peek()
            .is_some_and(|(k, _)| k.as_slice() <= limit);
        let frozen = self.frozen.as_mut().and_then(Peekable::peek);
        let frozen = frozen.is_some_and(|(k, _)| k.as_slice() <= limit);
        if active || frozen { self.next() } else { None }
    }
}

impl<'a> Iterator for Merged<'a> {
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        let lower = self.frozen.as_mut().and_then(|f| Some((f.peek()?.0, f)));
        let entry = match (self.active.peek(), lower) {
            (Some((upper, _)), Some((lower, frozen))) => match (*upper).cmp(lower) {
                Ordering::Less => self.active.next(),
                Ordering::Equal => {
                    frozen.next();
                    self.active.next()
                }
                Ordering::Greater => frozen.next(),
            },
            (None, Some((_, frozen))) => frozen.next(),
            (_, None) => self.active.next(),
        };
        entry.map(|(key, value)| (key.as_slice(), value.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::KvWriter;
    use crate::meta::MemoryKv;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u8, Option<u8>),
        Freeze,
        Commit,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..24u8, proptest::option::of(any::<u8>())).prop_map(|(k, v)| Step::Set(k, v)),
            1 => Just(Step::Freeze),
            1 => Just(Step::Commit),
        ]
    }

    proptest! {
        #[test]
        fn overlay_and_index_read_as_one_map(
            steps in proptest::collection::vec(step(), 0..120),
            from in 0..24u8,
            until in 0..25u8,
            limit in 1..30usize,
        ) {
            let mut model = BTreeMap::new();
            let mut overlay = Overlay::default();
            let mut kv = MemoryKv::new();
            for step in steps {
                match step {
                    Step::Set(key, value) => {
                        overlay.active.set(Db::Dent, &[key], value.as_ref().map(std::slice::from_ref));
                        match value {
                            Some(value) => model.insert(key, value),
                            None => model.remove(&key),
                        };
                    }
                    Step::Freeze if overlay.frozen.is_none() => overlay.freeze(),
                    Step::Freeze => {}
                    Step::Commit => {
                        if let Some(frozen) = &overlay.frozen {
                            kv.writer().commit(frozen.ops()).unwrap();
                            kv.refresh().unwrap();
                            overlay.frozen = None;
                        }
                    }
                }
            }
            for key in 0..24u8 {
                let got = overlay.get(&kv, Db::Dent, &[key]).unwrap().map(|v| v[0]);
                prop_assert_eq!(got, model.get(&key).copied());
            }
            let mut seen = Vec::new();
            overlay.scan(&kv, Db::Dent, &[from], &[until], |k, v| {
                seen.push((k[0], v[0]));
                if seen.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }).unwrap();
            let expected: Vec<_> = model
                .range(from..until.max(from))
                .map(|(&k, &v)| (k, v))
                .take(limit)
                .collect();
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn bitmaps_change_bit_by_bit_and_across_groups() {
        let kv = MemoryKv::new();
        let mut overlay = Overlay::default();
        let extent = |block, blocks| DeviceExtent { block, blocks };
        overlay.mark(&kv, extent(8190, 13), true).unwrap();
        overlay.freeze();
        overlay.mark(&kv, extent(8192, 2), false).unwrap();
        let bitmap = |group| {
            overlay
                .get(&kv, Db::Alloc, &alloc_key(group))
                .unwrap()
                .unwrap()
        };
        assert_eq!(bitmap(0)[1022..], [0, 0xc0]);
        assert_eq!(bitmap(1)[..3], [0xfc, 0x07, 0]);
    }
}
