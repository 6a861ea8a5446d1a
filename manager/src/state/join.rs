//! Servers that report themselves: who is a member, who may become one, who is refused.
//!
//! What must stay true: one store is served by one process and one name means one server, as far
//! as can be known; an emptied or foreign store never takes the place of one with files; members
//! join only while no volume has been created.

use super::{
    ADDRESS_MAX_BYTES, ADDRESSES_MAX, Applied, Durable, MEMBERS_MAX, Member, PeerId, Registry,
};
use crate::names::check_name;
use sealfs_protocol::manager::{ManagerReply, SERVER_SILENT_MS, Usage, VolumeUse};
use sealfs_protocol::{ClusterId, ShardId};

/// What is known of a member's process since this manager started.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub heard_ms: u64,
    pub peer: PeerId,
    pub connected: bool,
    /// Heartbeats that came over `peer`.
    pub beats: u32,
    pub usage: Usage,
    pub volumes: Vec<VolumeUse>,
    /// Version of the state that it works by.
    pub known: u64,
}

impl Live {
    /// Whether the process last heard of must be taken for alive: it spoke lately, and unless it
    /// keeps one connection for its heartbeats nothing else can be known. The kernel closes the
    /// connection of a killed process at once.
    fn is_alive(&self, now_ms: u64) -> bool {
        let lately = now_ms.saturating_sub(self.heard_ms) < SERVER_SILENT_MS;
        lately && (self.connected || self.beats < 2)
    }
}

/// A server's report of itself.
pub(super) struct Beat {
    pub cluster: Option<ClusterId>,
    pub name: String,
    pub store: u128,
    pub shard: Option<ShardId>,
    pub addresses: Vec<String>,
    pub weight: u32,
    pub usage: Usage,
    pub volumes: Vec<VolumeUse>,
    pub known: u64,
}

impl Registry {
    pub(super) fn heartbeat(
        &mut self,
        beat: Beat,
        peer: PeerId,
        now_ms: u64,
    ) -> Result<Applied, String> {
        self.check_beat(&beat)?;
        let found = self
            .durable
            .members
            .iter()
            .position(|m| m.store == beat.store);
        let next = match found {
            Some(at) => self.known_member(at, &beat, peer, now_ms)?,
            None => Some(self.new_member(&beat, now_ms)?),
        };
        let state = next.as_ref().unwrap_or(&self.durable);
        let member = state.members.iter().find(|m| m.store == beat.store);
        let shard = member.map_or(ShardId(0), |m| m.shard);
        let reply = ManagerReply::Welcome {
            cluster: state.cluster(),
            shard,
            state: (beat.known != state.version).then(|| state.published()),
        };
        let before = self.live.get(&shard).filter(|l| l.peer == peer);
        let beats = 1 + before.map_or(0, |l| l.beats);
        self.live.insert(
            shard,
            Live {
                beats,
                heard_ms: now_ms,
                peer,
                connected: true,
                usage: beat.usage,
                volumes: beat.volumes,
                known: beat.known,
            },
        );
        Ok(Applied { reply, next })
    }

    fn check_beat(&self, beat: &Beat) -> Result<(), String> {
        check_name("server", &beat.name)?;
        let own = self.durable.cluster();
        if let Some(other) = beat.cluster.filter(|c| *c != own) {
            return Err(format!(
                "{}: its store belongs to cluster {other}, this manager serves cluster {own}: point \
                 the server at its own manager, or give it an empty meta_dir and data store",
                beat.name
            ));
        }
        let fits = |a: &String| {
            a.len() <= ADDRESS_MAX_BYTES && a.contains("://") && !a.contains(char::is_whitespace)
        };
        if beat.addresses.is_empty()
            || beat.addresses.len() > ADDRESSES_MAX
            || !beat.addresses.iter().all(fits)
        {
            return Err(format!(
                "{}: a server reports 1 to {ADDRESSES_MAX} addresses such as tcp://127.0.0.1:4711",
                beat.name
            ));
        }
        Ok(())
    }

    /// A store that is a member already: nothing changes unless its name, address or weight did.
    fn known_member(
        &self,
        at: usize,
        beat: &Beat,
        peer: PeerId,
        now_ms: u64,
    ) -> Result<Option<Durable>, String> {
        let member = &self.durable.members[at];
        if let Some(shard) = beat.shard.filter(|s| *s != member.shard) {
            return Err(format!(
                "{}: its store says shard {shard}, the cluster knows it as shard {}: its meta_dir \
                 and data store are of different servers, put the right ones together",
                beat.name, member.shard
            ));
        }
        let live = self.live.get(&member.shard);
        if let Some(live) = live.filter(|l| l.peer != peer && l.is_alive(now_ms))
            && member.addresses != beat.addresses
        {
            return Err(format!(
                "{}: its store is served by {} at {}, heard of {} ms ago: stop that server first",
                beat.name,
                member.name,
                member.addresses.join(" "),
                now_ms - live.heard_ms
            ));
        }
        if member.name != beat.name
            && let Some(other) = self.durable.members.iter().find(|m| m.name == beat.name)
        {
            return Err(format!(
                "{}: shard {} already has this name: give one of them another name",
                beat.name, other.shard
            ));
        }
        let same = (&member.name, &member.addresses, member.weight)
            == (&beat.name, &beat.addresses, beat.weight);
        if same {
            return Ok(None);
        }
        let mut next = self.durable.clone();
        let member = &mut next.members[at];
        member.name.clone_from(&beat.name);
        member.addresses.clone_from(&beat.addresses);
        // Another weight would move partitions; it counts while the cluster forms.
        if self.durable.is_forming() {
            member.weight = beat.weight;
        } else if (&member.name, &member.addresses)
            == (
                &self.durable.members[at].name,
                &self.durable.members[at].addresses,
            )
        {
            return Ok(None);
        }
        next.reshape_ring();
        Ok(Some(next))
    }

    /// A store that the cluster has not seen: a new member while the cluster forms.
    fn new_member(&self, beat: &Beat, now_ms: u64) -> Result<Durable, String> {
        let own = self.durable.cluster();
        if beat.cluster.is_some() || beat.shard.is_some() {
            return Err(format!(
                "{}: its store says it is of cluster {own}, which does not know it: start the \
                 manager on the state it had, or give the server an empty meta_dir and data store",
                beat.name
            ));
        }
        let namesake = self.durable.members.iter().find(|m| m.name == beat.name);
        if let Some(member) = namesake {
            let live = self.live.get(&member.shard);
            if live.is_some_and(|l| l.is_alive(now_ms)) {
                return Err(format!(
                    "{}: a server of this name is alive at {}: give the new one another name",
                    beat.name,
                    member.addresses.join(" ")
                ));
            }
            if !self.durable.is_forming() {
                return Err(format!(
                    "{}: its store is empty, but the files of the server of this name are in \
                     another one: start it on the meta_dir and data store it had",
                    beat.name
                ));
            }
        }
        if !self.durable.is_forming() {
            return Err(format!(
                "{}: cluster {own} has volumes and cannot spread them over a new server: start \
                 all servers before the first volume is created",
                beat.name
            ));
        }
        if namesake.is_none() && self.durable.members.len() >= MEMBERS_MAX {
            return Err(format!(
                "{}: the cluster has {MEMBERS_MAX} servers, the most",
                beat.name
            ));
        }
        let mut next = self.durable.clone();
        next.members.retain(|m| m.name != beat.name);
        next.members.push(Member {
            name: beat.name.clone(),
            store: beat.store,
            shard: next.next_shard,
            addresses: beat.addresses.clone(),
            weight: beat.weight,
        });
        next.next_shard = ShardId(next.next_shard.0 + 1);
        next.reshape_ring();
        Ok(next)
    }
}
