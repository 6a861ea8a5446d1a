//! A listing of a directory, page by page, as readdir(3) makes one.

use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{InodeId, PartitionId, dirent};
use sealfs_testkit::Outcome;

#[derive(Clone, Debug)]
pub struct Listing {
    pub dir: InodeId,
    pub entries: Vec<(String, InodeId)>,
    pub pages: u32,
    limit_bytes: u32,
    position: u64,
    /// Partitions of the directory's parts.
    hosts: Vec<PartitionId>,
}

impl Listing {
    pub fn new(dir: InodeId, limit_bytes: u32) -> Listing {
        Listing {
            dir,
            entries: Vec::new(),
            pages: 0,
            limit_bytes,
            position: 0,
            hosts: Vec::new(),
        }
    }

    /// The next request, and where it belongs.
    pub fn ask(&self) -> (PartitionId, Op) {
        let op = Op::ReadDir {
            dir: self.dir,
            position: self.position,
            limit_bytes: self.limit_bytes,
            with_attributes: false,
        };
        let part = dirent::part_of(self.position).checked_sub(1);
        let host = part.and_then(|part| self.hosts.get(part).copied());
        (host.unwrap_or(self.dir.partition()), op)
    }

    /// Takes a page; whether it was the last. `None`: it is no page.
    pub fn take(&mut self, outcome: &Outcome) -> Option<bool> {
        let OpReply::Entries { next, parts, .. } = &outcome.reply else {
            return None;
        };
        for record in dirent::records(&outcome.payload) {
            let name = String::from_utf8(record.name.to_vec()).expect("a name in UTF-8");
            self.entries.push((name, InodeId(record.ino)));
        }
        self.pages += 1;
        self.hosts.extend(parts);
        self.position = *next;
        Some(*next == dirent::END)
    }
}
