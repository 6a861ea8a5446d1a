//! Quotas: whether a change may take place, by what this shard may use of each volume.
//!
//! A shard alone knows the whole usage. Among several, each may use up to its *allowance*; the owner
//! of the volume's root keeps the ledger (`core::ledger`) and hands out what is left. What must stay
//! true: allowances together never exceed the quota, so usage does not either; and a change is
//! refused only after every shard has given back what it does not use. What is prepared for a
//! transaction counts as used. Changes that free are never refused; what they free goes back to the
//! ledger, so that an allowance shrinks with it (else a volume above its quota could grow again).

use std::collections::{BTreeMap, BTreeSet};

use super::attempt::Attempt;
use super::peers::{Outstanding, Purpose};
use super::task::{Task, TaskId, Waiting, Work};
use super::{Core, Halt, Job, World, Write};
use sealfs_protocol::manager::Volume;
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::usage::{Charge, Totals};
use sealfs_protocol::{Errno, VolumeId};

/// After a question for an allowance that could not be answered yet it is asked again, in ns.
const PAUSE_NS: u64 = 50_000_000;
/// So often a change waits for removals that are under way before it is refused.
pub(crate) const LATER_MAX: u8 = 40;

/// What this shard may use of a volume, and since which turn of the ledger's keeper.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Allowance {
    pub cap: Totals,
    pub turn: u64,
}

#[derive(Default)]
pub(crate) struct Quotas {
    allowances: BTreeMap<VolumeId, Allowance>,
    /// What prepared transactions will use.
    reserved: BTreeMap<VolumeId, Totals>,
}

/// A volume that has not room enough for a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Over {
    pub volume: VolumeId,
    pub want: Totals,
}

/// The growth in a charge; what it frees counts when it is freed.
fn growth(charge: Charge) -> Totals {
    Totals {
        bytes: charge.bytes.max(0).unsigned_abs(),
        inodes: charge.inodes.max(0).unsigned_abs(),
    }
}

/// Charges added up by volume.
fn sums(charges: impl Iterator<Item = Charge>) -> BTreeMap<VolumeId, Charge> {
    let mut sums: BTreeMap<VolumeId, Charge> = BTreeMap::new();
    for charge in charges.filter(|c| !c.is_nothing()) {
        let sum = sums.entry(charge.volume).or_default();
        sum.bytes += charge.bytes;
        sum.inodes += charge.inodes;
    }
    sums
}

/// Whether `used` and `more` stay within `limit` wherever `more` is anything.
pub(crate) fn fits(used: Totals, more: Totals, limit: Totals) -> bool {
    let within = |used: u64, more: u64, limit: u64| more == 0 || used.saturating_add(more) <= limit;
    within(used.bytes, more.bytes, limit.bytes) && within(used.inodes, more.inodes, limit.inodes)
}

/// A volume's quota; no limit is the largest number. `None`: no limit at all.
pub(crate) fn limit_of(volume: &Volume) -> Option<Totals> {
    let limit = |quota: u64| if quota == 0 { u64::MAX } else { quota };
    let limited = volume.quota_bytes != 0 || volume.quota_inodes != 0;
    limited.then(|| Totals {
        bytes: limit(volume.quota_bytes),
        inodes: limit(volume.quota_inodes),
    })
}

impl Quotas {
    pub fn reserve(&mut self, charges: impl Iterator<Item = Charge>) {
        for charge in charges {
            let more = growth(charge);
            if more != Totals::default() {
                let reserved = self.reserved.entry(charge.volume).or_default();
                *reserved = reserved.plus(more);
            }
        }
    }

    pub fn release(&mut self, charges: impl Iterator<Item = Charge>) {
        for charge in charges {
            let less = growth(charge);
            if let Some(reserved) = self.reserved.get_mut(&charge.volume) {
                reserved.bytes = reserved.bytes.saturating_sub(less.bytes);
                reserved.inodes = reserved.inodes.saturating_sub(less.inodes);
                if *reserved == Totals::default() {
                    self.reserved.remove(&charge.volume);
                }
            }
        }
    }

    /// What was freed is no longer allowed.
    pub fn shrink(&mut self, freed: &[(VolumeId, Totals)]) {
        for (volume, less) in freed {
            if let Some(known) = self.allowances.get_mut(volume) {
                known.cap.bytes = known.cap.bytes.saturating_sub(less.bytes);
                known.cap.inodes = known.cap.inodes.saturating_sub(less.inodes);
            }
        }
    }

    fn reserved(&self, volume: VolumeId) -> Totals {
        self.reserved.get(&volume).copied().unwrap_or_default()
    }

    /// Forgets volumes that are gone.
    pub fn retain(&mut self, exists: impl Fn(VolumeId) -> bool) {
        self.allowances.retain(|volume, _| exists(*volume));
    }
}

impl<W: World> Core<W> {
    /// What of a volume is used here, or will be by prepared transactions.
    fn spoken_for(&self, volume: VolumeId) -> Totals {
        let used = self.meta.usage(volume);
        used.plus(self.quotas.reserved(volume))
    }

    /// What this shard may use; nothing more than it does as long as nobody has allowed more.
    pub(crate) fn allowance(&self, volume: VolumeId) -> Allowance {
        let known = self.quotas.allowances.get(&volume);
        let known = known.copied().unwrap_or_default();
        let used = self.spoken_for(volume);
        Allowance {
            cap: Totals {
                bytes: known.cap.bytes.max(used.bytes),
                inodes: known.cap.inodes.max(used.inodes),
            },
            turn: known.turn,
        }
    }

    /// Gives back what is not used; what is left.
    pub(crate) fn give_back(&mut self, volume: VolumeId, turn: u64) -> Allowance {
        let now = Allowance {
            cap: self.spoken_for(volume),
            turn,
        };
        if turn > self.allowance(volume).turn {
            self.quotas.allowances.insert(volume, now);
        }
        self.allowance(volume)
    }

    pub(crate) fn take_allowance(&mut self, volume: VolumeId, given: Allowance) {
        if given.turn > self.allowance(volume).turn {
            self.quotas.allowances.insert(volume, given);
        }
    }

    /// Quotas have changed: what was allowed under others is void.
    pub(crate) fn void_allowances(&mut self, volumes: &BTreeSet<VolumeId>) {
        for volume in volumes {
            if let Some(known) = self.quotas.allowances.get_mut(volume) {
                known.cap = Totals::default();
            }
        }
    }

    /// Whether all that these writes of this shard add is within what this shard may use.
    /// `expected`: bytes that fallocate(2) is promised besides.
    pub(crate) fn check_quota<'w>(
        &self,
        writes: impl Iterator<Item = &'w Write>,
        expected: Option<Charge>,
    ) -> Result<(), Over> {
        if !self.cluster.has_quotas() {
            return Ok(());
        }
        let mine = writes.filter(|w| self.cluster.is_mine(w.partition));
        self.check_charges(mine.map(Write::whole_charge).chain(expected))
    }

    pub(crate) fn check_charges(&self, charges: impl Iterator<Item = Charge>) -> Result<(), Over> {
        for (volume, sum) in sums(charges) {
            let limit = self.cluster.volume(volume).and_then(limit_of);
            let more = growth(sum);
            let (Some(quota), true) = (limit, more != Totals::default()) else {
                continue;
            };
            let alone = self.cluster.others().next().is_none();
            let cap = if alone {
                quota
            } else {
                self.allowance(volume).cap
            };
            if !fits(self.spoken_for(volume), more, cap) {
                return Err(Over { volume, want: more });
            }
        }
        Ok(())
    }

    /// What these writes free, to be taken from the allowances when they are in the log.
    pub(crate) fn freed_by(&self, writes: &[Write]) -> Vec<(VolumeId, Totals)> {
        if !self.cluster.has_quotas() {
            return Vec::new();
        }
        let all = sums(writes.iter().map(Write::whole_charge));
        let freed = all.into_iter().map(|(volume, sum)| {
            let (bytes, inodes) = (-sum.bytes, -sum.inodes);
            let freed = growth(Charge {
                volume,
                bytes,
                inodes,
            });
            (volume, freed)
        });
        freed.filter(|(_, f)| *f != Totals::default()).collect()
    }

    /// A change has not room enough: it is refused, or waits until the keeper of the ledger has
    /// answered, and runs again.
    pub(crate) fn over_quota(&mut self, task: &mut Task, over: Over) -> Attempt {
        if let Work::Job(Job::Reap(_) | Job::Truncate(_)) = task.work {
            log::error!("volume {}: freeing space takes some", over.volume);
        }
        let alone = self.cluster.others().next().is_none();
        if alone || std::mem::take(&mut task.denied) {
            return self.halted(task, Halt::Errno(Errno::EDQUOT), Vec::new(), &[]);
        }
        let root = self.cluster.root(over.volume);
        let held = self.allowance(over.volume);
        let Some(keeper) = self.cluster.owner(root.partition()) else {
            return self.halted(task, Halt::Errno(Errno::EIO), Vec::new(), &[]);
        };
        if keeper == self.cluster.shard {
            return self.allow_here(task, over, held);
        }
        let request = PeerRequest::Allow {
            volume: over.volume,
            held: held.cap,
            turn: held.turn,
            want: over.want,
            state: self.cluster.version,
        };
        task.waiting = Waiting::Allowance;
        self.send_peer(keeper, request, &[], Purpose::Allow(task.id));
        Attempt::Parked
    }

    /// Whether files without names are being removed, which frees what they take. Somebody wants
    /// that: a flush that the removals wait for begins now.
    pub(crate) fn hurry_removals(&mut self) -> bool {
        let reaps = |t: &&Task| matches!(t.work, Work::Job(Job::Reap(_)));
        let mut removals = self.tasks.values().filter(reaps);
        if removals.any(|t| t.waiting == Waiting::Flush) {
            self.flush_wanted = true;
        }
        self.tasks.values().any(|t| reaps(&t))
            || self.jobs.iter().any(|j| matches!(j, Job::Reap(_)))
    }

    /// Runs a task again when removals have had some time.
    pub(crate) fn ask_later(&mut self, task: &mut Task) {
        let at = self.now.mono_ns + PAUSE_NS;
        task.full += 1;
        task.waiting = Waiting::Until(at);
        self.timers.insert((at, task.id));
    }

    /// The keeper's answer to a task of this shard.
    pub(crate) fn on_allowed(&mut self, id: TaskId, what: &Outstanding, reply: &PeerReply) {
        let PeerRequest::Allow { volume, .. } = what.request else {
            return;
        };
        if let PeerReply::Allowed { cap, turn, .. } = *reply {
            self.take_allowance(volume, Allowance { cap, turn });
        }
        let at = self.now.mono_ns + PAUSE_NS;
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        if task.waiting != Waiting::Allowance {
            return;
        }
        match reply {
            PeerReply::Allowed { .. } => self.ready.push_back(id),
            PeerReply::Failed(Errno::EBUSY) if task.full < LATER_MAX => {
                task.full += 1;
                task.waiting = Waiting::Until(at);
                self.timers.insert((at, id));
            }
            PeerReply::Failed(Errno::EBUSY) => {
                task.denied = true;
                self.ready.push_back(id);
            }
            PeerReply::Failed(Errno::EDQUOT) => {
                task.denied = true;
                self.ready.push_back(id);
            }
            // Not known yet: asked again until the caller's deadline.
            _ => {
                task.waiting = Waiting::Until(at);
                self.timers.insert((at, id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(bytes: u64, inodes: u64) -> Totals {
        Totals { bytes, inodes }
    }

    #[test]
    fn only_what_grows_must_fit() {
        let limit = totals(100, 10);
        assert!(fits(totals(90, 5), totals(10, 0), limit));
        assert!(!fits(totals(90, 5), totals(11, 0), limit));
        // Over the inodes already, but it takes none.
        assert!(fits(totals(90, 50), totals(10, 0), limit));
        assert!(!fits(totals(0, 10), totals(0, 1), limit));
    }

    #[test]
    fn reservations_count_until_they_are_released() {
        let mut quotas = Quotas::default();
        let charge = |bytes| Charge {
            volume: VolumeId(1),
            bytes,
            inodes: 1,
        };
        quotas.reserve([charge(8), charge(-4)].into_iter());
        assert_eq!(quotas.reserved(VolumeId(1)), totals(8, 2));
        quotas.release([charge(8), charge(-4)].into_iter());
        assert_eq!(quotas.reserved(VolumeId(1)), totals(0, 0));
    }
}
