//! One connection of a client, used by many threads at once.
//!
//! There is no thread of ours in the program, so one of the threads that wait for a reply receives
//! for all of them (the leader): it hands replies to the others by tag, and when its own has come it
//! leaves and wakes one of those still waiting to lead. What must stay true: a frame is sent whole or
//! the connection is given up; a broken connection ends every wait on it.

mod exchange;
mod inbound;
mod table;

pub use exchange::{Exchange, Tick, exchange_all};
pub use table::Response;

use crate::error::TransportError;
use crate::memory::{Hooks, IoVec, total};
use crate::patience::Patience;
use crate::sync::Mutex;
use crate::tcp::client::Until;
use crate::time::Instant;
use crate::url::Url;
use crate::world::{Stream, World};
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Acquire, Release};
use core::time::Duration;
use inbound::Inbound;
use sealfs_protocol::header::Header;
use table::Table;

/// Pieces of one frame that one system call sends.
const GATHER_MAX: usize = 16;
/// Longest sleep before a thread looks around, in ms.
const LOOK_AROUND_MS: u64 = 100;

pub struct Link {
    world: World,
    hooks: Hooks,
    url: Url,
    stream: Stream,
    send: Mutex<()>,
    receive: Mutex<Inbound>,
    table: Table,
    patience: Patience,
    broken: AtomicBool,
}

impl Link {
    pub fn connect(
        world: &World,
        hooks: &Hooks,
        url: &Url,
        deadline: Instant,
    ) -> Result<Link, TransportError> {
        Ok(Link {
            world: world.clone(),
            hooks: *hooks,
            url: *url,
            stream: world.connect(url, deadline, hooks)?,
            send: Mutex::new(()),
            receive: Mutex::new(Inbound::new()),
            table: Table::new(),
            patience: Patience::new(),
            broken: AtomicBool::new(false),
        })
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Whether the connection is of no more use.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Acquire)
    }

    pub fn raw_fd(&self) -> Option<i32> {
        self.stream.raw_fd()
    }

    /// Gives the connection up: every wait on it ends.
    pub fn give_up(&self) {
        self.broken.store(true, Release);
        self.stream.shutdown();
        self.table.fail_all(None);
    }

    /// Sends a whole frame, or gives the connection up. `Fault` is the caller's memory's fault; the
    /// connection is of no use after it either.
    fn send(
        &self,
        header: &Header,
        body: &[u8],
        payload: &[IoVec<'_>],
        deadline: Instant,
    ) -> Result<(), TransportError> {
        let head = Header {
            body_bytes: body.len() as u32,
            payload_bytes: total(payload) as u32,
            ..*header
        }
        .encode();
        let guard = self.send.lock();
        if self.is_broken() {
            return Err(TransportError::Closed);
        }
        let sent = self.send_all(&[IoVec::new(&head), IoVec::new(body)], payload, deadline);
        drop(guard);
        if sent.is_err() {
            self.give_up();
        }
        sent
    }

    fn send_all(
        &self,
        front: &[IoVec<'_>],
        payload: &[IoVec<'_>],
        deadline: Instant,
    ) -> Result<(), TransportError> {
        let whole = total(front) + total(payload);
        let mut sent = 0;
        while sent < whole {
            let mut pieces = [IoVec::EMPTY; GATHER_MAX];
            let mut count = 0;
            let mut at = 0;
            for v in front.iter().chain(payload) {
                let piece = v.part(sent.saturating_sub(at), usize::MAX);
                at += v.len();
                if !piece.is_empty() {
                    pieces[count] = piece;
                    count += 1;
                    if count == GATHER_MAX {
                        break;
                    }
                }
            }
            match self.stream.send(&pieces[..count])? {
                Some(n) => sent += n,
                None => self.wait_for_room(deadline)?,
            }
        }
        Ok(())
    }

    /// The socket is full. The server may be waiting for us to read, so replies are received
    /// meanwhile unless another thread does it.
    fn wait_for_room(&self, deadline: Instant) -> Result<(), TransportError> {
        let now = self.world.now();
        if now >= deadline {
            return Err(TransportError::Timeout);
        }
        let left = now
            .until(deadline)
            .min(Duration::from_millis(LOOK_AROUND_MS));
        let ready = self.stream.wait(Until::ReadableOrWritable, left)?;
        if ready.readable
            && !ready.writable
            && let Some(mut inbound) = self.receive.try_lock()
        {
            let received = inbound.advance(&self.stream, &self.table, &self.hooks);
            if received.is_err() {
                self.table.fail_all(inbound.claimed());
            }
            drop(inbound);
            self.table.hand_over();
            received?;
        }
        Ok(())
    }
}
