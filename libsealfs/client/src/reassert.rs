//! Telling a restarted server what is open in this process.
//!
//! A description may be shared with other processes, and then any of them may be the one that closes
//! it. What must stay true: a server that was told of a description which is closed hears of the
//! close after that, or the description would stand until the session ends.

use crate::client::{Client, Shared};
use crate::config::FileRef;
use crate::connect::Greeted;
use crate::part::Why;
use sealfs_protocol::ClientId;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::ring::Ring;
use sealfs_transport::time::Instant;
use std::collections::HashSet;

/// So many descriptions are left to other processes before it is looked which of them are closed.
const LEFT_MAX: usize = 256;

impl Client {
    /// A descriptor of a description was closed here, and others have it: from now on it may be closed
    /// without this process.
    pub fn leave(&self, file: FileRef) {
        let left = self.shared.files.lock().leave(file);
        if left >= LEFT_MAX {
            self.shared.forget_closed_elsewhere();
        }
    }
}

impl Shared {
    pub(crate) fn tell_what_is_open(
        &self,
        greeted: &Greeted,
        ring: &Ring,
        client: ClientId,
        deadline: Instant,
    ) -> Result<(), Why> {
        let shard = greeted.connection.shard;
        let there = |(f, _): &(FileRef, _)| {
            let owner = ring.owner(f.ino.partition());
            owner.is_some_and(|o| o.id == shard)
        };
        self.forget_closed_elsewhere();
        let open: Vec<_> = self.files.lock().opens().filter(there).collect();
        let header = Header {
            client,
            ring_version: ring.version,
            ..Header::new(Kind::Request)
        };
        let told = greeted.connection.reassert(&open, header, ring, deadline);
        // The close of one that was closed meanwhile may have come before; also if the connection
        // broke, some may have been told.
        self.forget_closed_elsewhere();
        let files = self.files.lock();
        let closed = open.iter().map(|(f, _)| *f).filter(|f| !files.is_open(*f));
        self.deferred.lock().close(closed);
        drop(files);
        let lost = told?;
        let mut files = self.files.lock();
        for file in lost {
            files.lose_locks(file);
        }
        drop(files);
        self.connections.told(shard);
        Ok(())
    }

    /// Others may have closed what was left to them.
    fn forget_closed_elsewhere(&self) {
        let Some(live) = self.config.live_opens else {
            return;
        };
        if self.files.lock().has_left()
            && let Some(live) = live()
        {
            let live: HashSet<_> = live.into_iter().collect();
            self.files.lock().keep_left(|open| live.contains(&open));
        }
    }
}
