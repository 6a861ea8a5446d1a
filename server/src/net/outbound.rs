//! What the core wants done, and frames on their way out.
//!
//! Replies are queued while a batch runs and leave at its end, one write for each connection. What
//! must stay true: a peer that takes nothing costs the others nothing; its frames wait with it.

use mio::Token;
use sealfs_protocol::header::{Header, Kind};
use sealfs_transport::tcp::server::Outgoing;

use super::Shard;
use crate::core::event::{Action, Now, World};
use crate::membership::Note;

impl<W: World> Shard<W> {
    pub(super) fn carry_out(&mut self, action: Action<W>) {
        match action {
            Action::Reply {
                conn,
                header,
                body,
                payload,
            } => {
                let token = Token(conn.0 as usize);
                if let Some(connection) = self.connections.get_mut(&token)
                    && header.kind == Kind::HelloReply
                {
                    connection.link.set_greeted();
                }
                self.queue(token, header, &body, payload);
            }
            Action::Close(conn) => {
                let token = Token(conn.0 as usize);
                if let Some(connection) = self.connections.get_mut(&token) {
                    // What was queued for it says why; the socket takes that much.
                    let _ = connection.link.flush();
                }
                let now = self.now();
                self.complain(now, "a peer broke the rules");
                self.disconnect(token, now);
            }
            Action::Park(conn) => {
                if let Some(connection) = self.connections.get_mut(&Token(conn.0 as usize)) {
                    connection.link.park();
                }
            }
            Action::Unpark(conn) => {
                if let Some(connection) = self.connections.get_mut(&Token(conn.0 as usize)) {
                    connection.link.unpark();
                }
            }
            Action::Peer {
                shard,
                header,
                body,
                payload,
            } => {
                if let Some(token) = self.peers.token(shard) {
                    self.queue(token, header, &body, payload);
                }
            }
            Action::FetchState => {
                let _ = self.notes.try_send(Note::Fetch);
            }
            Action::Flush(job) => self.jobs.flush(job),
            Action::Commit(job) => self.jobs.commit(job),
            Action::Retire(retired) => self.jobs.retire(retired),
        }
    }

    fn queue(&mut self, token: Token, header: Header, body: &[u8], payload: Vec<u8>) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        connection
            .link
            .queue(header, body, Outgoing::Owned(payload));
        if !connection.queued {
            connection.queued = true;
            self.touched.push(token);
        }
    }

    pub(super) fn flush_queued(&mut self, now: Now) {
        let mut lost = Vec::new();
        self.touched.sort_unstable();
        self.touched.dedup();
        for token in &self.touched {
            let Some(connection) = self.connections.get_mut(token) else {
                continue;
            };
            connection.queued = false;
            if connection.link.flush().is_err() {
                lost.push(*token);
            }
        }
        for token in self.touched.drain(..) {
            if self
                .connections
                .get(&token)
                .is_some_and(|c| c.link.has_work())
            {
                self.held.push(token);
            }
        }
        for token in lost {
            self.disconnect(token, now);
        }
    }
}
