//! From start to end of the keeper: what stands when, and what goes in which order.
//!
//! At the start the door is open before the table of processes is read, so that nobody is overlooked;
//! at the end it is closed before the arena is asked to end, for the same reason. Then the session
//! ends at its servers, and every file goes, the lock before the arena: whoever makes the next arena
//! must find no lock of ours.

use crate::cluster::{Clusters, Known};
use crate::courier::{Courier, Errand};
use crate::door::Door;
use crate::images::Images;
use crate::mappings::Mappings;
use crate::options::Options;
use crate::process;
use crate::requests::Desk;
use crate::state;
use crate::watch::{End, Watcher};
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::processes::Process;
use sealfs_client::node::sys::{self, Fd};
use sealfs_client::node::{Arena, Runtime, keeper_link};
use sealfs_client::{FileRef, Standing};
use sealfs_protocol::OpenId;
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
}

impl Node {
    pub fn new(runtime: Runtime, arena: Arena) -> Node {
        Node {
            runtime,
            arena,
            pins: Mutex::default(),
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

/// Everything between start and end, with any clusters.
pub fn keep(
    node: &Arc<Node>,
    clusters: &Arc<dyn Clusters>,
    signals: &Fd,
    idle: Duration,
) -> Result<End, String> {
    let door = Door::open(&node.runtime).map_err(|e| format!("keeper.sock: {e}"))?;
    node.arena.clear_mapped();
    node.arena.set_keeper(Process::current());
    let mappings = Arc::new(Mappings::new(Arc::clone(node), Arc::clone(clusters)));
    let desk = Desk::new(
        Arc::clone(&mappings),
        Arc::new(Images::new(Arc::clone(node), Arc::clone(clusters))),
    );
    let images = Arc::clone(&desk.images);
    let (errands, work) = channel();
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let courier = Courier::new(Arc::clone(node), Arc::clone(clusters));
        scope.spawn(move || courier.run(&work));
        let stop = &stop;
        scope.spawn(move || state::refresh(node, stop));
        let tended = Arc::clone(&mappings);
        scope.spawn(move || {
            while !stop.wait(TEND_EVERY) {
                tended.tend();
                images.tend();
            }
        });
        let end = Watcher::new(node, &errands, &desk).run(door, signals, idle);
        if !matches!(end, Ok(End::Idle)) {
            mappings.write_back_all();
        }
        stop.set();
        let end_session = matches!(end, Ok(End::Idle));
        let _ = errands.send(Errand::Stop { end_session });
        end
    })
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
        if is_ours && std::fs::remove_file(entry.path()).is_err() {
            let _ = std::fs::remove_dir(entry.path());
        }
    }
    node.arena.remove_files(runtime);
    if runtime.is_default() {
        let _ = sys::rmdir(runtime.path());
    }
}
