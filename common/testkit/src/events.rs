//! What happens in a simulated cluster, one thing after the other: time, arrivals, jobs, and what
//! the shards want to have done.

use crate::cluster::{Arrival, Cluster, Due, What};
use crate::net::{Frame, Item, Place, Taken, Way};
use crate::settings::SimWorld;
use crate::trace::describe;
use sealfs_protocol::header::Kind;
use sealfs_server::core::{Action, ConnId, Core, Event};

/// Interval of ticks, in ns.
const TICK_NS: u64 = 20_000_000;
/// Pause between two attempts of one shard to reach another, in ns.
pub(crate) const RECONNECT_NS: u64 = 50_000_000;
/// Once in so many frames one takes much longer than the others, if delays vary at all.
const SLOW_ONE_IN: u64 = 50;
const SLOW_FACTOR: u64 = 40;

impl Cluster {
    /// Puts something on the queue, due after `ns` at the earliest.
    pub(crate) fn enter(&mut self, index: usize, ns: u64, what: What) {
        let at = self.clock.now().mono_ns + ns;
        self.enter_at(index, at, what);
    }

    fn enter_at(&mut self, index: usize, at_ns: u64, what: What) {
        self.entered += 1;
        let life = self.nodes.get(index).map_or(0, |n| n.life);
        let due = Due { index, life, what };
        self.queue.insert((at_ns, self.entered), due);
    }

    /// Something will come out of a stream, or be found not to.
    pub(crate) fn arrives(&mut self, conn: ConnId, way: Way) {
        let mut delay = 1_000 + self.random.below(self.settings.delay_max_ns);
        if self.settings.slow_frames && self.random.one_in(SLOW_ONE_IN) {
            delay *= SLOW_FACTOR;
        }
        self.enter(0, delay, What::Arrival(conn, way));
    }

    /// Carries out what is due next, or lets time pass if there is nothing.
    pub fn advance(&mut self) {
        let running = (0..self.nodes.len()).filter(|i| self.runs(*i));
        let wake = running.filter_map(|i| self.core(i).and_then(Core::next_wake_ns));
        let soonest = self.clock.now().mono_ns + 1;
        let wake = wake.min().map_or(u64::MAX, |at| at.max(soonest));
        let tick = self.next_tick_ns.min(wake);
        let next = self.queue.first_key_value().map(|((at, _), _)| *at);
        if let Some(at) = next.filter(|at| *at <= tick) {
            self.clock.pass_until(at);
            if let Some(((_, order), due)) = self.queue.pop_first() {
                self.carry_out_due(order, due);
            }
            return;
        }
        self.clock.pass_until(tick);
        self.next_tick_ns = self.clock.now().mono_ns + TICK_NS;
        for index in 0..self.nodes.len() {
            if self.runs(index) {
                self.step(index, Event::Tick);
            }
        }
    }

    /// Lets time pass, with all that it brings.
    pub fn pass(&mut self, ns: u64) {
        let until = self.clock.now().mono_ns + ns;
        while self.clock.now().mono_ns < until {
            self.advance();
        }
    }

    /// Prints what happens, if somebody wants to see it.
    pub(crate) fn trace(&self, words: impl FnOnce() -> String) {
        if self.settings.trace {
            eprintln!("{:>12} {}", self.clock.now().mono_ns / 1_000, words());
        }
    }

    fn runs(&self, index: usize) -> bool {
        self.is_up(index) && self.nodes[index].stopped_until_ns <= self.clock.now().mono_ns
    }

    fn carry_out_due(&mut self, order: u64, due: Due) {
        if let What::Arrival(conn, way) = due.what {
            return self.arrive(order, conn, way);
        }
        let node = &self.nodes[due.index];
        if node.life != due.life || node.core.is_none() {
            return;
        }
        if !self.runs(due.index) {
            // In the old order, among what waits with it.
            let at = node.stopped_until_ns;
            self.queue.insert((at, order), due);
            return;
        }
        match due.what {
            What::Flush(job) => self.step(due.index, Event::FlushDone(job.run())),
            What::Commit(job) => self.step(due.index, Event::CommitDone(job.run())),
            What::EndBatch => self.end_batch(due.index),
            What::Connect(to) => self.connect_shards(due.index, to),
            What::Arrival(..) => {}
        }
    }

    fn arrive(&mut self, order: u64, conn: ConnId, way: Way) {
        let receiver = match way {
            Way::ToServer => self.net.server(conn),
            Way::ToAsker => match self.net.asker(conn) {
                Some(Place::Shard(index)) => Some(index),
                _ => None,
            },
        };
        if let Some(index) = receiver
            && self.is_up(index)
            && !self.runs(index)
        {
            let at = self.nodes[index].stopped_until_ns;
            let what = What::Arrival(conn, way);
            self.queue.insert(
                (at, order),
                Due {
                    index: 0,
                    life: 0,
                    what,
                },
            );
            return;
        }
        let now = self.clock.now().mono_ns;
        match self.net.take(conn, way, now, &mut self.random) {
            Taken::Nothing => {}
            Taken::Later(at) => self.enter_at(0, at, What::Arrival(conn, way)),
            Taken::Item(item) => match way {
                Way::ToServer => self.serve(conn, item),
                Way::ToAsker => self.answer(conn, item),
            },
        }
    }

    /// Something has reached the shard that serves a connection.
    fn serve(&mut self, conn: ConnId, item: Item) {
        let (Some(index), Some((_, life))) = (self.net.server(conn), self.net.lives(conn)) else {
            return;
        };
        if self.nodes[index].life != life {
            return self.net.forget(conn, Way::ToServer);
        }
        self.trace(|| match &item {
            Item::Frame(frame) => format!("{conn:?} -> shard {index}: {}", describe(frame)),
            Item::Closed => format!("{conn:?} -> shard {index}: closed"),
        });
        match item {
            Item::Frame(frame) => self.step(
                index,
                Event::Frame {
                    conn,
                    header: &frame.header,
                    body: &frame.body,
                    payload: &frame.payload,
                },
            ),
            Item::Closed => {
                self.step(index, Event::Disconnected(conn));
                self.net.forget(conn, Way::ToServer);
            }
        }
    }

    /// Something has come back to who made a connection.
    fn answer(&mut self, conn: ConnId, item: Item) {
        let (Some(asker), Some((life, _)), Some(server)) = (
            self.net.asker(conn),
            self.net.lives(conn),
            self.net.server(conn),
        ) else {
            return;
        };
        let from = self.nodes[server].id;
        self.trace(|| match &item {
            Item::Frame(frame) => format!("{conn:?} {asker:?} <- {server}: {}", describe(frame)),
            Item::Closed => format!("{conn:?} {asker:?} <- {server}: closed"),
        });
        match (asker, item) {
            (Place::Client(end), Item::Frame(frame)) => {
                let inbox = self.inboxes.entry(end).or_default();
                inbox.push(Arrival::Frame(conn, frame));
            }
            (Place::Client(end), Item::Closed) => {
                self.net.forget(conn, Way::ToAsker);
                self.inboxes
                    .entry(end)
                    .or_default()
                    .push(Arrival::Lost(conn));
            }
            (Place::Shard(index), _) if self.nodes[index].life != life => {
                self.net.forget(conn, Way::ToAsker);
            }
            (Place::Shard(index), Item::Frame(frame)) => {
                if frame.header.kind == Kind::HelloReply {
                    self.nodes[index].peers.insert(server, (conn, true));
                    return self.step(index, Event::PeerUp(from));
                }
                self.step(
                    index,
                    Event::PeerReply {
                        from,
                        header: &frame.header,
                        body: &frame.body,
                        payload: &frame.payload,
                    },
                );
            }
            (Place::Shard(index), Item::Closed) => {
                self.net.forget(conn, Way::ToAsker);
                self.nodes[index].peers.remove(&server);
                self.enter(index, RECONNECT_NS, What::Connect(server));
            }
        }
    }

    // ---- shards --------------------------------------------------------------------------------

    /// Steps a shard. The batch that this belongs to may go on for a while.
    pub(crate) fn step(&mut self, index: usize, event: Event<'_>) {
        let now = self.clock.skewed(self.nodes[index].skew_ns);
        let batches = self.settings.batches && self.random.one_in(3);
        let node = &mut self.nodes[index];
        let Some(core) = &mut node.core else {
            return;
        };
        core.step(event, now, &mut node.batch);
        if !batches && !node.batch_is_open {
            return self.end_batch(index);
        }
        if !node.batch_is_open {
            node.batch_is_open = true;
            let after = 1 + self.random.below(self.settings.delay_max_ns);
            self.enter(index, after, What::EndBatch);
        }
    }

    fn end_batch(&mut self, index: usize) {
        let now = self.clock.skewed(self.nodes[index].skew_ns);
        let node = &mut self.nodes[index];
        node.batch_is_open = false;
        let mut actions = std::mem::take(&mut node.batch);
        if let Some(core) = &mut node.core {
            core.step(Event::Tick, now, &mut actions);
            core.finish_batch(now, &mut actions);
        }
        for action in actions {
            self.carry_out(index, action);
        }
    }

    fn carry_out(&mut self, index: usize, action: Action<SimWorld>) {
        match action {
            Action::Reply {
                conn,
                header,
                body,
                payload,
            } => {
                let frame = Frame {
                    header,
                    body,
                    payload,
                };
                if self.net.send(conn, Way::ToAsker, frame) {
                    self.arrives(conn, Way::ToAsker);
                }
            }
            Action::Peer {
                shard,
                header,
                body,
                payload,
            } => {
                let to = self.nodes.iter().position(|n| n.id == shard);
                let peer = to.and_then(|to| self.nodes[index].peers.get(&to).copied());
                if let Some((conn, true)) = peer {
                    self.send(conn, header, &body, &payload);
                }
            }
            Action::Flush(job) => {
                let after = 1_000 + self.random.below(self.settings.disk_max_ns);
                self.enter(index, after, What::Flush(job));
            }
            Action::Commit(job) => {
                let after = 1_000 + self.random.below(self.settings.disk_max_ns);
                self.enter(index, after, What::Commit(job));
            }
            Action::Retire(retired) => drop(retired),
            Action::Park(_) | Action::Unpark(_) => {}
            Action::FetchState => {
                let state = self.state.clone();
                self.step(index, Event::State(state));
            }
            Action::Close(conn) => {
                self.net.close(conn);
                self.arrives(conn, Way::ToAsker);
            }
        }
    }
}
