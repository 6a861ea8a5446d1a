//! What the keeper asks of a cluster, so that its tests can put something simpler there.

use sealfs_client::Standing;
use sealfs_client::node::arena::ManagerIndex;
use sealfs_protocol::message::LockMark;
use sealfs_protocol::{ClientId, Errno, InodeId, OpenId, SessionId, VolumeId};
use std::sync::Arc;

/// One open file description.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct File {
    pub ino: InodeId,
    pub open: OpenId,
}

/// A description, and whether it stands to execute the file.
pub type Known = (File, bool);

/// A program image of a process, which another has followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Image {
    pub client: ClientId,
    pub pid: u32,
    /// Which it was: see [`sealfs_client::node::Registration::image`].
    pub image: u32,
}

/// What servers that have restarted were told, and what they said.
#[derive(Default)]
pub struct Retold {
    /// Of the locks of a description: intact at that time, or lost.
    pub judged: Vec<(File, Option<LockMark>)>,
    pub open: Vec<File>,
}

/// A volume of a cluster, as the keeper uses it. EIO stands for "not now": try again.
pub trait Cluster: Send + Sync {
    fn renew(&self, session: SessionId) -> Result<(), Errno>;
    /// The sockets to its servers that are open now, for who alone uses this link.
    fn sockets(&self) -> Vec<i32> {
        Vec::new()
    }
    fn end_session(&self, session: SessionId) -> Result<(), Errno>;
    fn end_client(&self, client: ClientId) -> Result<(), Errno>;
    /// The record locks on a file go that a program image has left behind.
    fn drop_record_locks(&self, of: Image, ino: InodeId) -> Result<(), Errno>;
    fn close(&self, file: File) -> Result<(), Errno>;
    /// Bytes may lie behind the end of a file that nobody will publish.
    fn doubt(&self, ino: InodeId) -> Result<(), Errno>;
    /// A program's description is not read from any more.
    fn give_back(&self, file: File);
    /// The description exists (still, or as one more of an inode that is open); `executes`: nobody
    /// opens the file for writing meanwhile.
    fn reassert(&self, file: File, executes: bool) -> Result<(), Errno>;
    /// Makes sure that every server still knows what is open in the session: one that restarted is
    /// told. `open` is asked only when a server is known to wait: nothing that was opened before its
    /// restart is missing then. What was told goes to `told`, also if not all servers were reached.
    fn keep_known(
        &self,
        session: SessionId,
        open: &dyn Fn() -> Vec<Standing>,
        told: &mut Retold,
    ) -> Result<(), Errno>;
    /// Size in bytes.
    fn size(&self, file: File) -> Result<u64, Errno>;
    /// The first byte from `offset` on that is data (`data`) or in a hole, the end of the file
    /// being one; ENXIO if there is none.
    fn seek(&self, file: File, offset: u64, data: bool) -> Result<u64, Errno>;
    fn read(&self, file: File, offset: u64, into: &mut [u8]) -> Result<usize, Errno>;
    fn write(&self, file: File, offset: u64, bytes: &[u8]) -> Result<usize, Errno>;
}

/// All clusters that the processes of this node use.
pub trait Clusters: Send + Sync {
    /// A volume; with `None` any volume of the cluster, where one is as good as another.
    fn get(
        &self,
        manager: ManagerIndex,
        volume: Option<VolumeId>,
    ) -> Result<Arc<dyn Cluster>, Errno>;
    /// The link for the session if there is one already.
    fn get_made(&self, manager: ManagerIndex) -> Option<Arc<dyn Cluster>> {
        self.get(manager, None).ok()
    }
    /// The session is another one: everything is reached anew.
    fn begin_again(&self);
    /// Ends the keeper's own clients.
    fn end(&self);
}
