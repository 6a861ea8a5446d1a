//! What runs beside the shard's thread, as values: a flush of the devices, a commit to the index.
//!
//! The runtime runs each kind on a thread of its own, so that no fsync waits behind a commit; the
//! simulator runs them when it likes. At most one of each kind is under way.

use std::io;
use std::sync::Arc;

use super::log::LogIndex;
use super::overlay::Generation;
use crate::env::{BlockDevice, Kv, KvWriter};
use crate::store::{DeviceExtent, Region};

/// Makes the log durable up to an index, and the data that its entries name.
pub struct FlushJob<D> {
    pub(super) data: Option<Arc<D>>,
    pub(super) log: Arc<D>,
    pub(super) through: LogIndex,
}

pub struct FlushDone {
    pub(super) through: LogIndex,
    /// The device that failed, and how.
    pub(super) result: Result<(), (String, io::Error)>,
}

impl<D: BlockDevice> FlushJob<D> {
    pub fn run(self) -> FlushDone {
        let data = self.data.filter(|data| !Arc::ptr_eq(data, &self.log));
        let mut devices = data.iter().chain([&self.log]);
        let result = devices
            .try_for_each(|device| device.flush().map_err(|e| (device.name().to_owned(), e)));
        FlushDone {
            through: self.through,
            result,
        }
    }
}

/// Moves a frozen generation into the index. Log and data are durable through its last entry.
/// Also discards what was freed long enough ago, which is slow on some devices.
pub struct CommitJob<K: Kv> {
    pub(super) generation: Arc<Generation>,
    pub(super) writer: K::Writer,
    pub(super) data: Arc<dyn BlockDevice>,
    pub(super) discards: Vec<(DeviceExtent, Region)>,
}

pub struct CommitDone {
    pub(super) generation: Arc<Generation>,
    pub(super) result: io::Result<()>,
    pub(super) discarded: Vec<DeviceExtent>,
}

impl<K: Kv> CommitJob<K> {
    pub fn run(self) -> CommitDone {
        let result = self.writer.commit(self.generation.ops());
        let mut discarded = Vec::with_capacity(self.discards.len());
        for (extent, place) in self.discards {
            // A hint: what the device says to it changes nothing.
            if let Err(e) = self.data.discard(place.offset, place.len) {
                ::log::debug!("{}: discard: {e}", self.data.name());
            }
            discarded.push(extent);
        }
        CommitDone {
            generation: self.generation,
            result,
            discarded,
        }
    }
}

/// What a commit leaves behind: dropping it frees the generation's memory, which may take ms.
/// Let the commit thread do that.
pub struct Retired {
    pub(super) _generation: Arc<Generation>,
}
