//! What goes into the core and what comes out: the alphabet of `step(event, now) -> actions`.
//!
//! The core never blocks, reads no clock and starts no thread; whatever takes time leaves as an
//! [`Action`] and comes back as an [`Event`]. The runtime carries both over sockets and threads,
//! the simulator in whatever order it likes.

use crate::env::{BlockDevice, Kv};
use crate::meta::{CommitDone, CommitJob, FlushDone, FlushJob, Retired};
use sealfs_protocol::header::Header;
use sealfs_protocol::manager::ClusterState;
use sealfs_protocol::{Errno, ShardId};

/// The concrete types of a shard's world, named once, in `main.rs` and in tests.
pub trait World: 'static {
    type Kv: Kv;
    type Device: BlockDevice;

    /// Whether a shard is to make this mistake. Only the simulator says yes, to see that its checks
    /// notice; elsewhere the question is a constant and leaves no code.
    fn plants(_fault: Fault) -> bool {
        false
    }
}

/// A mistake that the simulator can plant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A participant votes yes and logs nothing.
    SkipPrepareRecord,
    /// A request that was executed is executed again.
    ApplyDuplicate,
    /// A participant reads the first of several keys without locking it.
    ForgetKey,
    /// A participant gives its locks back with its vote.
    ReleaseEarly,
    /// A directory that is split does not tell its parts of the first of their originals.
    ForgetOriginal,
}

/// The moment of a step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Monotonic, from an arbitrary start, in ns.
    pub mono_ns: u64,
    /// Since 1970, in ns; what files are stamped with.
    pub wall_ns: i64,
}

/// A connection of the runtime; never used twice in one process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct ConnId(pub u64);

pub enum Event<'a> {
    /// A frame that a client, a keeper or another shard has sent here.
    Frame {
        conn: ConnId,
        header: &'a Header,
        body: &'a [u8],
        payload: &'a [u8],
    },
    /// A reply of another shard to an [`Action::Peer`].
    PeerReply {
        from: ShardId,
        header: &'a Header,
        body: &'a [u8],
        payload: &'a [u8],
    },
    /// A connection to another shard stands (again): what was under way is to be sent again.
    PeerUp(ShardId),
    Disconnected(ConnId),
    /// The manager has published something newer.
    State(ClusterState),
    FlushDone(FlushDone),
    CommitDone(CommitDone),
    /// Time has passed; also after every batch of frames.
    Tick,
}

pub enum Action<W: World> {
    /// To be sent once [`super::Core::finish_batch`] has returned.
    Reply {
        conn: ConnId,
        header: Header,
        body: Vec<u8>,
        payload: Vec<u8>,
    },
    /// A request waits for a file lock: it holds no credit meanwhile.
    Park(ConnId),
    /// The reply to a parked request follows.
    Unpark(ConnId),
    /// The peer broke the rules: close after what was queued for it.
    Close(ConnId),
    /// A request to another shard; dropped if it cannot be reached, since the core repeats it.
    Peer {
        shard: ShardId,
        header: Header,
        body: Vec<u8>,
        payload: Vec<u8>,
    },
    /// Ask the manager for a newer state now.
    FetchState,
    Flush(FlushJob<W::Device>),
    Commit(CommitJob<W::Kv>),
    /// To be dropped on the commit thread.
    Retire(Retired),
}

/// Why an operation cannot end now. Nothing that it did stays, it is run again from its start.
#[derive(Debug)]
pub enum Halt {
    Errno(Errno),
    Refused(sealfs_protocol::message::Refusal),
    /// The path leads away from here: also an answer.
    Walked(sealfs_protocol::message::Walked),
    /// Something must come from other shards first; the view says what.
    Need,
    /// A key is held by another transaction.
    Key(crate::meta::db::Db, crate::meta::db::Key),
    /// A file lock is in the way.
    FileLock,
    /// Not everybody has told yet what locks were held before this shard lost some.
    Grace,
    /// What this shard has logged so far must be durable first; at once if somebody waits.
    Flush {
        hurry: bool,
    },
    /// The log, the overlay or the range of inode numbers is used up until the next flush.
    Room,
}

impl From<Errno> for Halt {
    fn from(errno: Errno) -> Halt {
        Halt::Errno(errno)
    }
}

impl From<crate::store::StoreError> for Halt {
    fn from(error: crate::store::StoreError) -> Halt {
        let errno = error.errno();
        if errno == Errno::EAGAIN {
            return Halt::Room;
        }
        if errno == Errno::EIO {
            log::error!("store: {error}");
        }
        Halt::Errno(errno)
    }
}

pub type OpResult<T> = Result<T, Halt>;
