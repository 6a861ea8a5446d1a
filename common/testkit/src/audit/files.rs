//! What belongs to files besides their names: chunks, truncate generations, extended attributes.

use super::Audit;
use sealfs_server::records::Body;

impl Audit {
    /// Every chunk belongs to a file and lies where its layout says, and no truncation is left
    /// unfinished. Who loses unflushed changes of one shard may have chunks of lost files on others.
    pub fn check_chunks(mut self) -> Audit {
        let mut found = Vec::new();
        for ((ino, index), (host, chunk)) in &self.chunks {
            let what = format!("chunk {index} of {ino:?}");
            let Some(record) = self.inodes.get(ino) else {
                found.push(format!("{what}, which is not there"));
                continue;
            };
            let partitions = self.ring.partitions();
            if record.layout.partition_of(*ino, *index, partitions) != *host {
                found.push(format!("{what} lies in {host:?}"));
            }
            if chunk.volume != record.volume || !record.is_regular() {
                found.push(format!("{what}, which is no file of its volume"));
            }
            if *index > 0 && !record.wide {
                found.push(format!("{what}, which does not know that it is wide"));
            }
            if *index == 0 && !matches!(record.body, Body::Chunks { .. }) {
                found.push(format!("{what}, whose bytes lie in its inode"));
            }
        }
        for ((ino, host), installed) in &self.generations {
            let what = format!("a truncation of {ino:?} in {host:?}");
            match self.inodes.get(ino) {
                None => found.push(format!("{what}, which is not there")),
                Some(record) if installed.generation > record.generation => {
                    found.push(format!("{what} is not the inode's"));
                }
                Some(_) => {}
            }
        }
        let unfinished = self.inodes.iter().filter(|(_, r)| r.pending.is_some());
        found.extend(unfinished.map(|(ino, _)| format!("{ino:?} is not truncated everywhere")));
        self.problems.extend(found);
        self
    }

    pub(super) fn check_xattrs(&mut self) {
        for (ino, host) in self.xattrs.keys() {
            let record = self.inodes.get(ino);
            if !record.is_some_and(|r| r.has_xattrs) || ino.partition() != *host {
                let text = format!("attributes of {ino:?} in {host:?}, which has none");
                self.problems.push(text);
            }
        }
    }
}
