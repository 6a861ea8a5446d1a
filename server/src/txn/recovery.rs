//! Transactions whose other side has gone silent, or whose own shard was restarted.
//!
//! A participant asks the coordinator (`coordinator`) what became of a transaction; a shard that comes
//! up takes from its log what it had prepared and what it had decided, and tells the decisions again.
//! What must stay true: what was prepared holds its keys and its quota until the outcome is known,
//! before anything else is served.

use super::{Coordinated, Participant};
use crate::core::peers::Purpose;
use crate::core::{Core, World};
use crate::meta::db::{Db, Key};
use crate::records::{Record, TxnRecord, partition_of_key};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{ShardId, TxnId};

/// A coordinator that says nothing for this long is asked for the outcome, in ns.
const SILENCE_NS: u64 = 1_000_000_000;

impl<W: World> Core<W> {
    /// A connection to this shard was lost, perhaps with all that it did: what became of its
    /// transactions is asked now, since others wait for the keys that they hold here.
    pub(crate) fn doubt_coordinator(&mut self, shard: ShardId) {
        for known in self.participants.values_mut() {
            if known.coordinator == shard {
                known.heard_ns = 0;
            }
        }
        self.ask_outcomes();
    }

    /// Coordinators that have been silent are asked, and tasks that still wait for keys on behalf
    /// of a transaction that is over find it gone.
    pub(crate) fn ask_outcomes(&mut self) {
        let now = self.now.mono_ns;
        let mut due = Vec::new();
        for (txn, known) in &mut self.participants {
            if now.saturating_sub(known.heard_ns) >= SILENCE_NS {
                known.heard_ns = now;
                due.push((*txn, known.coordinator));
            }
        }
        for (txn, coordinator) in due {
            let asked = self.outstanding.values();
            let mut asked = asked.filter(|o| o.purpose == Purpose::Outcome(txn));
            if asked.next().is_none() {
                let request = PeerRequest::Outcome { txn };
                self.send_peer(coordinator, request, &[], Purpose::Outcome(txn));
            }
        }
    }

    pub(crate) fn on_outcome(&mut self, txn: TxnId, reply: &PeerReply) {
        if let PeerReply::Outcome { commit } = reply {
            self.settle(txn, *commit);
        }
    }

    /// Takes up transactions of an earlier life, on both sides.
    pub(crate) fn recover_transactions(&mut self) {
        let end = Key::from_slice(&[0xff; 3]);
        let found = match self.meta.scan(Db::Txn, &[], &end, usize::MAX) {
            Ok(found) => found,
            Err(error) => return log::error!("transactions cannot be read: {error}"),
        };
        for (name, value) in found {
            let (Some(partition), Some(id)) = (partition_of_key(&name), name.get(2..18)) else {
                continue;
            };
            let txn = TxnId(u128::from_be_bytes(id.try_into().unwrap_or_default()));
            match TxnRecord::decode(&value) {
                Ok(TxnRecord::Committed { participants }) => {
                    let open = participants;
                    let decided = Coordinated { open, partition };
                    self.coordinated.insert(txn, decided);
                }
                Ok(TxnRecord::Prepared {
                    coordinator,
                    age,
                    effects,
                }) => {
                    for effect in &effects {
                        if let Ok(db) = Db::try_from(effect.db) {
                            let key = Key::from_slice(&effect.key);
                            self.locks.claim(txn, age, db, &key);
                            self.locks.prepare(txn, db, &key);
                        }
                    }
                    self.quotas.reserve(effects.iter().map(|e| e.charge));
                    let known = Participant {
                        coordinator,
                        age,
                        effects,
                        prepared: true,
                        flush: true,
                        heard_ns: 0,
                    };
                    self.participants.insert(txn, known);
                }
                Err(_) => log::error!("the record of transaction {txn} is damaged"),
            }
        }
    }

    /// Repeats the decisions of an earlier life.
    pub(crate) fn repeat_decisions(&mut self) {
        let open = self.coordinated.iter();
        let open: Vec<(TxnId, Vec<ShardId>)> = open.map(|(t, c)| (*t, c.open.clone())).collect();
        for (txn, shards) in open {
            for shard in shards {
                let request = PeerRequest::Decide { txn, commit: true };
                self.send_peer(shard, request, &[], Purpose::Decide(txn));
            }
        }
    }
}
