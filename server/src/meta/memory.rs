//! An index in memory, for the simulator and tests. Clones share what is committed: a clone taken
//! before a simulated crash is the disk that the next life opens.

use std::collections::BTreeMap;
use std::io;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use parking_lot::Mutex;

use super::db::{Db, Key};
use crate::env::{Kv, KvOp, KvWriter};

type Tables = [BTreeMap<Key, Vec<u8>>; Db::ALL.len()];

pub struct MemoryKv {
    committed: Arc<Mutex<Arc<Tables>>>,
    snapshot: Arc<Tables>,
}

impl MemoryKv {
    pub fn new() -> MemoryKv {
        let tables = Arc::new(Tables::default());
        MemoryKv {
            committed: Arc::new(Mutex::new(Arc::clone(&tables))),
            snapshot: tables,
        }
    }
}

impl Default for MemoryKv {
    fn default() -> MemoryKv {
        MemoryKv::new()
    }
}

impl Clone for MemoryKv {
    /// Another view of the same index, at what is committed now.
    fn clone(&self) -> MemoryKv {
        let committed = Arc::clone(&self.committed);
        let snapshot = Arc::clone(&committed.lock());
        MemoryKv {
            committed,
            snapshot,
        }
    }
}

impl Kv for MemoryKv {
    type Writer = MemoryKvWriter;

    fn get(&self, db: Db, key: &[u8]) -> io::Result<Option<&[u8]>> {
        Ok(self.snapshot[db as usize].get(key).map(Vec::as_slice))
    }

    fn scan(
        &self,
        db: Db,
        from: &[u8],
        until: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        if from >= until {
            return Ok(());
        }
        let bounds = (Bound::Included(from), Bound::Excluded(until));
        for (key, value) in self.snapshot[db as usize].range::<[u8], _>(bounds) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn writer(&self) -> MemoryKvWriter {
        MemoryKvWriter {
            committed: Arc::clone(&self.committed),
        }
    }

    fn refresh(&mut self) -> io::Result<()> {
        self.snapshot = Arc::clone(&self.committed.lock());
        Ok(())
    }
}

pub struct MemoryKvWriter {
    committed: Arc<Mutex<Arc<Tables>>>,
}

impl KvWriter for MemoryKvWriter {
    fn commit<'a>(&self, ops: impl Iterator<Item = KvOp<'a>>) -> io::Result<()> {
        let mut committed = self.committed.lock();
        let tables = Arc::make_mut(&mut *committed);
        for op in ops {
            let table = &mut tables[op.db as usize];
            match op.value {
                Some(value) => table.insert(Key::from_slice(op.key), value.to_vec()),
                None => table.remove(op.key),
            };
        }
        Ok(())
    }
}
