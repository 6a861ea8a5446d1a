//! The watcher: the keeper's main loop. It waits for knocks, for the end of processes (pidfds) and
//! for signals, and never waits for a server.
//!
//! A process that ended leaves its entry in the arena's table; the watcher takes over what it left
//! ([`sealfs_client::node::reclaim`]) and hands it to the courier. Descriptions that lost their last
//! descriptor by an exec are looked at when it is over ([`crate::departures`]); any that were shared
//! and lost it without a word are looked for now and then, more often when something happened.

use crate::courier::Errand;
use crate::couriers::Couriers;
use crate::departures::Departures;
use crate::door::{self, Door, Heard, Visitor};
use crate::requests::Desk;
use crate::run::Node;
use crate::shadows::Shadows;
use rustix::fd::{AsFd, OwnedFd};
use rustix::process::{Pid, PidfdFlags};
use sealfs_client::node::processes::{Process, ProcessIndex, Registered};
use sealfs_client::node::reclaim::Remains;
use sealfs_client::node::sys;
use sealfs_client::node::sys::Fd;
use sealfs_client::node::wire::KeeperRequest;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The table of processes and shared descriptions is looked through at least so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same when it is told to end.
const LOOK_WHEN_TOLD: Duration = Duration::from_millis(20);
/// At most one part in so many of the time goes into looking for unheld descriptions.
const SWEEP_SHARE: u32 = 10;
/// Told to end, the keeper waits for so long that its errands for ended processes are done.
const FINISH_WITHIN: Duration = Duration::from_millis(700);
/// Told to end, it is gone after this time, whatever servers do.
const END_WITHIN: Duration = Duration::from_secs(1);
/// Without being told, it takes so long at most to end the session.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Visitors that say nothing are sent away after this time.
const VISIT_MAX: Duration = Duration::from_secs(10);

/// Why the watch ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Nobody is left; the arena has ended.
    Idle,
    /// Told to, while programs may still run.
    Signal,
}

/// A registered process and what is known of it.
struct Watched {
    registered: Registered,
    /// `None`: it is looked after by its start time instead.
    pidfd: Option<OwnedFd>,
    /// It ended, and the courier has its errands.
    is_over: bool,
}

pub struct Watcher<'a> {
    node: &'a Node,
    couriers: &'a Couriers,
    desk: &'a Desk,
    watched: HashMap<ProcessIndex, Watched>,
    visitors: Vec<(Visitor, Instant)>,
    departures: Departures,
    shadows: Shadows,
    next_sweep: Instant,
    idle_since: Option<Instant>,
    /// When a signal told it to end.
    told: Option<Instant>,
}

impl<'a> Watcher<'a> {
    pub fn new(node: &'a Node, couriers: &'a Couriers, desk: &'a Desk) -> Watcher<'a> {
        Watcher {
            node,
            couriers,
            desk,
            watched: HashMap::new(),
            visitors: Vec::new(),
            departures: Departures::default(),
            shadows: Shadows::default(),
            next_sweep: Instant::now(),
            idle_since: None,
            told: None,
        }
    }

    /// Watches until nobody is left for `idle`, or a signal comes.
    pub fn run(&mut self, door: Door<'_>, signals: &Fd, idle: Duration) -> Result<End, String> {
        let mut door = door;
        let unfinished = self.node.arena.unfinished();
        let mut listed = self.node.arena.processes();
        if listed.any(|p| self.node.arena.was_extending(p.index)) {
            // The keeper before may not have come to that.
            self.doubt_ends(unfinished.iter());
        }
        for remains in unfinished {
            self.send(Errand::Close(remains));
        }
        loop {
            self.node.arena.set_renewed();
            self.look_at_processes();
            self.sweep();
            self.shadows.look(self.node);
            if self.wait(&door, signals, idle) {
                log::info!("told to end");
                self.told.get_or_insert_with(Instant::now);
                self.hurry();
            }
            if self.told.is_some() && self.is_for_next() {
                return Ok(End::Signal);
            }
            if self.is_idle(if self.told.is_some() {
                Duration::ZERO
            } else {
                idle
            }) {
                drop(door);
                if self.node.arena.try_end() {
                    return Ok(End::Idle);
                }
                door = Door::open(&self.node.runtime).map_err(|e| format!("keeper.sock: {e}"))?;
                self.idle_since = None;
            }
        }
    }

    /// Told to end: mapped memory goes to the servers, and what ended processes left is told.
    fn hurry(&self) {
        self.couriers.hurry();
        self.desk.mappings.hurry();
        let mappings = Arc::clone(&self.desk.mappings);
        std::thread::spawn(move || mappings.write_back_all());
    }

    /// Until when what is left may take.
    pub fn end_by(&self) -> Instant {
        let told = self.told.map(|at| at + END_WITHIN);
        told.unwrap_or_else(|| Instant::now() + LEAVE_WITHIN)
    }

    /// Told to end: whether what is left is the next keeper's. While files are mapped, their memory is
    /// here: they get all the time there is.
    fn is_for_next(&self) -> bool {
        let is_late = self.told.is_some_and(|at| at.elapsed() > FINISH_WITHIN);
        let has_live = self.watched.values().any(|w| !w.is_over)
            || !self.node.arena.live_descriptions().is_empty();
        is_late || (has_live && self.node.arena.mapped_files() == 0)
    }

    fn send(&mut self, errand: Errand) {
        if let Errand::Close(remains) = &errand {
            self.shadows.release(remains.id);
        }
        self.couriers.send(errand);
    }

    fn is_empty(&self) -> bool {
        self.node.is_empty() && !self.desk.is_busy() && self.visitors.is_empty()
    }

    fn is_idle(&mut self, idle: Duration) -> bool {
        if !self.is_empty() {
            self.idle_since = None;
            return false;
        }
        self.idle_since.get_or_insert_with(Instant::now).elapsed() >= idle
    }

    /// Waits for something to happen, and does what it asks for. `true`: a signal to end.
    fn wait(&mut self, door: &Door<'_>, signals: &Fd, idle: Duration) -> bool {
        let hears = self.desk.has_room();
        let heard = if hears { self.visitors.len() } else { 0 };
        let over: Vec<ProcessIndex>;
        let left: Vec<bool>;
        let ready = {
            // A signal that was heard stays readable; the door is a stand-in then.
            let signals = if self.told.is_some() {
                door.fd()
            } else {
                sys::borrow(signals.raw())
            };
            let mut fds = vec![signals, door.fd()];
            fds.extend(self.visitors.iter().take(heard).map(|(v, _)| v.fd()));
            let held: Vec<_> = self.watched.values().filter(|w| !w.is_over).collect();
            let with_fd: Vec<_> = held
                .iter()
                .filter_map(|w| Some((w.registered.index, w.pidfd.as_ref()?)))
                .collect();
            fds.extend(with_fd.iter().map(|(_, fd)| fd.as_fd()));
            fds.extend(self.departures.fds());
            let pause = match self.told {
                Some(_) => LOOK_WHEN_TOLD,
                None => self.departures.pause().unwrap_or(LOOK_EVERY),
            };
            let ready = door::wait_readable(&fds, pause.min(LOOK_EVERY).min(idle));
            let processes = 2 + heard..2 + heard + with_fd.len();
            left = ready[processes.end..].to_vec();
            let ended = with_fd.iter().zip(&ready[processes]).filter(|(_, r)| **r);
            over = ended.map(|((index, _), _)| *index).collect();
            ready
        };
        for departed in self.departures.hear(&left) {
            self.send(Errand::Unlock(departed));
        }
        for index in over {
            self.ended(index);
        }
        for at in (0..heard).rev() {
            if ready[2 + at] {
                self.hear(at);
            }
        }
        self.visitors
            .retain(|(_, since)| since.elapsed() < VISIT_MAX);
        if ready[1] {
            let now = Instant::now();
            for visitor in door.accept() {
                self.visitors.push((visitor, now));
                // Most have spoken already.
                if self.desk.has_room() {
                    self.hear(self.visitors.len() - 1);
                }
            }
        }
        ready[0] && self.told.is_none()
    }

    fn hear(&mut self, at: usize) {
        match self.visitors[at].0.hear() {
            Heard::Nothing => {}
            Heard::Gone => {
                self.visitors.swap_remove(at);
            }
            Heard::Request(KeeperRequest::Registered { .. }) => {
                self.visitors.swap_remove(at);
                // Anew: the loop looks through the table next. After exec: descriptors are gone.
                self.next_sweep = Instant::now();
            }
            Heard::Request(request @ KeeperRequest::Leaving { .. }) => {
                let (visitor, _) = self.visitors.swap_remove(at);
                self.departures.add(self.node, visitor, &request);
            }
            Heard::Request(KeeperRequest::Hold { slot }) => {
                let (visitor, _) = self.visitors.swap_remove(at);
                self.shadows.hold(slot, &visitor);
            }
            Heard::Request(KeeperRequest::Touched { slot, touch }) => {
                let (visitor, _) = self.visitors.swap_remove(at);
                self.shadows.touch(slot, touch, &visitor);
            }
            Heard::Request(KeeperRequest::Release { slot }) => {
                let (visitor, _) = self.visitors.swap_remove(at);
                self.shadows.let_go(slot, &visitor);
            }
            Heard::Request(request) => {
                let (visitor, _) = self.visitors.swap_remove(at);
                self.desk.serve(visitor, request);
            }
        }
    }

    /// Watches whoever is new in the table, and forgets whom the courier has finished with.
    fn look_at_processes(&mut self) {
        let listed: Vec<Registered> = self.node.arena.processes().collect();
        self.watched.retain(|index, w| {
            listed
                .iter()
                .any(|r| r.index == *index && r.process == w.registered.process)
        });
        for registered in listed {
            let index = registered.index;
            if let Some(known) = self.watched.get_mut(&index) {
                known.registered = registered;
                if known.is_over || known.pidfd.is_some() || registered.process.is_alive() {
                    continue;
                }
            } else {
                let pidfd = open_pidfd(registered.process);
                let is_alive = pidfd.is_some() || registered.process.is_alive();
                let watched = Watched {
                    registered,
                    pidfd,
                    is_over: false,
                };
                self.watched.insert(index, watched);
                if is_alive {
                    continue;
                }
            }
            self.ended(index);
        }
    }

    /// A process has ended: what it left is taken over, and the servers will hear of it.
    fn ended(&mut self, index: ProcessIndex) {
        let Some(watched) = self.watched.get_mut(&index) else {
            return;
        };
        watched.is_over = true;
        watched.pidfd = None;
        let registered = self
            .node
            .arena
            .processes()
            .find(|r| r.index == index)
            .unwrap_or(watched.registered);
        log::info!("process {} ended", registered.process.pid);
        let was_extending = self.node.arena.was_extending(index);
        let left = self.node.arena.take_remains(&self.node.runtime, index);
        if was_extending {
            let open = self.node.arena.live_descriptions();
            let open = open.iter().chain(&left);
            self.doubt_ends(open.filter(|r| r.manager == registered.manager));
        }
        for remains in left {
            self.send(Errand::Close(remains));
        }
        self.send(Errand::EndClient(registered));
        self.next_sweep = Instant::now();
    }

    /// One that had these files open may have ended in the middle of a write.
    fn doubt_ends<'r>(&mut self, open: impl Iterator<Item = &'r Remains>) {
        let files: BTreeSet<_> = open.map(|r| (r.manager, r.ino)).collect();
        for (manager, ino) in files {
            self.send(Errand::Doubt(manager, ino));
        }
    }

    /// Takes over shared descriptions that nobody holds any more.
    fn sweep(&mut self) {
        for remains in self.departures.look(self.node) {
            self.send(Errand::Close(remains));
        }
        let started = Instant::now();
        if started < self.next_sweep {
            return;
        }
        for remains in self.node.arena.take_unheld(&self.node.runtime) {
            self.send(Errand::Close(remains));
        }
        let cost = started.elapsed();
        self.next_sweep = Instant::now() + LOOK_EVERY.max(cost * SWEEP_SHARE);
    }
}

/// A descriptor that becomes readable when the process ends; `None` if it has ended, is another one
/// with its pid, or the kernel gives none.
fn open_pidfd(process: Process) -> Option<OwnedFd> {
    let pid = Pid::from_raw(process.pid as i32)?;
    let fd = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Its pid cannot have been given to another since: the descriptor means who is looked at now.
    process.is_alive().then_some(fd)
}
