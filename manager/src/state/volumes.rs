//! Volumes: making, changing and deleting them, and what the servers say they take.
//!
//! What must stay true: a volume is its id, which is never used again; its name may change. One that
//! programs use, or of which that cannot be known, is deleted only by force.

use super::{Applied, DELETED_MAX, Registry, VOLUMES_MAX};
use crate::names::check_name;
use sealfs_protocol::VolumeId;
use sealfs_protocol::limits::{CHUNK_SIZE_LOG2, CHUNK_SIZE_LOG2_DEFAULT, WIDTH_DEFAULT, WIDTH_MAX};
use sealfs_protocol::manager::{
    ManagerReply, SERVER_SILENT_MS, Volume, VolumeChange, VolumeStatus, VolumeUse,
};
use sealfs_protocol::usage::Totals;

impl Registry {
    pub(super) fn create_volume(&self, mut volume: Volume) -> Result<Applied, String> {
        self.check_new_name(&volume.name)?;
        let state = &self.durable;
        if state.members.is_empty() {
            return Err(format!(
                "volume {}: the cluster has no server yet: start a sealfs-server first",
                volume.name
            ));
        }
        if state.volumes.len() >= VOLUMES_MAX {
            return Err(format!(
                "the cluster has {VOLUMES_MAX} volumes, the most: delete one first"
            ));
        }
        let layout = &mut volume.layout;
        if layout.chunk_size_log2 == 0 {
            layout.chunk_size_log2 = CHUNK_SIZE_LOG2_DEFAULT;
        }
        if layout.width == 0 {
            layout.width = WIDTH_DEFAULT;
        }
        if !CHUNK_SIZE_LOG2.contains(&layout.chunk_size_log2) || layout.width > WIDTH_MAX {
            return Err(format!(
                "volume {}: chunks are a power of two from 64 KiB to 64 MiB, in 1 to {WIDTH_MAX} \
                 places",
                volume.name
            ));
        }
        let mut next = state.clone();
        volume.id = next.next_volume;
        volume.root_mode &= 0o7777;
        next.next_volume = VolumeId(next.next_volume.0 + 1);
        next.volumes.push(volume.clone());
        next.version += 1;
        Ok(Applied {
            reply: ManagerReply::Volume(volume),
            next: Some(next),
        })
    }

    fn check_new_name(&self, name: &str) -> Result<(), String> {
        check_name("volume", name)?;
        if self.durable.volumes.iter().any(|v| v.name == name) {
            return Err(format!("volume {name} exists already: choose another name"));
        }
        Ok(())
    }

    fn position(&self, name: &str) -> Result<usize, String> {
        let mut volumes = self.durable.volumes.iter();
        volumes.position(|v| v.name == name).ok_or_else(|| {
            format!("volume {name} does not exist: `sealfs volume list` shows those that do")
        })
    }

    pub(super) fn change_volume(
        &self,
        name: &str,
        change: VolumeChange,
    ) -> Result<Applied, String> {
        let at = self.position(name)?;
        let mut changed = self.durable.volumes[at].clone();
        if let Some(new) = change.name.filter(|new| *new != changed.name) {
            self.check_new_name(&new)?;
            changed.name = new;
        }
        changed.quota_bytes = change.quota_bytes.unwrap_or(changed.quota_bytes);
        changed.quota_inodes = change.quota_inodes.unwrap_or(changed.quota_inodes);
        changed.read_only = change.read_only.unwrap_or(changed.read_only);
        let reply = ManagerReply::Volume(changed.clone());
        if changed == self.durable.volumes[at] {
            return Ok(Applied::reply(reply));
        }
        let mut next = self.durable.clone();
        next.volumes[at] = changed;
        next.version += 1;
        let next = Some(next);
        Ok(Applied { reply, next })
    }

    pub(super) fn delete_volume(
        &self,
        name: &str,
        force: bool,
        now_ms: u64,
    ) -> Result<Applied, String> {
        let at = self.position(name)?;
        if !force {
            self.check_unused(&self.durable.volumes[at], now_ms)?;
        }
        let mut next = self.durable.clone();
        let gone = next.volumes.remove(at);
        next.deleted.push(gone.id);
        if next.deleted.len() > DELETED_MAX {
            next.deleted.remove(0);
        }
        next.version += 1;
        Ok(Applied {
            reply: ManagerReply::Done,
            next: Some(next),
        })
    }

    fn check_unused(&self, volume: &Volume, now_ms: u64) -> Result<(), String> {
        let name = &volume.name;
        let clients = self.clients(volume.id);
        if clients > 0 {
            return Err(format!(
                "volume {name} is in use by {clients} programs: end them, or say --force to take it \
                 from them"
            ));
        }
        match self.silent(now_ms).first() {
            Some(server) => Err(format!(
                "volume {name}: server {server} is silent and may serve programs that use it: start \
                 it, or say --force"
            )),
            None => Ok(()),
        }
    }

    /// What each server that was heard of has of a volume.
    fn shares(&self, volume: VolumeId) -> impl Iterator<Item = &VolumeUse> {
        let all = self.live.values().flat_map(|l| &l.volumes);
        all.filter(move |share| share.volume == volume)
    }

    /// A program is connected to several servers: the most that one has.
    fn clients(&self, volume: VolumeId) -> u32 {
        self.shares(volume).map(|s| s.clients).max().unwrap_or(0)
    }

    /// Members that have not been heard of lately.
    fn silent(&self, now_ms: u64) -> Vec<String> {
        let members = self.durable.members.iter();
        let silent = members.filter(|m| {
            let heard = self.live.get(&m.shard).map(|l| l.heard_ms);
            heard.is_none_or(|at| now_ms.saturating_sub(at) >= SERVER_SILENT_MS)
        });
        silent.map(|m| m.name.clone()).collect()
    }

    pub(super) fn volumes(&self, now_ms: u64) -> ManagerReply {
        let show = |volume: &Volume| {
            let shares = self.shares(volume.id);
            VolumeStatus {
                volume: volume.clone(),
                used: shares.fold(Totals::default(), |sum, s| sum.plus(s.used)),
                clients: self.clients(volume.id),
            }
        };
        let silent = self.silent(now_ms);
        let members = self.durable.members.iter();
        let behind = members.filter(|m| {
            let known = self.live.get(&m.shard).map_or(0, |l| l.known);
            known < self.durable.version && !silent.contains(&m.name)
        });
        ManagerReply::Volumes {
            volumes: self.durable.volumes.iter().map(show).collect(),
            behind: behind.map(|m| m.name.clone()).collect(),
            silent,
        }
    }
}
