//! Requests and their replies: submit to everybody first, then wait for each.
//!
//! [`exchange_all`] returns only when each of its requests has ended and nobody else touches the
//! caller's memory any more: that makes it sound to let the receiving thread, whichever it is,
//! write payloads where their owner wants them.

use super::table::{End, Response, Targets};
use super::{LOOK_AROUND_MS, Link};
use crate::error::TransportError;
use crate::memory::{IoVec, IoVecMut};
use crate::tcp::client::Until;
use crate::time::Instant;
use core::time::Duration;
use sealfs_protocol::header::{FLAG_ONE_WAY, Header};

/// Requests of one caller that are under way together.
const TURN_MAX: usize = 32;
/// Interval of [`crate::memory::Hooks::long_wait`], in ms.
const LONG_WAIT_MS: u32 = 1_000;

/// One request and the place of its reply.
pub struct Exchange<'a, 'm> {
    pub link: &'a Link,
    /// Tag and lengths are filled in. [`FLAG_ONE_WAY`]: no reply is waited for.
    pub header: Header,
    pub body: &'a [u8],
    pub outgoing: &'a [IoVec<'a>],
    pub incoming: &'a mut [IoVecMut<'m>],
    /// Receives the reply's body; its memory is reused.
    pub reply: Vec<u8>,
    pub outcome: Option<Result<Response, TransportError>>,
}

/// What a waiting thread is told when it looks around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    Wait,
    GiveUp,
}

/// Sends all requests, then waits for all replies; each exchange's `outcome` is set. `look_around` is
/// called after each signal and at least every 100 ms of sleep, with no lock held.
pub fn exchange_all(
    exchanges: &mut [Exchange<'_, '_>],
    deadline: Instant,
    look_around: &mut dyn FnMut() -> Tick,
) {
    let mut turn = Turn {
        exchanges,
        first: 0,
        submitted: 0,
        indices: [0; TURN_MAX],
    };
    while turn.first < turn.exchanges.len() {
        turn.submit(deadline);
        turn.conclude(deadline, look_around);
    }
}

/// Requests that are under way together. Dropped in the middle (a panic in `look_around`) it gives
/// the connections up, so that no leader writes to memory that is gone.
struct Turn<'t, 'e, 'm> {
    exchanges: &'t mut [Exchange<'e, 'm>],
    /// The first exchange of this turn, and how many follow with it.
    first: usize,
    submitted: usize,
    indices: [usize; TURN_MAX],
}

impl Turn<'_, '_, '_> {
    /// Submits as many as find an entry. Only the first waits for one: a thread that waited for
    /// more while it holds some would wait for others that do the same.
    fn submit(&mut self, deadline: Instant) {
        self.submitted = 0;
        for exchange in self.exchanges[self.first..].iter_mut().take(TURN_MAX) {
            exchange.outcome = None;
            let may_wait = self.submitted == 0;
            match submit(exchange, may_wait, deadline) {
                Ok(Some(index)) => self.indices[self.submitted] = index,
                Ok(None) => return,
                Err(e) => exchange.outcome = Some(Err(e)),
            }
            self.submitted += 1;
        }
    }

    fn conclude(&mut self, deadline: Instant, look_around: &mut dyn FnMut() -> Tick) {
        for i in 0..self.submitted {
            let exchange = &mut self.exchanges[self.first + i];
            if exchange.outcome.is_none() {
                let outcome = conclude(exchange, self.indices[i], deadline, look_around);
                exchange.outcome = Some(outcome);
            }
        }
        self.first += self.submitted;
        self.submitted = 0;
    }
}

impl Drop for Turn<'_, '_, '_> {
    fn drop(&mut self) {
        for i in 0..self.submitted {
            let exchange = &mut self.exchanges[self.first + i];
            if exchange.outcome.is_none() {
                exchange.link.give_up();
                wait_for_end(exchange.link, self.indices[i]);
                exchange
                    .link
                    .table
                    .give_back(self.indices[i], &mut exchange.reply);
            }
        }
    }
}

/// Sends one request and returns its entry; `None`: no entry is free. An error means that it holds
/// no entry any more.
fn submit(
    exchange: &mut Exchange<'_, '_>,
    may_wait: bool,
    deadline: Instant,
) -> Result<Option<usize>, TransportError> {
    let link = exchange.link;
    if link.is_broken() {
        return Err(TransportError::Closed);
    }
    if exchange.header.flags & FLAG_ONE_WAY != 0 {
        link.send(&exchange.header, exchange.body, exchange.outgoing, deadline)?;
        exchange.outcome = Some(Ok(Response {
            header: exchange.header,
            payload_bytes: 0,
            fault: false,
        }));
        return Ok(Some(0));
    }
    let targets = Targets::new(exchange.incoming);
    let Some((index, tag)) = (if may_wait {
        Some(wait_for_entry(link, targets, deadline)?)
    } else {
        link.table.take(targets)
    }) else {
        return Ok(None);
    };
    let header = Header {
        tag,
        ..exchange.header
    };
    if let Err(e) = link.send(&header, exchange.body, exchange.outgoing, deadline) {
        // The connection is given up: the entry ends, and nobody claims it any more.
        wait_for_end(link, index);
        link.table.give_back(index, &mut exchange.reply);
        return Err(e);
    }
    Ok(Some(index))
}

fn wait_for_entry(
    link: &Link,
    targets: Targets,
    deadline: Instant,
) -> Result<(usize, u64), TransportError> {
    loop {
        let freed = link.table.freed();
        if let Some(taken) = link.table.take(targets) {
            return Ok(taken);
        }
        let now = link.world.now();
        if now >= deadline {
            return Err(TransportError::Timeout);
        }
        let left = now
            .until(deadline)
            .min(Duration::from_millis(LOOK_AROUND_MS));
        link.table.wait_for_free(freed, left);
    }
}

/// Waits for the reply and gives the entry back.
fn conclude(
    exchange: &mut Exchange<'_, '_>,
    index: usize,
    deadline: Instant,
    look_around: &mut dyn FnMut() -> Tick,
) -> Result<Response, TransportError> {
    let link = exchange.link;
    let waited = wait(link, index, deadline, look_around);
    if waited.is_err() {
        link.give_up();
        wait_for_end(link, index);
    }
    let (end, response) = link.table.give_back(index, &mut exchange.reply);
    match end {
        End::Replied => Ok(response),
        End::Broken => Err(waited.err().unwrap_or(TransportError::Closed)),
    }
}

/// Returns when the entry has ended; an error means that it has not and must be given up.
fn wait(
    link: &Link,
    index: usize,
    deadline: Instant,
    look_around: &mut dyn FnMut() -> Tick,
) -> Result<(), TransportError> {
    let mut next_long_wait = None;
    loop {
        // Forget an earlier call to lead before trying to: a later one is then not lost.
        link.table.take_call(index);
        if link.table.is_done(index) {
            return Ok(());
        }
        let led = lead(link, index, deadline);
        if link.table.is_done(index) {
            return Ok(());
        }
        match led {
            Led::Ended => {}
            Led::LookAround => {}
            Led::SomebodyElse => follow(link, index, deadline),
        }
        let now = link.world.now();
        if now >= deadline {
            return Err(TransportError::Timeout);
        }
        if look_around() == Tick::GiveUp {
            return Err(TransportError::Timeout);
        }
        let due = *next_long_wait.get_or_insert(now.after_ms(LONG_WAIT_MS));
        if now >= due {
            (link.hooks.long_wait)();
            next_long_wait = Some(now.after_ms(LONG_WAIT_MS));
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Led {
    /// The connection broke: every entry has ended.
    Ended,
    LookAround,
    SomebodyElse,
}

/// Receives for everybody until our own reply is there, unless another thread does.
fn lead(link: &Link, index: usize, deadline: Instant) -> Led {
    let Some(mut inbound) = link.receive.try_lock() else {
        return Led::SomebodyElse;
    };
    let mut patience = link.patience.begin();
    let result = loop {
        if link.table.is_done(index) {
            patience.succeeded();
            break Led::LookAround;
        }
        match inbound.advance(&link.stream, &link.table, &link.hooks) {
            Ok(true) => continue,
            Ok(false) => {}
            Err(_) => {
                link.table.fail_all(inbound.claimed());
                link.give_up();
                break Led::Ended;
            }
        }
        if link.stream.is_polled() && patience.again(|| link.stream.peer_was_on_this_core()) {
            continue;
        }
        let left = link.world.now().until(deadline);
        let nap = left.min(Duration::from_millis(LOOK_AROUND_MS));
        match link.stream.wait(Until::Readable, nap) {
            Ok(ready) if ready.readable => {}
            Ok(_) => break Led::LookAround,
            Err(_) => {
                link.table.fail_all(inbound.claimed());
                link.give_up();
                break Led::Ended;
            }
        }
    };
    drop(inbound);
    link.table.hand_over();
    result
}

/// Sleeps until our reply is there, the leader leaves, or it is time to look around.
fn follow(link: &Link, index: usize, deadline: Instant) {
    let left = link.world.now().until(deadline);
    let nap = left.min(Duration::from_millis(LOOK_AROUND_MS));
    link.table.wait_for_word(index, nap);
}

/// After the connection was given up: the leader, if there is one, ends our entry at once.
fn wait_for_end(link: &Link, index: usize) {
    loop {
        link.table.take_call(index);
        if link.table.is_done(index) {
            return;
        }
        if let Some(inbound) = link.receive.try_lock() {
            link.table.fail_all(inbound.claimed());
            return;
        }
        let nap = Duration::from_millis(LOOK_AROUND_MS);
        link.table.wait_for_word(index, nap);
    }
}
