//! From a configuration to a serving shard, in the order that leaves nothing behind when it is
//! refused: devices looked at, port, membership, store, loop, and last the file that says "ready".

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{bounded, unbounded};
use mio::{Poll, Waker};
use sealfs_daemon::listen;
use sealfs_protocol::manager::{ClusterState, Usage};
use sealfs_protocol::{ClusterId, Incarnation, ShardId};
use sealfs_transport::Url;
use sealfs_transport::tcp::pool::Pool;
use sealfs_transport::tcp::server::Listener;

use crate::config::Config;
use crate::core::Core;
use crate::core::event::World;
use crate::membership::{self, JoinError, ManagerLink, Report};
use crate::meta::{Limits, LmdbKv, Meta, Options, boot_id};
use crate::net::jobs::{Done, Inbox, Jobs};
use crate::net::{Me, Parts, Shard, WAKER};
use crate::store::FileDevice;
use crate::store::superblock::Superblock;

/// How long a server that knows no ring waits for its manager before it says so again, in ms.
const JOIN_RETRY: Duration = Duration::from_millis(200);
/// How long it goes on asking.
const JOIN_PATIENCE: Duration = Duration::from_secs(30);
/// Size of a log file that has to be made, in bytes.
const LOG_FILE_BYTES: u64 = 256 << 20;
/// Notes to the heartbeat thread that may wait.
const NOTES: usize = 16;

/// The real world.
pub struct Real;

impl World for Real {
    type Kv = LmdbKv;
    type Device = FileDevice;
}

/// Who this server is, as its manager or its own store says.
struct Identity {
    cluster: ClusterId,
    shard: ShardId,
    state: ClusterState,
}

/// Serves until the process is asked to end, or says in one line why it cannot.
pub fn run(config: &Config) -> Result<(), String> {
    let pool = Pool::new();
    let data =
        FileDevice::open(&config.data, Some(config.size_bytes)).map_err(|e| e.to_string())?;
    let open_log = |path| FileDevice::open(path, Some(LOG_FILE_BYTES)).map_err(|e| e.to_string());
    let log_device = config.log.as_deref().map(open_log).transpose()?;
    let begun = Superblock::read(&data).map_err(|e| e.to_string())?;
    let owner = begun.filter(|s| s.ready);
    let mut listener = Listener::bind(&config.listen, pool.clone())
        .map_err(|e| listen::refused(&config.listen, &e))?;
    let address = listener.url().map_err(|e| e.to_string())?;
    let mut report = Report {
        cluster: owner.map(|o| o.cluster),
        shard: owner.map(|o| o.shard),
        name: config.name.clone(),
        // An interrupted format is gone on with under its own identity.
        store: begun.map_or_else(fresh_uuid, |s| s.uuid),
        address,
        weight: config.weight,
        incarnation: Incarnation(0),
        usage: Usage::default(),
        volumes: Vec::new(),
        known: 0,
    };
    let mut manager = ManagerLink::new(config.manager);
    let who = join(config, &mut report, &mut manager)?;
    let meta = open_store(config, &who, report.store, data, log_device)?;
    report.incarnation = meta.incarnation();
    report.known = who.state.version;
    let me = Me {
        cluster: who.cluster,
        shard: who.shard,
        incarnation: report.incarnation,
    };
    let core = Core::<Real>::new(meta, who.cluster, who.shard);

    let fail = |what: &str, e: &std::io::Error| format!("{what}: {e}");
    let poll = Poll::new().map_err(|e| fail("epoll", &e))?;
    let waker = Waker::new(poll.registry(), WAKER).map_err(|e| fail("eventfd", &e))?;
    listener
        .register(poll.registry(), crate::net::LISTENER)
        .map_err(|e| e.to_string())?;
    let (sender, inbox) = unbounded();
    let way_back = Inbox::new(sender, Arc::new(waker));
    crate::signals::stop_on_term(way_back.clone()).map_err(|e| fail("signals", &e))?;
    let jobs = Jobs::start(&way_back).map_err(|e| fail("threads", &e))?;
    let (notes, heard) = bounded(NOTES);
    let state_dir = config.meta_dir.clone();
    thread::Builder::new()
        .name("heartbeat".into())
        .spawn(move || {
            membership::keep_reporting(report, manager, &heard, &state_dir, |state| {
                way_back.put(Done::State(state));
            });
        })
        .map_err(|e| fail("threads", &e))?;
    let mut shard = Shard::new(Parts {
        core,
        me,
        poll,
        listener,
        pool,
        jobs,
        inbox,
        notes,
    });
    shard.adopt(who.state);
    announce(config, me, address)?;
    shard.run().map_err(|e| format!("epoll: {e}"))
}

/// The index, the log and the block store of a server that has joined.
fn open_store(
    config: &Config,
    who: &Identity,
    uuid: u128,
    data: FileDevice,
    log_device: Option<FileDevice>,
) -> Result<Meta<LmdbKv, FileDevice>, String> {
    let dir = &config.meta_dir;
    std::fs::create_dir_all(dir).map_err(|e| format!("meta_dir {}: {e}", dir.display()))?;
    let kv = LmdbKv::open(dir).map_err(|e| e.to_string())?;
    let options = Options {
        cluster: who.cluster,
        shard: who.shard,
        boot_id: boot_id().map_err(|e| format!("boot id: {e}"))?,
        uuid,
        log_bytes: None,
        limits: limits(config.memory_mib),
    };
    let meta = Meta::open(options, kv, Arc::new(data), log_device.map(Arc::new))
        .map_err(|e| e.to_string())?;
    membership::save_state(dir, &who.state).map_err(|e| format!("{}: {e}", dir.display()))?;
    Ok(meta)
}

fn announce(config: &Config, me: Me, address: Url) -> Result<(), String> {
    if config.insecure_listen {
        log::warn!("insecure_listen = true: anybody who reaches {address} may read and write");
    }
    log::info!(
        "{}: shard {} of cluster {}, incarnation {}, serving at {address}, data {}",
        config.name,
        me.shard,
        me.cluster,
        me.incarnation,
        config.data.display()
    );
    listen::write_ready(config.ready_file.as_deref(), &address)
}

/// Asks the manager who we are. A store that belongs to a cluster goes on with the state of its
/// last life if the manager is away; a fresh one cannot.
fn join(
    config: &Config,
    report: &mut Report,
    manager: &mut ManagerLink,
) -> Result<Identity, String> {
    let began = std::time::Instant::now();
    loop {
        match manager.report(report) {
            Ok(welcome) => {
                if let Some(state) = welcome.state {
                    return Ok(Identity {
                        cluster: welcome.cluster,
                        shard: welcome.shard,
                        state,
                    });
                }
                return Err(format!("manager {}: published no state", config.manager));
            }
            Err(JoinError::Refused(why)) => return Err(why),
            Err(away) => {
                let known = report.cluster.zip(report.shard);
                if let Some(((cluster, shard), state)) =
                    known.zip(membership::load_state(&config.meta_dir))
                {
                    log::warn!("{away}; starting with the ring of the last life");
                    return Ok(Identity {
                        cluster,
                        shard,
                        state,
                    });
                }
                if began.elapsed() > JOIN_PATIENCE {
                    return Err(format!("{away}: start it, or name another with --manager"));
                }
                thread::sleep(JOIN_RETRY);
            }
        }
    }
}

/// Shares the configured memory out: the overlay takes what is not reserved for connections.
fn limits(memory_mib: u64) -> Limits {
    let overlay = (memory_mib << 20) / 4;
    Limits {
        overlay_max_bytes: overlay.clamp(8 << 20, 1 << 30) as usize,
        commit_bytes: (overlay / 4).clamp(2 << 20, 256 << 20) as usize,
        ..Limits::default()
    }
}

fn fresh_uuid() -> u128 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
    u128::from_str_radix(&digits, 16).unwrap_or(u128::from(std::process::id()))
}
