//! Quotas: whether a change may take place, by what this shard may use of each volume.
//!
//! A shard alone knows the whole usage. Among several, each may use up to its *allowance*; the owner
//! of the volume's root keeps the ledger (`core::ledger`) and hands out what is left. What must stay
//! true: allowances together never exceed the quota, so usage does not either; and a change is
//! refused only after every shard has given back what it does not use. What is prepared for a
//! transaction counts as used. Changes that free are never refused; what they free goes back to the
//! ledger, so that an allowance shrinks with it (else a volume above its quota could grow again), but
//! not before the change is flushed: a loss of power must not bring back what others use by then.

use std::collections::{BTreeMap, BTreeSet};

use super::attempt::Attempt;
use super::peers::{Outstanding, Purpose};
use super::task::{Task, TaskId, Waiting, Work};
use super::{Core, FlushWait, Halt, Job, World, Write};
use crate::meta::LogIndex;
use sealfs_protocol::manager::{Durability, Volume};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::usage::{Charge, Totals};
use sealfs_protocol::{Errno, VolumeId};

/// After a question for an allowance that could not be answered yet it is asked again, in ns.
const PAUSE_NS: u64 = 50_000_000;
/// So often a change waits for removals that are under way before it is refused.
pub(crate) const LATER_MAX: u8 = 200;

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
    /// What changes have freed that are not flushed yet.
    freeing: BTreeMap<LogIndex, Vec<(VolumeId, Totals)>>,
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
                *reserved = reserved.minus(less);
                if *reserved == Totals::default() {
                    self.reserved.remove(&charge.volume);
                }
            }
        }
    }

    /// A change has freed something of what was allowed `before`; it may be lost until `index` is
    /// flushed.
    fn free(&mut self, index: Option<LogIndex>, volume: VolumeId, less: Totals, before: Allowance) {
        let allowed = self.allowances.entry(volume).or_default();
        *allowed = before;
        match index {
            Some(index) => self.freeing.entry(index).or_default().push((volume, less)),
            None => allowed.cap = allowed.cap.minus(less),
        }
    }

    /// What was freed by changes up to `index`, which cannot be lost any more, is no longer allowed.
    pub fn flushed(&mut self, index: LogIndex) {
        while let Some(first) = self.freeing.first_entry()
            && *first.key() <= index
        {
            for (volume, less) in first.remove() {
                if let Some(known) = self.allowances.get_mut(&volume) {
                    known.cap = known.cap.minus(less);
                }
            }
        }
    }

    /// What changes have freed that may be lost.
    fn freeing(&self, volume: VolumeId) -> Totals {
        let all = self.freeing.values().flatten();
        let mine = all.filter(|(v, _)| *v == volume);
        mine.fold(Totals::default(), |sum, (_, freed)| sum.plus(*freed))
    }

    /// The last change that has freed something and may be lost.
    fn frees_until(&self, volume: VolumeId) -> Option<LogIndex> {
        let mut latest = self.freeing.iter().rev();
        let freed = latest.find(|(_, freed)| freed.iter().any(|(v, _)| *v == volume));
        freed.map(|(index, _)| *index)
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
            cap: known.cap.at_least(used),
            turn: known.turn,
        }
    }

    /// What it may use by itself: what it has freed it asks for again.
    fn usable(&self, volume: VolumeId) -> Totals {
        let cap = self.allowance(volume).cap;
        let left = cap.minus(self.quotas.freeing(volume));
        left.at_least(self.spoken_for(volume))
    }

    /// Gives back what is not used, nor was when the log was flushed last; what is left.
    pub(crate) fn give_back(&mut self, volume: VolumeId, turn: u64) -> Allowance {
        let used = self.spoken_for(volume);
        let kept = used.plus(self.quotas.freeing(volume));
        let cap = kept.at_most(self.allowance(volume).cap);
        let now = Allowance { cap, turn };
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
            let cap = if alone { quota } else { self.usable(volume) };
            if !fits(self.spoken_for(volume), more, cap) {
                return Err(Over { volume, want: more });
            }
        }
        Ok(())
    }

    /// What these writes free, and what was allowed before.
    pub(crate) fn freed_by(&self, writes: &[Write]) -> Vec<(VolumeId, Totals, Allowance)> {
        if !self.cluster.has_quotas() {
            return Vec::new();
        }
        let all = sums(writes.iter().map(Write::whole_charge));
        let freed = all.into_iter().map(|(volume, sum)| {
            let (bytes, inodes) = (-sum.bytes, -sum.inodes);
            let charge = Charge {
                volume,
                bytes,
                inodes,
            };
            (volume, growth(charge), self.allowance(volume))
        });
        freed.filter(|(_, f, _)| *f != Totals::default()).collect()
    }

    /// What was freed goes back to the ledger when it is flushed; at once where nothing is promised.
    pub(crate) fn free(&mut self, index: LogIndex, freed: Vec<(VolumeId, Totals, Allowance)>) {
        for (volume, less, before) in freed {
            let promises = self.cluster.durability(volume) != Durability::Memory;
            self.quotas
                .free(promises.then_some(index), volume, less, before);
        }
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
        if let Some(index) = self.quotas.frees_until(over.volume) {
            // That is there to be used again as soon as it cannot come back.
            task.waiting = Waiting::Flush;
            self.wait_for_flush(index, FlushWait::Task(task.id));
            return Attempt::Parked;
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

    /// Whether something of a volume is being freed: files without names are removed, or what was
    /// freed is not flushed. Somebody wants that: a flush that it waits for begins now.
    pub(crate) fn hurry_removals(&mut self, volume: VolumeId) -> bool {
        let reaps = |t: &&Task| matches!(t.work, Work::Job(Job::Reap(_)));
        let freeing = self.quotas.freeing(volume) != Totals::default();
        let mut removals = self.tasks.values().filter(reaps);
        if freeing || removals.any(|t| t.waiting == Waiting::Flush) {
            self.flush_wanted = true;
        }
        freeing
            || self.tasks.values().any(|t| reaps(&t))
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
