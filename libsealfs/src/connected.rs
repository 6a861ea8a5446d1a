//! The client of this process: made at the first use, used by every call.
//!
//! What must stay true: a child that shares our memory (vfork, posix_spawn) gets a client of its own
//! for each call; a thread that changed its identity acts under it.

use crate::log::{Level, say};
use crate::process::{MAKING, State, known_node, known_runtime, known_state, refuse, state};
use crate::settings::settings;
use crate::{credentials, descriptors, fdtable, process, vfork};
use core::ops::Deref;
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{AcqRel, Acquire, Release},
};
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::state_file;
use sealfs_client::{Client, Config, Identity};
use sealfs_protocol::manager::ClusterState;
use sealfs_protocol::{ClusterId, Errno, InodeId, VolumeId};

/// The client and what every open description of it has in common.
pub struct Connected {
    client: Client,
    template: Template,
}

/// What every slot of this process says.
#[derive(Clone, Copy, Debug)]
pub struct Template {
    pub cluster: ClusterId,
    pub manager: ManagerIndex,
    pub volume: VolumeId,
}

/// The last client made in this memory: a forked child closes its sockets.
static LAST_CLIENT: AtomicPtr<Connected> = AtomicPtr::new(core::ptr::null_mut());

/// In a new process: the parent's connections are not ours.
pub fn forget_parents() {
    let parents = LAST_CLIENT.swap(core::ptr::null_mut(), AcqRel);
    // SAFETY: a leaked client of the parent, which nobody uses in this process any more.
    if let Some(parents) = unsafe { parents.as_ref() } {
        parents.client.close_inherited();
        fdtable::clear_internals();
    }
}

/// The client as one call uses it.
pub enum ClientRef {
    Shared(&'static Client),
    /// The same client with another thread identity.
    Acting(Client),
    /// A child that shares our memory: a client of its own, ended with the call.
    Private(Client),
}

impl Deref for ClientRef {
    type Target = Client;
    fn deref(&self) -> &Client {
        match self {
            ClientRef::Shared(client) => client,
            ClientRef::Acting(client) | ClientRef::Private(client) => client,
        }
    }
}

impl Drop for ClientRef {
    fn drop(&mut self) {
        if let ClientRef::Private(client) = self {
            client.end();
            for socket in client.sockets() {
                fdtable::remove_internal(socket as u32);
            }
        }
    }
}

/// The client, connected when this is the first use.
pub fn client() -> Result<ClientRef, Errno> {
    let shared = shared_client()?;
    if vfork::is_child() {
        return Ok(ClientRef::Private(shared.private()));
    }
    Ok(match credentials::of_this_thread() {
        None => ClientRef::Shared(shared),
        Some(other) => ClientRef::Acting(shared.acting_as(shared.register_credentials(&other))),
    })
}

/// The client if there is one already.
pub fn known_client() -> Option<&'static Client> {
    Some(&known_connected()?.client)
}

fn known_connected() -> Option<&'static Connected> {
    // SAFETY: null or a leaked box of this process.
    unsafe { known_state()?.client.load(Acquire).as_ref() }
}

fn shared_client() -> Result<&'static Client, Errno> {
    Ok(&connected()?.client)
}

/// What the slots of this process's descriptions say.
pub fn template() -> Result<Template, Errno> {
    Ok(connected()?.template)
}

fn connected() -> Result<&'static Connected, Errno> {
    if let Some(connected) = known_connected() {
        return Ok(connected);
    }
    let state = state()?;
    let _making = MAKING.lock();
    if let Some(connected) = known_connected() {
        return Ok(connected);
    }
    let connected = Box::leak(Box::new(connect(state)?));
    LAST_CLIENT.store(connected, Release);
    state.client.store(connected, Release);
    Ok(connected)
}

/// The newest state of the cluster that anybody on this node has published.
fn published_state() -> Option<ClusterState> {
    state_file::read(known_runtime()?, &settings()?.manager)
}

fn note_extending(begins: bool) {
    if let (Some(arena), Ok(me)) = (process::known_arena(), process::me()) {
        arena.note_extending(me, begins);
    }
}

fn connect(state: &State) -> Result<Connected, Errno> {
    let settings = settings().ok_or(Errno::EIO)?;
    let node = known_node().ok_or(Errno::EIO)?;
    let mut config = Config::new(&settings.volume, &settings.mount);
    config.manager = Some(settings.manager.clone());
    config.cluster_state = published_state();
    config.published_state = Some(published_state);
    config.live_opens = Some(|| Some(process::known_arena()?.live_opens()));
    config.extending = Some(note_extending);
    config.deadline_ms = settings.deadline_ms;
    config.first_sequence = state.registration.first_sequence().0;
    config.hooks = descriptors::hooks();
    let was_published = config.cluster_state.is_some();
    let identity = Identity {
        client: state.registration.client,
        session: node.arena.session(),
        pid: state.registration.process.pid,
        credentials: credentials::first(),
    };
    let client = Client::connect(config, identity).map_err(|error| {
        say(Level::Error, format_args!("{error}"));
        error.errno()
    })?;
    let known = client.cluster_state();
    if !was_published {
        let written = state_file::write(node.runtime, &settings.manager, &known);
        if let Err(errno) = written {
            say(Level::Info, format_args!("cluster state not kept: {errno}"));
        }
    }
    let template = Template {
        cluster: known.ring.cluster,
        manager: node
            .arena
            .manager(node.runtime, &settings.manager)
            .map_err(|e| refuse(&e))?,
        volume: client.volume().id,
    };
    Ok(Connected { client, template })
}

/// The root directory of the volume. Its number follows from the volume's; a process without a
/// client learns it by connecting.
pub fn root() -> Result<InodeId, Errno> {
    Ok(shared_client()?.root())
}
