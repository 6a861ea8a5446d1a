//! Raising a volume's rename version, by the owner of its root: logged first, then pushed to every
//! shard; whoever asked for it waits for the pushes, or until their leases have run out.

use crate::core::{MemoryChange, OpResult, View, World};
use crate::meta::db::{Db, key};
use crate::records::{VERSION_PART, VersionRecord};
use sealfs_protocol::peer::{PeerReply, PeerRequest};
use sealfs_protocol::{Errno, InodeId, RenameVersion, VolumeId};

pub fn bump<V: World>(
    v: &mut View<V>,
    volume: VolumeId,
    directories: &[InodeId],
) -> OpResult<PeerReply> {
    let root = v.cluster.root(volume);
    let partition = root.partition();
    if v.stage() == 0 {
        let key = key::part(partition, root, VERSION_PART);
        let record: VersionRecord = v.read(Db::Part, &key)?.ok_or(Errno::ENOENT)?;
        let version = RenameVersion(record.version.0 + 1);
        v.put(partition, Db::Part, key, &VersionRecord { version });
        let change = MemoryChange::Version(volume, version, directories.to_vec());
        v.remember(change);
        v.next_stage(version.0);
        return Ok(PeerReply::Acknowledged);
    }
    let push = PeerRequest::PushRenameVersion {
        volume,
        version: RenameVersion(v.stage()),
        directories: directories.to_vec(),
    };
    let others: Vec<_> = v.cluster.others().collect();
    let questions = others.into_iter().map(|s| (Some(s), push.clone(), 0..0));
    v.ask_shards(questions.collect())?;
    Ok(PeerReply::Acknowledged)
}
