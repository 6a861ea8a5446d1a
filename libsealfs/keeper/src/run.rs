//! From start to end of the keeper: what stands when, and what goes in which order.
//!
//! At the start the door is open before the table of processes is read, so that nobody is overlooked;
//! at the end it is closed before the arena is asked to end, for the same reason. Then the session
//! ends at its servers, and every file goes, the lock before the arena: whoever makes the next arena
//! must find no lock of ours.

use crate::cluster::{Clusters, Known};
use crate::courier::RENEW_EVERY;
use crate::couriers::Couriers;
use crate::door::Door;
use crate::images::Images;
use crate::mappings::Mappings;
use crate::options::Options;
use crate::process;
use crate::requests::Desk;
use crate::state;
use crate::watch::{End, Watcher};
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::processes::{Process, Registered};
use sealfs_client::node::reclaim::Remains;
use sealfs_client::node::shadow::SHADOWS_PREFIX;
use sealfs_client::node::sys::{self, Fd};
use sealfs_client::node::{Arena, Runtime, keeper_link};
use sealfs_client::{FileRef, Standing};
use sealfs_protocol::{Errno, OpenId, SessionId};
use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Mappings are looked at so often.
const TEND_EVERY: Duration = Duration::from_secs(1);

/// The place that this keeper keeps.
#[derive(Debug)]
pub struct Node {
    pub runtime: Runtime,
    pub arena: Arena,
    /// Descriptions of the keeper's own, which keep mapped files alive and executed ones as they are.
    pub pins: Mutex<BTreeSet<(ManagerIndex, Known)>>,
    /// Held while a session follows another.
    begun: Mutex<()>,
}

impl Node {
    pub fn new(runtime: Runtime, arena: Arena) -> Node {
        Node {
            runtime,
            arena,
            pins: Mutex::default(),
            begun: Mutex::default(),
        }
    }

    /// Every description of this session that a cluster's servers have to know.
    pub fn descriptions(&self, manager: ManagerIndex) -> Vec<Standing> {
        let live = self.arena.live_descriptions().into_iter();
        let live = live.filter(|r| r.manager == manager).map(|r| Standing {
            file: FileRef {
                ino: r.ino,
                open: r.open,
            },
            executes: false,
            locked: r.locked,
        });
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let pins = pins.iter().filter(|(m, _)| *m == manager);
        let pins = pins.map(|(_, (file, executes))| Standing {
            file: FileRef {
                ino: file.ino,
                open: file.open,
            },
            executes: *executes,
            locked: None,
        });
        live.chain(pins).collect()
    }

    /// The numbers of all descriptions that are open here.
    pub fn live_opens(&self) -> HashSet<OpenId> {
        let pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let pins = pins.iter().map(|(_, (file, _))| file.open);
        self.arena.live_opens().into_iter().chain(pins).collect()
    }

    /// Clusters that processes or open descriptions belong to.
    pub fn managers_in_use(&self) -> BTreeSet<ManagerIndex> {
        let processes = self.arena.processes().map(|p| p.manager);
        let descriptions = self
            .arena
            .live_descriptions()
            .into_iter()
            .map(|d| d.manager);
        processes.chain(descriptions).collect()
    }

    /// Whether a process that runs, or an open description, belongs to the cluster.
    pub fn is_in_use(&self, manager: ManagerIndex) -> bool {
        let of_process = |p: Registered| p.manager == manager && p.process.is_alive();
        let is_open = |r: &Remains| r.manager == manager;
        self.arena.processes().any(of_process) || self.arena.live_descriptions().iter().any(is_open)
    }

    /// The servers have ended the session `refused`: another begins, unless one has begun already.
    pub fn begin_session(&self, refused: SessionId) -> Result<(), Errno> {
        let _one = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if self.arena.session() == refused {
            self.arena.begin_session()?;
        }
        Ok(())
    }

    /// No process, no description, no mapping.
    pub fn is_empty(&self) -> bool {
        self.arena.is_empty()
    }
}

/// Ends threads that sleep in between.
#[derive(Default)]
pub struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Sleeps; `true` when it is time to end.
    pub fn wait(&self, time: Duration) -> bool {
        let is_set = self.is_set.lock().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + time;
        let (is_set, _) = self
            .changed
            .wait_timeout_while(
                is_set,
                until.saturating_duration_since(Instant::now()),
                |s| !*s,
            )
            .unwrap_or_else(PoisonError::into_inner);
        *is_set
    }

    pub fn set(&self) {
        *self.is_set.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// The program: returns when nobody is left or a signal came. `connect` says how clusters are reached.
pub fn keeper(
    options: &Options,
    connect: impl FnOnce(Arc<Node>) -> Arc<dyn Clusters>,
) -> Result<(), String> {
    let signals = process::signals()?;
    process::raise_limits();
    let (runtime, lock) = process::take_place(options)?;
    process::start_log(&runtime);
    let arena = Arena::attach(&runtime).map_err(|e| e.to_string())?;
    let node = Arc::new(Node::new(runtime, arena));
    process::publish_pid(&node.runtime)?;
    let clusters = connect(Arc::clone(&node));
    let end = keep(&node, &clusters, &signals, options.idle)?;
    if end == End::Idle {
        clear(&node);
    }
    drop(lock);
    Ok(())
}

/// Everything between start and end, with any clusters. What waits for servers longer than it may is
/// left behind in its thread.
pub fn keep(
    node: &Arc<Node>,
    clusters: &Arc<dyn Clusters>,
    signals: &Fd,
    idle: Duration,
) -> Result<End, String> {
    node.arena.forget_execs();
    let door = Door::open(&node.runtime).map_err(|e| format!("keeper.sock: {e}"))?;
    node.arena.clear_mapped();
    node.arena.set_keeper(Process::current());
    let mappings = Arc::new(Mappings::new(Arc::clone(node), Arc::clone(clusters)));
    let images = Arc::new(Images::new(Arc::clone(node), Arc::clone(clusters)));
    let desk = Desk::new(Arc::clone(&mappings), images);
    let couriers = Arc::new(Couriers::new(Arc::clone(node), Arc::clone(clusters)));
    let stop = Arc::new(Stop::default());
    every(state::REFRESH_EVERY, &stop, {
        let node = Arc::clone(node);
        move || state::refresh(&node)
    })?;
    every(RENEW_EVERY, &stop, {
        let couriers = Arc::clone(&couriers);
        move || couriers.look_after()
    })?;
    every(TEND_EVERY, &stop, {
        let desk = desk.clone();
        move || {
            desk.mappings.tend();
            desk.images.tend();
        }
    })?;
    let mut watcher = Watcher::new(node, &couriers, &desk);
    let end = watcher.run(door, signals, idle);
    let until = watcher.end_by();
    stop.set();
    let (done, is_done) = channel();
    let (end_session, clusters) = (matches!(end, Ok(End::Idle)), Arc::clone(clusters));
    let last = move || {
        if !end_session {
            mappings.write_back_all();
        }
        couriers.stop(end_session, until);
        clusters.end();
        let _ = done.send(());
    };
    std::thread::spawn(last);
    let left = until.saturating_duration_since(Instant::now());
    if is_done.recv_timeout(left).is_err() {
        log::warn!("servers do not answer: what is left is the next keeper's");
    }
    end
}

/// Does something now and then in a thread of its own, until it is time to end.
fn every(time: Duration, stop: &Arc<Stop>, work: impl Fn() + Send + 'static) -> Result<(), String> {
    let stop = Arc::clone(stop);
    let run = move || {
        while !stop.wait(time) {
            work();
        }
    };
    let thread = std::thread::Builder::new().spawn(run);
    thread.map(drop).map_err(|e| e.to_string())
}

/// What may lie in the runtime directory besides the files that [`clear`] names: shadow working
/// directories whose maker was killed, FIFOs and sockets of the mount, states of clusters.
const LEFT_OVER: [&str; 4] = ["cwd-", "fifo-", "sock-", "state-"];

/// Takes every file away that the node session had, the arena last.
fn clear(node: &Node) {
    let runtime = &node.runtime;
    for name in [process::PID_FILE, process::LOG_FILE, keeper_link::LOCK_FILE] {
        let _ = sys::unlink(runtime.join(name).as_c_str());
    }
    let directory = Path::new(OsStr::from_bytes(runtime.path()));
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let is_ours = name
            .to_str()
            .is_some_and(|n| LEFT_OVER.iter().any(|p| n.starts_with(p)));
        if name.as_bytes().starts_with(SHADOWS_PREFIX) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
        if is_ours && std::fs::remove_file(entry.path()).is_err() {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    node.arena.remove_files(runtime);
    if runtime.is_default() {
        let _ = sys::rmdir(runtime.path());
    }
}
