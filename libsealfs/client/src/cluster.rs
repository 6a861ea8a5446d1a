//! The cluster as this client knows it: the published state, and how a newer one is found.
//!
//! Sources, in this order: a server's answer to Hello, the manager, what somebody on this node has
//! published. None of them is needed while the state in hand serves.

use crate::config::{Config, ConnectError};
use sealfs_protocol::RingVersion;
use sealfs_protocol::manager::{ClusterState, ManagerReply, ManagerRequest, Volume};
use sealfs_protocol::ring::Ring;
use sealfs_transport::error::TransportError;
use sealfs_transport::rpc;
use sealfs_transport::sync::Mutex;
use sealfs_transport::url::Url;
use std::sync::Arc;

/// Longest wait for the manager when a client is made, in ms.
const FIRST_STATE_MS: u32 = 4_000;
/// Longest wait for the manager when a newer state is wanted, in ms.
const NEWER_STATE_MS: u32 = 1_000;

pub(crate) struct Cluster {
    state: Mutex<Arc<ClusterState>>,
    manager: Option<Url>,
}

impl Cluster {
    /// The state given, or the manager's. Also the volume that the configuration names.
    pub fn find(config: &Config) -> Result<(Cluster, Volume), ConnectError> {
        let manager = match &config.manager {
            None => None,
            Some(text) => Some(
                text.parse::<Url>()
                    .map_err(|error| ConnectError::ManagerUrl {
                        text: text.clone(),
                        error,
                    })?,
            ),
        };
        let given = config
            .cluster_state
            .clone()
            .filter(|s| s.ring.is_consistent());
        let volume_of = |state: &ClusterState| state.volume_called(&config.volume).cloned();
        // A volume that the given state does not know may be younger than it.
        let usable = given.filter(|s| volume_of(s).is_some() && !s.ring.shards.is_empty());
        let state = match (usable, manager) {
            (Some(state), _) => state,
            (None, Some(url)) => first_state(config, &url)?,
            (None, None) => return Err(ConnectError::NoManager),
        };
        let Some(volume) = volume_of(&state) else {
            return Err(ConnectError::UnknownVolume(config.volume.clone()));
        };
        if state.ring.shards.is_empty() {
            return Err(ConnectError::NoServers);
        }
        let cluster = Cluster {
            state: Mutex::new(Arc::new(state)),
            manager,
        };
        Ok((cluster, volume))
    }

    /// The same cluster for another client.
    pub fn share(&self) -> Cluster {
        Cluster {
            state: Mutex::new(self.state()),
            manager: self.manager,
        }
    }

    pub fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.state.lock())
    }

    /// A server has sent its ring.
    pub fn learn_ring(&self, ring: Ring) {
        let mut state = self.state.lock();
        let newer = ring.version > state.ring.version && ring.cluster == state.ring.cluster;
        if newer && ring.is_consistent() {
            let mut next = ClusterState::clone(&state);
            next.ring = ring;
            *state = Arc::new(next);
        }
    }

    fn learn(&self, new: ClusterState) {
        let mut state = self.state.lock();
        let newer = new.version > state.version || new.ring.version > state.ring.version;
        let same = new.ring.cluster == state.ring.cluster;
        if newer && same && new.ring.is_consistent() && !new.ring.shards.is_empty() {
            *state = Arc::new(new);
        }
    }

    /// Looks for a state newer than `known`; true if there is one now.
    pub fn refresh(&self, config: &Config, known: RingVersion) -> bool {
        if self.state().ring.version > known {
            return true;
        }
        if let Some(url) = &self.manager {
            let request = ManagerRequest::State {
                known: self.state().version,
            };
            let answer = rpc::ask_manager(
                &config.world,
                &config.hooks,
                url,
                &request,
                NEWER_STATE_MS.min(config.deadline_ms),
            );
            if let Ok(ManagerReply::State(Some(state))) = answer {
                self.learn(state);
            }
        }
        if self.state().ring.version <= known
            && let Some(state) = config.published_state.and_then(|published| published())
        {
            self.learn(state);
        }
        self.state().ring.version > known
    }
}

fn first_state(config: &Config, url: &Url) -> Result<ClusterState, ConnectError> {
    let fail = |error: TransportError| match error {
        TransportError::Refusal { text, .. } => ConnectError::ManagerRefused {
            url: url.to_string(),
            text,
        },
        error => ConnectError::Manager {
            url: url.to_string(),
            error,
        },
    };
    let request = ManagerRequest::State { known: 0 };
    let answer = rpc::ask_manager(
        &config.world,
        &config.hooks,
        url,
        &request,
        FIRST_STATE_MS.min(config.deadline_ms),
    );
    match answer.map_err(fail)? {
        ManagerReply::State(Some(state)) if state.ring.is_consistent() => Ok(state),
        ManagerReply::State(None) => Err(ConnectError::NoServers),
        ManagerReply::Refused(text) => Err(ConnectError::ManagerRefused {
            url: url.to_string(),
            text,
        }),
        _ => Err(fail(TransportError::Unexpected(
            "an answer to another question",
        ))),
    }
}
