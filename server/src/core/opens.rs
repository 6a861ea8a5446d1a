//! Open file descriptions, as far as this shard owns their inodes.
//!
//! They are memory only: a nameless file is kept while one of these stands, and after a restart
//! the clients reassert theirs before any nameless file is collected.

use std::collections::{HashMap, HashSet};

use sealfs_protocol::{InodeId, OpenId, SessionId};

#[derive(Default)]
pub struct Opens {
    by_ino: HashMap<InodeId, Vec<(SessionId, OpenId)>>,
    by_session: HashMap<SessionId, HashSet<InodeId>>,
}

impl Opens {
    pub fn add(&mut self, ino: InodeId, session: SessionId, open: OpenId) {
        let list = self.by_ino.entry(ino).or_default();
        if !list.contains(&(session, open)) {
            list.push((session, open));
            self.by_session.entry(session).or_default().insert(ino);
        }
    }

    pub fn remove(&mut self, ino: InodeId, session: SessionId, open: OpenId) {
        let Some(list) = self.by_ino.get_mut(&ino) else {
            return;
        };
        list.retain(|of| *of != (session, open));
        if !list.iter().any(|(s, _)| *s == session)
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
        let list = self.by_ino.get(&ino);
        list.is_some_and(|list| list.contains(&(session, open)))
    }

    pub fn is_open_in(&self, ino: InodeId, session: SessionId) -> bool {
        let list = self.by_ino.get(&ino);
        list.is_some_and(|list| list.iter().any(|(s, _)| *s == session))
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
                list.retain(|(s, _)| *s != session);
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
        opens.add(ino, a, OpenId(1));
        opens.add(ino, a, OpenId(1));
        opens.add(ino, b, OpenId(1));
        opens.remove(ino, a, OpenId(1));
        assert!(opens.is_open(ino));
        assert_eq!(opens.end_session(b), vec![ino]);
        assert!(!opens.is_open(ino) && opens.is_empty());
    }
}
