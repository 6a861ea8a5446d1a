//! The credential sets of this process: threads may act under different ones.
//!
//! A set has an index and a version; connections remember which version of each index their server
//! was told. Set 0 comes with Hello.

use sealfs_protocol::message::Credentials;
use sealfs_transport::sync::Mutex;

/// Sets that a server keeps for one connection.
const SETS_MAX: usize = 1024;

pub(crate) struct CredentialSets(Mutex<Sets>);

struct Sets {
    list: Vec<(Credentials, u32)>,
    /// The set of threads that did not change theirs.
    default: u16,
    /// The next to be overwritten when all are in use.
    next_victim: usize,
    versions: u32,
}

impl CredentialSets {
    pub fn new(first: Credentials) -> CredentialSets {
        CredentialSets(Mutex::new(Sets {
            list: vec![(first, 1)],
            default: 0,
            next_victim: 1,
            versions: 1,
        }))
    }

    /// The index of a set; the same for an equal set.
    pub fn register(&self, set: &Credentials) -> u16 {
        let mut sets = self.0.lock();
        if let Some(at) = sets.list.iter().position(|(known, _)| known == set) {
            return at as u16;
        }
        sets.versions += 1;
        let entry = (set.clone(), sets.versions);
        if sets.list.len() < SETS_MAX {
            sets.list.push(entry);
            return (sets.list.len() - 1) as u16;
        }
        if sets.next_victim == usize::from(sets.default) {
            sets.next_victim = sets.next_victim % (SETS_MAX - 1) + 1;
        }
        let at = sets.next_victim;
        sets.next_victim = at % (SETS_MAX - 1) + 1;
        sets.list[at] = entry;
        at as u16
    }

    pub fn set_default(&self, set: &Credentials) {
        let index = self.register(set);
        self.0.lock().default = index;
    }

    pub fn default_index(&self) -> u16 {
        self.0.lock().default
    }

    pub fn get(&self, index: u16) -> (Credentials, u32) {
        let sets = self.0.lock();
        let at = usize::from(index).min(sets.list.len() - 1);
        sets.list[at].clone()
    }

    pub fn version(&self, index: u16) -> u32 {
        let sets = self.0.lock();
        sets.list.get(usize::from(index)).map_or(0, |(_, v)| *v)
    }

    pub fn count(&self) -> u16 {
        self.0.lock().list.len() as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Credentials {
        Credentials {
            uid,
            gid: uid,
            groups: vec![],
        }
    }

    #[test]
    fn an_overwritten_set_has_another_version() {
        let sets = CredentialSets::new(user(0));
        let first = sets.register(&user(1));
        let version = sets.version(first);
        assert_eq!(sets.register(&user(1)), first);
        for uid in 2..=SETS_MAX as u32 {
            sets.register(&user(uid));
        }
        assert_eq!(sets.get(first).0, user(SETS_MAX as u32));
        assert_ne!(sets.version(first), version);
        assert_eq!(sets.get(0).0, user(0));
    }
}
