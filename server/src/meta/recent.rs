//! Records of directories that were read lately, as the index has them.
//!
//! Every path leads through directories: their names and inodes are asked for with each file below them, and
//! a descent into an index of gigabytes costs a microsecond of cache misses. What must stay true: what
//! is kept is what the index would say. A key that changes is forgotten when its effect enters the
//! overlay, which hides the index from then until a commit has changed it.

use super::db::{Db, Key};
use std::hash::{DefaultHasher, Hash, Hasher};

/// A record has a set by its hash, and lies in one of its places. Full, all take about 8 MiB.
const SETS: usize = 8 << 10;
const PLACES_PER_SET: usize = 4;
/// A longer record is not kept, in bytes.
const VALUE_MAX_BYTES: usize = 192;

struct Kept {
    db: Db,
    key: Key,
    value: Box<[u8]>,
}

pub(super) struct Recent {
    /// A byte of the hash of what is in each place: a look that finds nothing touches nothing else.
    tags: Vec<[u8; PLACES_PER_SET]>,
    /// Made with the first record.
    places: Vec<Option<Kept>>,
    /// Which place of a full set is taken next.
    turn: usize,
}

impl Recent {
    pub fn new() -> Recent {
        Recent {
            tags: Vec::new(),
            places: Vec::new(),
            turn: 0,
        }
    }

    pub fn find(&self, db: Db, key: &[u8]) -> Option<&[u8]> {
        let place = self.place(db, key)?;
        self.places[place].as_ref().map(|kept| &*kept.value)
    }

    fn place(&self, db: Db, key: &[u8]) -> Option<usize> {
        let (set, tag) = set_of(db, key);
        let tags = self.tags.get(set)?.iter().enumerate();
        let mut places = tags.filter(|(_, t)| **t == tag);
        places.find_map(|(n, _)| {
            let place = set * PLACES_PER_SET + n;
            let kept = self.places[place].as_ref()?;
            (kept.db == db && kept.key.as_slice() == key).then_some(place)
        })
    }

    /// What the index says of a key that the overlay does not know, and that is not here.
    pub fn keep(&mut self, db: Db, key: &[u8], value: &[u8]) {
        if value.len() > VALUE_MAX_BYTES {
            return;
        }
        if self.places.is_empty() {
            self.tags.resize(SETS, [0; PLACES_PER_SET]);
            self.places.resize_with(SETS * PLACES_PER_SET, || None);
        }
        let (set, tag) = set_of(db, key);
        let first = set * PLACES_PER_SET;
        let free = self.places[first..first + PLACES_PER_SET]
            .iter()
            .position(Option::is_none);
        self.turn += usize::from(free.is_none());
        let n = free.unwrap_or(self.turn % PLACES_PER_SET);
        self.tags[set][n] = tag;
        self.places[first + n] = Some(Kept {
            db,
            key: Key::from_slice(key),
            value: value.into(),
        });
    }

    /// The value under `key` is another from now on.
    pub fn changed(&mut self, db: Db, key: &[u8]) {
        if let Some(place) = self.place(db, key) {
            self.places[place] = None;
        }
    }
}

/// The set of a record, and its tag.
fn set_of(db: Db, key: &[u8]) -> (usize, u8) {
    let mut hasher = DefaultHasher::new();
    (db as u8).hash(&mut hasher);
    hasher.write(key);
    let hash = hasher.finish();
    (hash as usize % SETS, (hash >> 56) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_kept_until_it_changes() {
        let mut recent = Recent::new();
        assert_eq!(recent.find(Db::Ino, b"a"), None);
        recent.changed(Db::Ino, b"a");
        recent.keep(Db::Ino, b"a", b"one");
        assert_eq!(recent.find(Db::Ino, b"a"), Some(&b"one"[..]));
        assert_eq!(recent.find(Db::Dent, b"a"), None);
        recent.changed(Db::Dent, b"a");
        assert!(recent.find(Db::Ino, b"a").is_some());
        recent.changed(Db::Ino, b"a");
        assert_eq!(recent.find(Db::Ino, b"a"), None);
        recent.keep(Db::Ino, b"a", &[0; VALUE_MAX_BYTES + 1]);
        assert_eq!(recent.find(Db::Ino, b"a"), None);
    }

    #[test]
    fn records_of_one_set_are_told_apart_and_the_last_ones_stay() {
        let mut recent = Recent::new();
        let all = (SETS * PLACES_PER_SET) as u32;
        let keys: Vec<[u8; 4]> = (0..3 * all).map(u32::to_be_bytes).collect();
        for key in &keys {
            recent.keep(Db::Dent, key, key);
        }
        let found = keys
            .iter()
            .filter_map(|k| Some((k, recent.find(Db::Dent, k)?)));
        let found: Vec<_> = found.collect();
        assert!(found.len() <= all as usize && found.len() > all as usize / 2);
        assert!(recent.find(Db::Dent, &keys[keys.len() - 1]).is_some());
        assert!(found.iter().all(|(key, value)| &key[..] == *value));
    }
}
