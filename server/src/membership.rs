//! This server as a member of its cluster: heartbeats to the manager, the state it publishes.
//!
//! One thread and one connection of its own (a connection that stays is how the manager tells a
//! server that lives from one that was killed). What must stay true: a manager that is away disturbs
//! nobody; the last state is kept beside the index, so that a server can start without it.

use crate::env::{Clock, SystemClock};
use crossbeam::channel::{Receiver, RecvTimeoutError};
use sealfs_protocol::codec;
use sealfs_protocol::header::{Header, Kind};
use sealfs_protocol::manager::{
    ClusterState, HEARTBEAT_MS, ManagerReply, ManagerRequest, Usage, VolumeUse,
};
use sealfs_protocol::{ClusterId, Incarnation, ShardId};
use sealfs_transport::link::{Exchange, Link, Tick, exchange_all};
use sealfs_transport::memory::Hooks;
use sealfs_transport::world::World;
use sealfs_transport::{TransportError, Url};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Longest wait for one answer of the manager, in ms.
const ANSWER_MS: u32 = 2_000;
/// Shortest time between two log lines about a manager that is away.
const COMPLAINT_NS: u64 = 30_000_000_000;
/// File beside the index that holds the last published state.
const STATE_FILE: &str = "cluster-state";

/// What a server says of itself.
#[derive(Clone, Debug)]
pub struct Report {
    pub cluster: Option<ClusterId>,
    pub shard: Option<ShardId>,
    pub name: String,
    pub store: u128,
    pub address: Url,
    pub weight: u32,
    pub incarnation: Incarnation,
    pub usage: Usage,
    pub volumes: Vec<VolumeUse>,
    pub known: u64,
}

/// What the manager answers to a member.
pub struct Welcome {
    pub cluster: ClusterId,
    pub shard: ShardId,
    pub state: Option<ClusterState>,
}

/// Why there is no welcome.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The manager's own line.
    #[error("{0}")]
    Refused(String),
    #[error("manager {0}: {1}")]
    Away(Url, TransportError),
}

/// The connection to the manager, made again when it breaks.
pub struct ManagerLink {
    url: Url,
    link: Option<Link>,
}

impl ManagerLink {
    pub fn new(url: Url) -> ManagerLink {
        ManagerLink { url, link: None }
    }

    /// Reports once.
    pub fn report(&mut self, report: &Report) -> Result<Welcome, JoinError> {
        let request = ManagerRequest::Heartbeat {
            cluster: report.cluster,
            name: report.name.clone(),
            store: report.store,
            shard: report.shard,
            addresses: vec![report.address.to_string()],
            weight: report.weight,
            incarnation: report.incarnation,
            usage: report.usage,
            volumes: report.volumes.clone(),
            known: report.known,
        };
        let reply = self.ask(&request).map_err(|e| {
            self.link = None;
            JoinError::Away(self.url, e)
        })?;
        match reply {
            ManagerReply::Welcome {
                cluster,
                shard,
                state,
            } => Ok(Welcome {
                cluster,
                shard,
                state,
            }),
            ManagerReply::Refused(why) => Err(JoinError::Refused(why)),
            _ => {
                let unexpected = TransportError::Unexpected("an answer to another question");
                Err(JoinError::Away(self.url, unexpected))
            }
        }
    }

    fn ask(&mut self, request: &ManagerRequest) -> Result<ManagerReply, TransportError> {
        let world = World::Real;
        let deadline = world.now().after_ms(ANSWER_MS);
        let link = match self.link.take().filter(|l| !l.is_broken()) {
            Some(link) => link,
            None => Link::connect(&world, &Hooks::default(), &self.url, deadline)?,
        };
        let unencodable = TransportError::Unexpected("a heartbeat that cannot be encoded");
        let body = codec::encode(request).map_err(|_| unencodable)?;
        let mut exchange = [Exchange {
            link: &link,
            header: Header {
                deadline_ms: ANSWER_MS,
                ..Header::new(Kind::ManagerRequest)
            },
            body: &body,
            outgoing: &[],
            incoming: &mut [],
            reply: Vec::new(),
            outcome: None,
        }];
        exchange_all(&mut exchange, deadline, &mut || Tick::Wait);
        let [exchange] = exchange;
        exchange.outcome.unwrap_or(Err(TransportError::Closed))?;
        let unparsable = TransportError::Unexpected("the manager's answer does not parse");
        let reply = codec::decode(&exchange.reply).map_err(|_| unparsable)?;
        self.link = Some(link);
        Ok(reply)
    }
}

/// What the shard tells its heartbeat thread.
pub enum Note {
    /// How full the store is, and with what.
    Usage(Usage, Vec<VolumeUse>),
    /// Somebody knows a newer ring: report now.
    Fetch,
    /// The shard works by this version of the state now, which the manager should know.
    Adopted(u64),
}

/// Reports until the other end of `notes` is gone; hands every newer state to `adopt`.
pub fn keep_reporting(
    mut report: Report,
    mut link: ManagerLink,
    notes: &Receiver<Note>,
    state_dir: &Path,
    mut adopt: impl FnMut(ClusterState),
) {
    let clock = SystemClock::new();
    let mut complained_ns = None;
    loop {
        match notes.recv_timeout(Duration::from_millis(HEARTBEAT_MS)) {
            Ok(Note::Usage(usage, volumes)) => {
                report.usage = usage;
                report.volumes = volumes;
                continue;
            }
            Ok(Note::Adopted(version)) if version > report.known => report.known = version,
            Ok(Note::Adopted(_)) => continue,
            Ok(Note::Fetch) | Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        match link.report(&report) {
            Ok(welcome) => {
                if complained_ns.take().is_some() {
                    log::info!("manager {}: back", link.url);
                }
                if let Some(state) = welcome.state {
                    if let Err(e) = save_state(state_dir, &state) {
                        log::warn!("{}: {e}", state_path(state_dir).display());
                    }
                    adopt(state);
                }
            }
            Err(e) => {
                let now = clock.now_ns();
                if complained_ns.is_none_or(|at| now - at > COMPLAINT_NS) {
                    log::warn!("{e}; serving with the last ring");
                    complained_ns = Some(now);
                }
            }
        }
    }
}

fn state_path(dir: &Path) -> PathBuf {
    dir.join(STATE_FILE)
}

/// Keeps the published state beside the index; written aside, then renamed.
pub fn save_state(dir: &Path, state: &ClusterState) -> std::io::Result<()> {
    let bytes = codec::encode(state).map_err(std::io::Error::other)?;
    let aside = dir.join("cluster-state.new");
    let mut file = std::fs::File::create(&aside)?;
    file.write_all(&codec::crc32c(&bytes).to_le_bytes())?;
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(aside, state_path(dir))
}

/// The state kept by an earlier life, if it is whole.
pub fn load_state(dir: &Path) -> Option<ClusterState> {
    let bytes = std::fs::read(state_path(dir)).ok()?;
    let (crc, body) = bytes.split_first_chunk::<4>()?;
    let whole = u32::from_le_bytes(*crc) == codec::crc32c(body);
    whole.then(|| codec::decode(body).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealfs_protocol::ring::Ring;

    #[test]
    fn a_damaged_state_file_counts_as_none() {
        let dir = tempfile::tempdir().unwrap();
        let state = ClusterState {
            version: 3,
            ring: Ring::empty(ClusterId(1), 8),
            volumes: vec![],
            deleted: vec![],
        };
        save_state(dir.path(), &state).unwrap();
        assert_eq!(load_state(dir.path()), Some(state));
        let path = state_path(dir.path());
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(load_state(dir.path()), None);
    }
}
