//! What other shards ask that is no operation over a view, each brought to where it belongs.
//!
//! `attempt` comes here with every request of a shard; what is none of these runs over a view
//! (`ops::serve`). What must stay true: each may come twice, and the second does no harm.

use super::attempt::Attempt;
use super::quota::{Allowance, Over};
use super::task::{Answer, Ended, Task, Work};
use super::versions::LEASE_MS;
use super::{Core, World};
use sealfs_protocol::peer::{PeerReply, PeerRequest};

/// A rename version that was pushed stands this long, in ns.
const VERSION_LEASE_NS: u64 = LEASE_MS * 1_000_000;

impl<W: World> Core<W> {
    /// Requests of other shards that are no operation over a view.
    pub(super) fn serve_shard(&mut self, task: &mut Task) -> Option<Attempt> {
        let Work::Peer(request) = &task.work else {
            return None;
        };
        let reply = match request {
            PeerRequest::Read { .. }
            | PeerRequest::Prepare { .. }
            | PeerRequest::Decide { .. }
            | PeerRequest::Outcome { .. } => return self.serve_transaction(task),
            PeerRequest::Allow { .. } | PeerRequest::Recall { .. } => {
                return self.serve_quota(task);
            }
            PeerRequest::PushRenameVersion {
                volume,
                version,
                directories,
            } => {
                let until = self.now.mono_ns + VERSION_LEASE_NS;
                self.versions
                    .learn(*volume, *version, directories, Some(until));
                PeerReply::Acknowledged
            }
            PeerRequest::Ended { client, session } => {
                let ended = [client.map(Ended::Client), session.map(Ended::Session)];
                return Some(self.end_here(task, ended));
            }
            PeerRequest::Attend { session } => self.attend(*session),
            PeerRequest::Sessions => self.live_sessions(),
            PeerRequest::LockWaits { clients } => self.lock_waits(clients),
            PeerRequest::BreakLockWait {
                wait,
                though_settled,
            } => self.break_lock_wait(*wait, *though_settled),
            _ => return None,
        };
        Some(Attempt::Done(Answer::Peer(reply)))
    }

    /// Requests about the quota of a volume, between its owner and the others.
    fn serve_quota(&mut self, task: &mut Task) -> Option<Attempt> {
        let Work::Peer(request) = &task.work else {
            return None;
        };
        match request {
            PeerRequest::Allow {
                volume,
                held,
                turn,
                want,
                state,
            } => {
                let held = Allowance {
                    cap: *held,
                    turn: *turn,
                };
                let over = Over {
                    volume: *volume,
                    want: *want,
                };
                let state = *state;
                Some(self.serve_allow(task, over, held, state))
            }
            PeerRequest::Recall {
                volume,
                turn,
                state,
            } => {
                let (volume, turn, state) = (*volume, *turn, *state);
                Some(self.serve_recall(task, volume, turn, state))
            }
            _ => None,
        }
    }
}
