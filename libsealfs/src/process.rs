//! What this process knows: how it was configured, and its place in the node's arena.
//!
//! Three layers, each made when it is first needed: the runtime directory (to tell our descriptors
//! from the kernel's), the arena with this process's registration, and the client with its
//! connections (`connected.rs`). The first two survive fork as they are; registration and client hang off a word
//! that a forked child finds zero, and are made anew there.
//!
//! What must stay true: a program that never touches the mount makes none of them; a child that
//! shares our memory but not our descriptors (vfork, posix_spawn) uses a client of its own for each
//! call and leaves nothing behind in what is remembered.

use crate::connected::{self, Connected};
use crate::kernel;
use crate::log::{Level, say};
use crate::patch::{class::SECCOMPED, signals};
use crate::settings::{self, settings};
use crate::start::StartEnv;
use crate::sync::{self, Mutex, Word};
use crate::{credentials, descriptors, fdtable, subject, vfork};
use core::ffi::CStr;
use core::sync::atomic::{
    AtomicPtr, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use sealfs_client::node::keeper_link::{self, KeeperCommand};
use sealfs_client::node::{Arena, NodeError, ProcessIndex, Registration, Runtime, processes};
use sealfs_protocol::Errno;
use std::ffi::CString;

pub use crate::connected::{ClientRef, client, known_client, root, template};
pub use crate::settings::{
    complete_environment, deadline_ms, is_ancestor, mount, mount_parent, volume_name,
};
pub use crate::subject::executable;

/// The runtime directory and its arena.
pub struct Node {
    pub runtime: &'static Runtime,
    pub arena: Arena,
}

/// What a forked child has to make anew.
pub struct State {
    pub registration: Registration,
    pub client: AtomicPtr<Connected>,
}

static RUNTIME: AtomicPtr<Runtime> = AtomicPtr::new(core::ptr::null_mut());
static NODE: AtomicPtr<Node> = AtomicPtr::new(core::ptr::null_mut());
/// The number under which this process, or the one it was forked from, was registered.
static LAST_ME: AtomicU32 = AtomicU32::new(0);
pub static MAKING: Mutex<()> = Mutex::const_new(<sync::RawMutex as lock_api::RawMutex>::INIT, ());
static UMASK: AtomicU32 = AtomicU32::new(0o022);
/// The word [`Word::Extra`] of a process that has looked at itself.
const SEEN: usize = 1;

/// Takes the settings from the environment. Without a usable mount prefix the library stays idle.
pub fn start(env: &StartEnv) {
    if !settings::start(env) {
        return;
    }
    // Nobody else runs yet, so the mask is read by setting it.
    let mask = kernel::umask(0);
    kernel::umask(mask);
    UMASK.store(mask, Relaxed);
    first_look();
    crate::cwd::get();
}

pub fn pid() -> u32 {
    subject::pid()
}

/// The program put itself under seccomp: nothing is asked of the kernel unless the call is ours.
pub fn is_sandboxed() -> bool {
    SECCOMPED.load(Relaxed)
}

/// At the head of every dispatched call: notices that this is a forked child, or that a child which
/// shared our memory is gone.
pub fn enter() {
    if sync::word(Word::Extra).load(Relaxed) != SEEN {
        first_look();
    }
    if fdtable::is_frozen() {
        vfork::look();
    }
}

/// The first call of a new process.
fn first_look() {
    sync::pid();
    vfork::forget_all();
    connected::forget_parents();
    descriptors::keep_lent();
    sync::word(Word::Extra).store(SEEN, Release);
}

/// Says once what stands in the way, and gives its errno.
pub fn refuse(error: &NodeError) -> Errno {
    static SAID: AtomicU32 = AtomicU32::new(0);
    if SAID.swap(1, Relaxed) == 0 {
        say(Level::Error, format_args!("{}", error.text));
    }
    error.errno
}

pub fn known_runtime() -> Option<&'static Runtime> {
    // SAFETY: set from a leaked box, never freed.
    unsafe { RUNTIME.load(Acquire).as_ref() }
}

/// The runtime directory, found or made.
pub fn runtime() -> Result<&'static Runtime, Errno> {
    if let Some(runtime) = known_runtime() {
        return Ok(runtime);
    }
    let _making = MAKING.lock();
    if let Some(runtime) = known_runtime() {
        return Ok(runtime);
    }
    let chosen = settings().ok_or(Errno::EIO)?.runtime.as_deref();
    let runtime = Box::leak(Box::new(Runtime::open(chosen).map_err(|e| refuse(&e))?));
    RUNTIME.store(runtime, Release);
    Ok(runtime)
}

/// Runtime directory and arena if they are known, without registering anybody.
pub fn known_node() -> Option<&'static Node> {
    // SAFETY: set from a leaked box, never freed.
    unsafe { NODE.load(Acquire).as_ref() }
}

/// The arena if this process has it mapped already.
pub fn known_arena() -> Option<&'static Arena> {
    known_node().map(|node| &node.arena)
}

/// The arena, with this process registered in it.
pub fn node() -> Result<&'static Node, Errno> {
    state()?;
    known_node().ok_or(Errno::EIO)
}

/// This process's number in the arena.
pub fn me() -> Result<ProcessIndex, Errno> {
    Ok(state()?.registration.index)
}

/// This process's number, or that of its nearest registered ancestor: enough to try whether a
/// description has a holder left, which a child does when it ends without ever having used us.
pub fn me_or_ancestor() -> Option<ProcessIndex> {
    match LAST_ME.load(Relaxed) {
        0 => None,
        index => Some(ProcessIndex(index)),
    }
}

pub fn known_state() -> Option<&'static State> {
    // SAFETY: the word is zero or a leaked box of this process.
    unsafe { (sync::word(Word::State).load(Acquire) as *const State).as_ref() }
}

pub fn state() -> Result<&'static State, Errno> {
    // The call is ours: from here on locks are taken (a sandboxed process enters unblocked).
    signals::block();
    if let Some(state) = known_state() {
        return Ok(state);
    }
    let runtime = runtime()?;
    let _making = MAKING.lock();
    if let Some(state) = known_state() {
        return Ok(state);
    }
    let _owner = credentials::as_owner(runtime);
    let registration = register(runtime)?;
    LAST_ME.store(registration.index.0, Relaxed);
    announce(runtime, &registration);
    let state = Box::leak(Box::new(State {
        registration,
        client: AtomicPtr::new(core::ptr::null_mut()),
    }));
    sync::word(Word::State).store(core::ptr::from_ref(state) as usize, Release);
    Ok(state)
}

fn register(runtime: &'static Runtime) -> Result<Registration, Errno> {
    let url = &settings().ok_or(Errno::EIO)?.manager;
    if let Some(node) = known_node() {
        let manager = node.arena.manager(runtime, url).map_err(|e| refuse(&e))?;
        match node.arena.register(runtime, manager) {
            Err(Errno::ESTALE) => {}
            other => return other,
        }
    }
    let (arena, registration) = processes::join(runtime, url).map_err(|e| refuse(&e))?;
    NODE.store(Box::into_raw(Box::new(Node { runtime, arena })), Release);
    descriptors::lend_slots(runtime);
    Ok(registration)
}

/// A keeper that was killed is followed by another: looked at whenever a file is opened.
pub fn look_after_keeper(node: &Node) {
    if keeper_link::is_late(&node.arena)
        && let Some(state) = known_state()
    {
        announce(node.runtime, &state.registration);
    }
}

/// The keeper is about to be asked for something: if it is dead, another is started first.
pub fn need_keeper(node: &Node) {
    if !keeper_link::is_running(&node.arena)
        && let Some(state) = known_state()
    {
        announce(node.runtime, &state.registration);
    }
}

/// Tells the keeper about this process, and starts one if there is none. Without a keeper files
/// work; what must outlive a process does not.
fn announce(runtime: &Runtime, registration: &Registration) {
    let Some(settings) = settings() else { return };
    let environment: Vec<&CStr> = settings.environment.iter().map(CString::as_c_str).collect();
    let command = settings.keeper.as_deref().map(|program| KeeperCommand {
        program,
        environment: &environment,
    });
    if let Err(error) = keeper_link::announce(runtime, registration, command) {
        say(Level::Warn, format_args!("{error}"));
    }
}

/// The file mode mask.
pub fn umask() -> u32 {
    if vfork::is_child() {
        let mask = kernel::umask(0);
        kernel::umask(mask);
        return mask;
    }
    UMASK.load(Relaxed)
}

/// The program set its mask.
pub fn note_umask(mask: u32) {
    if !vfork::is_child() {
        UMASK.store(mask & 0o777, Relaxed);
    }
}

/// The kernel's number of the calling process; not that of the memory's owner in a vfork child.
pub fn real_pid() -> u32 {
    subject::real_pid()
}
