//! Open file descriptions, as far as this shard owns their inodes.
//!
//! They are memory only: a nameless file is kept while one of these stands, and after a restart
//! the clients reassert theirs before any nameless file is collected.

use std::collections::{HashMap, HashSet};

use sealfs_protocol::{InodeId, OpenId, SessionId};

#[derive(Default)]
pub struct Opens {
    /// The last word of each: it is there to execute the file.
    by_ino: HashMap<InodeId, Vec<(SessionId, OpenId, bool)>>,
    by_session: HashMap<SessionId, HashSet<InodeId>>,
}

impl Opens {
    pub fn add(&mut self, ino: InodeId, session: SessionId, open: OpenId, executes: bool) {
        let list = self.by_ino.entry(ino).or_default();
        let known = list
            .iter_mut()
            .find(|(s, o, _)| (*s, *o) == (session, open));
        if let Some((.., known)) = known {
            *known |= executes;
        } else {
            list.push((session, open, executes));
            self.by_session.entry(session).or_default().insert(ino);
        }
    }

    /// Whether the file is executed by somebody: then nobody opens it for writing.
    pub fn is_executed(&self, ino: InodeId) -> bool {
        let list = self.by_ino.get(&ino);
        list.is_some_and(|list| list.iter().any(|(.., executes)| *executes))
    }

    pub fn remove(&mut self, ino: InodeId, session: SessionId, open: OpenId) {
        let Some(list) = self.by_ino.get_mut(&ino) else {
            return;
        };
        list.retain(|(s, o, _)| (*s, *o) != (session, open));
        if !list.iter().any(|(s, ..)| *s == session)
            && let Some(inos) = self.by_session.get_mut(&session)
        {
            inos.remove(&ino);
            if inos.is_empty() {
                self.by_session.remove(&session);
            }
        }
        if list.is_empty() {
            self.by_ino.remove(&ino);
        }
    }

    pub fn contains(&self, ino: InodeId, session: SessionId, open: OpenId) -> bool {
        self.by_ino
            .get(&ino)
            .is_some_and(|l| l.iter().any(|(s, o, _)| (*s, *o) == (session, open)))
    }

    pub fn is_open_in(&self, ino: InodeId, session: SessionId) -> bool {
        let list = self.by_ino.get(&ino);
        list.is_some_and(|list| list.iter().any(|(s, ..)| *s == session))
    }

    pub fn is_open(&self, ino: InodeId) -> bool {
        self.by_ino.contains_key(&ino)
    }

    /// Drops all that a session holds; the inodes that were open through it, in a fixed order.
    pub fn end_session(&mut self, session: SessionId) -> Vec<InodeId> {
        let mut inos: Vec<InodeId> = self
            .by_session
            .remove(&session)
            .unwrap_or_default()
            .into_iter()
            .collect();
        inos.sort_unstable();
        for ino in &inos {
            if let Some(list) = self.by_ino.get_mut(ino) {
                list.retain(|(s, ..)| *s != session);
                if list.is_empty() {
                    self.by_ino.remove(ino);
                }
            }
        }
        inos
    }

    pub fn len(&self) -> usize {
        self.by_ino.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_ino.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_open_until_its_last_description_is_gone() {
        let mut opens = Opens::default();
        let (ino, a, b) = (InodeId(5), SessionId(1), SessionId(2));
        opens.add(ino, a, OpenId(1), false);
        opens.add(ino, a, OpenId(1), false);
        opens.add(ino, b, OpenId(1), false);
        opens.remove(ino, a, OpenId(1));
        assert!(opens.is_open(ino));
        assert_eq!(opens.end_session(b), vec![ino]);
        assert!(!opens.is_open(ino) && opens.is_empty());
    }
    #[test]
    fn a_file_is_executed_as_long_as_the_description_stands() {
        let mut opens = Opens::default();
        let (ino, session) = (InodeId(5), SessionId(1));
        opens.add(ino, session, OpenId(1), true);
        // Whoever does not know what it is for tells of it again.
        opens.add(ino, session, OpenId(1), false);
        assert!(opens.is_executed(ino));
        opens.remove(ino, session, OpenId(1));
        assert!(!opens.is_executed(ino));
    }
}
