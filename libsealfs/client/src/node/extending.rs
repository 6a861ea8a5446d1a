//! Whether a process has writes under way whose bytes may lie behind the end of a file.
//!
//! Counted in its entry of the arena, so that the keeper can tell the files' owners if it ends in the
//! middle. What must stay true: the count is raised before anything is sent, and lowered only when all
//! is published or the owner knows.

use super::arena::Arena;
use super::processes::ProcessIndex;
use core::sync::atomic::Ordering;

impl Arena {
    pub fn note_extending(&self, me: ProcessIndex, begins: bool) {
        if let Some(entry) = self.map.process(me.0) {
            if begins {
                entry.extending.fetch_add(1, Ordering::SeqCst);
            } else {
                entry.extending.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }

    /// For the keeper, of a process that has ended.
    pub fn was_extending(&self, index: ProcessIndex) -> bool {
        let entry = self.map.process(index.0);
        entry.is_some_and(|e| e.extending.load(Ordering::SeqCst) > 0)
    }
}
