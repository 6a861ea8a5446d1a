//! A call on the cluster: requests to all shards involved go out first, then all replies are waited
//! for; what could not be answered is sent again.
//!
//! What must stay true: a request that may have been executed is repeated under the same client,
//! slot and sequence, so that it takes effect once; a call ends by its deadline, whatever servers
//! do; a refusal (wrong epoch, unknown client, busy) is settled here, and no caller sees it.

use crate::client::{Client, Shared};
use crate::connect::{Connection, Greeting, Role, Unreachable};
use crate::part::{Answer, Part, Why};
use crate::slots::Slot;
use core::sync::atomic::Ordering;
use core::time::Duration;
use sealfs_protocol::header::{FLAG_RETRY, Header, Kind};
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::ring::Ring;
use sealfs_protocol::{Errno, PartitionId, RenameVersion, RingVersion, ShardId, codec};
use sealfs_transport::error::TransportError;
use sealfs_transport::link::{Exchange, Response, Tick, exchange_all};
use sealfs_transport::time::Instant;
use std::sync::Arc;

/// Waits between tries while a server is away, in ms.
const BACKOFF_FIRST_MS: u32 = 2;
const BACKOFF_MAX_MS: u32 = 200;
/// Longest pause that a busy server may ask for, in ms.
const BUSY_MAX_MS: u32 = 1_000;
/// While a server is away, a newer ring is looked for every so many tries.
const TRIES_PER_RING: u32 = 8;

/// How a call is made.
pub(crate) struct Mode<'a> {
    pub slot: &'a Slot<'a>,
    pub deadline: Instant,
    pub rename_version: RenameVersion,
    /// A wait for a file lock: it has no deadline while the server answers, and this is asked now
    /// and then whether to give up.
    pub waiting: Option<&'a mut dyn FnMut() -> Tick>,
    /// When it was asked for first.
    pub begun: Instant,
    /// It was tried before.
    pub again: bool,
}

/// What a try has found in the way.
#[derive(Default)]
struct Trouble {
    /// A server is away.
    away: bool,
    /// The ring that was used is too old.
    ring: Option<RingVersion>,
    /// A server asks to come back later, in ms.
    busy_ms: Option<u32>,
    /// A request went out to a server that had greeted us.
    reached: bool,
}

impl Client {
    /// One operation on one partition.
    pub(crate) fn call(&self, partition: PartitionId, op: Op) -> Result<OpReply, Errno> {
        let slot = self.shared.slots.take();
        let mut parts = [Part::new(&slot, vec![(partition, op)], &[], &mut [])];
        self.run(&mut parts, &mut self.mode(&slot));
        let [part] = parts;
        part.single()
    }

    /// How often this client has asked servers for something.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// The present of this client's world.
    pub fn now(&self) -> Instant {
        self.shared.config.world.now()
    }

    pub(crate) fn mode<'a>(&self, slot: &'a Slot<'a>) -> Mode<'a> {
        Mode {
            slot,
            deadline: self.deadline(),
            rename_version: RenameVersion(0),
            waiting: None,
            begun: self.now(),
            again: false,
        }
    }

    /// Sets the answer of every part. What went along with one that failed goes again.
    pub(crate) fn run(&self, parts: &mut [Part<'_, '_>], mode: &mut Mode<'_>) {
        self.run_parts(parts, mode);
        for part in parts.iter().filter(|p| matches!(p.answer, Some(Err(_)))) {
            if part.along().next().is_some() {
                self.shared.deferred.lock().put_back(part.along());
            }
        }
    }

    fn run_parts(&self, parts: &mut [Part<'_, '_>], mode: &mut Mode<'_>) {
        let shared = &*self.shared;
        shared.requests.fetch_add(1, Ordering::Relaxed);
        let credential = self.credential();
        let (mut tries, mut backoff_ms) = (0, BACKOFF_FIRST_MS);
        loop {
            let state = shared.cluster.state();
            let trouble = shared.attempt(parts, &state.ring, credential, mode);
            if parts.iter().all(|p| p.answer.is_some()) {
                return;
            }
            let now = shared.config.world.now();
            // A wait may have lasted for hours when its server dies: the deadline counts from then.
            if mode.waiting.is_some() && (trouble.reached || !trouble.away) {
                mode.deadline = now.after_ms(self.deadline_ms());
            }
            if now >= mode.deadline {
                return fail_rest(parts, Errno::EIO);
            }
            tries += 1;
            mode.again = true;
            if trouble.ring.is_some() || (trouble.away && tries % TRIES_PER_RING == 0u32) {
                let known = trouble.ring.unwrap_or(state.ring.version);
                shared.cluster.refresh(&shared.config, known);
                let newer = shared.cluster.state().ring.version > state.ring.version;
                if newer && !trouble.away {
                    continue;
                }
            }
            let pause_ms = trouble.busy_ms.unwrap_or(backoff_ms).clamp(1, BUSY_MAX_MS);
            if trouble.busy_ms.is_none() {
                backoff_ms = (backoff_ms * 2).min(BACKOFF_MAX_MS);
            }
            let pause = Duration::from_millis(u64::from(pause_ms)).min(now.until(mode.deadline));
            shared.config.world.sleep(pause);
            (shared.config.hooks.long_wait)();
            if let Some(look) = &mut mode.waiting
                && look() == Tick::GiveUp
            {
                return fail_rest(parts, Errno::EINTR);
            }
        }
    }
}

fn fail_rest(parts: &mut [Part<'_, '_>], errno: Errno) {
    for part in parts.iter_mut().filter(|p| p.answer.is_none()) {
        part.answer = Some(Err(errno));
    }
}

/// A part under way.
struct Sending {
    part: usize,
    connection: Arc<Connection>,
    body: rkyv::util::AlignedVec,
    header: Header,
}

impl Shared {
    /// Sends every part that has no answer yet, and waits for the replies.
    fn attempt(
        &self,
        parts: &mut [Part<'_, '_>],
        ring: &Ring,
        credential: u16,
        mode: &mut Mode<'_>,
    ) -> Trouble {
        let mut trouble = Trouble::default();
        let mut under_way = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter_mut().enumerate() {
            if part.answer.is_some() {
                continue;
            }
            match self.prepare(part, ring, credential, mode) {
                Ok(mut sending) => {
                    sending.part = index;
                    under_way.push(sending);
                }
                Err(why) => trouble.note(part, why, ring),
            }
        }
        trouble.reached = !under_way.is_empty();
        let outcomes = Self::exchange(parts, &under_way, mode);
        for (sending, (outcome, body)) in under_way.iter().zip(outcomes) {
            let part = &mut parts[sending.part];
            let settled = match outcome {
                Ok(response) => self.settle(part, &sending.connection, &response, &body),
                Err(e) => Err(failed(e, mode, self)),
            };
            match settled {
                Ok(answer) => part.answer = Some(Ok(answer)),
                Err(why) => trouble.note(part, why, ring),
            }
        }
        trouble
    }

    fn exchange(
        parts: &mut [Part<'_, '_>],
        under_way: &[Sending],
        mode: &mut Mode<'_>,
    ) -> Vec<(Result<Response, TransportError>, Vec<u8>)> {
        let mut sendings = under_way.iter().peekable();
        let mut exchanges = Vec::with_capacity(under_way.len());
        for (index, part) in parts.iter_mut().enumerate() {
            let Some(sending) = sendings.next_if(|s| s.part == index) else {
                continue;
            };
            exchanges.push(Exchange {
                link: &sending.connection.link,
                header: sending.header,
                body: &sending.body,
                outgoing: part.outgoing,
                incoming: part.incoming,
                reply: Vec::new(),
                outcome: None,
            });
        }
        match &mut mode.waiting {
            Some(look) => exchange_all(&mut exchanges, Instant(u64::MAX), *look),
            None => exchange_all(&mut exchanges, mode.deadline, &mut || Tick::Wait),
        }
        let outcome = |e: Exchange<'_, '_>| {
            let outcome = e.outcome.unwrap_or(Err(TransportError::Closed));
            (outcome, e.reply)
        };
        exchanges.into_iter().map(outcome).collect()
    }

    /// Finds the connection and writes the frame's header and body.
    fn prepare(
        &self,
        part: &mut Part<'_, '_>,
        ring: &Ring,
        credential: u16,
        mode: &Mode<'_>,
    ) -> Result<Sending, Why> {
        let Some(owner) = ring.owner(part.partition()) else {
            return Err(Why::OldRing(ring.version));
        };
        let header = self.header(part, ring, credential, mode);
        let connection = self.reach(owner.id, ring, header, mode.deadline)?;
        if credential != 0 {
            let plain = Header::new(Kind::Request);
            let header = Header {
                client: header.client,
                ..plain
            };
            connection.tell_credentials(
                credential,
                header,
                ring,
                &self.credentials,
                mode.deadline,
            )?;
        }
        if !part.sent && mode.waiting.is_none() {
            self.take_along(part, ring, owner.id);
        }
        for entry in &mut part.request.ops {
            entry.epoch = ring.epoch(entry.partition);
            if let Op::Lock { wait: Some(ms), .. } = &mut entry.op {
                *ms = self.waited_ms(mode);
            }
        }
        part.sent = true;
        let body = codec::encode(&part.request).map_err(|_| Why::Errno(Errno::EIO))?;
        Ok(Sending {
            part: 0,
            connection,
            body,
            header,
        })
    }

    fn waited_ms(&self, mode: &Mode<'_>) -> u32 {
        let waited = mode.begun.until(self.config.world.now()).as_millis();
        if mode.again {
            waited.clamp(1, u128::from(u32::MAX)) as u32
        } else {
            0
        }
    }

    fn header(&self, part: &Part<'_, '_>, ring: &Ring, credential: u16, mode: &Mode<'_>) -> Header {
        let left_ms = self.config.world.now().until(mode.deadline).as_millis() as u32;
        Header {
            flags: if part.sent { FLAG_RETRY } else { 0 },
            client: self.identity.client,
            slot: mode.slot.index(),
            credential,
            sequence: part.sequence,
            rename_version: mode.rename_version,
            ring_version: ring.version,
            deadline_ms: if mode.waiting.is_some() {
                u32::MAX
            } else {
                left_ms.max(1)
            },
            ..Header::new(Kind::Request)
        }
    }

    /// The connection to a shard, made if there is none.
    pub(crate) fn reach(
        &self,
        shard: ShardId,
        ring: &Ring,
        header: Header,
        deadline: Instant,
    ) -> Result<Arc<Connection>, Why> {
        if let Some(connection) = self.connections.get(shard) {
            return Ok(connection);
        }
        let Some(info) = ring.shards.iter().find(|s| s.id == shard) else {
            return Err(Why::OldRing(ring.version));
        };
        let greeting = Greeting {
            world: &self.config.world,
            hooks: &self.config.hooks,
            role: &self.role,
            ring,
            credentials: &self.credentials,
        };
        let opened = self.connections.open(info, &greeting, deadline);
        let mut greeted = opened.map_err(|unreachable| match (&self.role, unreachable) {
            // A keeper begins another session. It has no volume: a server that knows of none yet
            // is no end.
            (Role::Keeper { .. }, Unreachable::Ended) => Why::Errno(Errno::ESTALE),
            (Role::Keeper { .. }, Unreachable::NoVolume) => Why::Errno(Errno::EIO),
            (_, other) => other.into(),
        })?;
        if let Some(newer) = greeted.ring.take() {
            self.cluster.learn_ring(newer);
        }
        if self.connections.must_tell(&greeted) {
            self.tell_what_is_open(&greeted, ring, header.client, deadline)?;
        }
        Ok(self.connections.put(greeted.connection))
    }

    fn settle(
        &self,
        part: &Part<'_, '_>,
        connection: &Connection,
        response: &Response,
        body: &[u8],
    ) -> Result<Answer, Why> {
        let (answer, along) = part.read_reply(connection, response, body)?;
        self.settle_along(part, &along);
        Ok(answer)
    }
}

/// An exchange that did not end with a reply.
fn failed(error: TransportError, mode: &Mode<'_>, shared: &Shared) -> Why {
    match error {
        TransportError::Fault => Why::Errno(Errno::EFAULT),
        TransportError::Timeout if mode.waiting.is_some() => Why::Errno(Errno::EINTR),
        TransportError::Timeout if shared.config.world.now() >= mode.deadline => {
            Why::Errno(Errno::EIO)
        }
        _ => Why::Away,
    }
}

impl Trouble {
    fn note(&mut self, part: &mut Part<'_, '_>, why: Why, ring: &Ring) {
        match why {
            Why::Away => self.away = true,
            Why::Moved => {
                self.away = true;
                self.ring = Some(ring.version);
            }
            Why::OldRing(version) => {
                self.ring = Some(self.ring.map_or(version, |r| r.max(version)));
            }
            Why::Busy(ms) => self.busy_ms = Some(self.busy_ms.map_or(ms, |b| b.max(ms))),
            Why::Forgotten => part.strike(),
            Why::Errno(errno) => part.answer = Some(Err(errno)),
        }
    }
}
