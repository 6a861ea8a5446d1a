//! Whose store this is: the superblocks of its devices and the identity in its index must agree.
//!
//! Everything is read and judged before anything is written. A new store is made in an order that
//! a power cut may stop anywhere: until the data device's superblock says `ready`, the devices
//! count as blank.

use std::io::IoSlice;

use sealfs_protocol::ids::Incarnation;

use super::db::Db;
use super::meta_key;
use super::replay::Options;
use crate::env::{BlockDevice, Kv, KvOp, KvWriter};
use crate::store::superblock::{
    DATA_MIN_BYTES, LOG_MIN_BYTES, REGIONS_FROM, ROLE_DATA, ROLE_LOG, Superblock,
};
use crate::store::{OpenError, Region};

/// Largest log that is made unless one is asked for, in bytes.
const LOG_DEFAULT_MAX_BYTES: u64 = 64 << 20;
/// Regions are multiples of this, in bytes.
const REGION_ALIGN_BYTES: u64 = 1 << 20;

/// The superblocks with the data region and with the log; the same one if both are on one device.
pub struct Superblocks {
    pub data: Superblock,
    pub log: Superblock,
}

/// The superblocks of the store that the devices hold, or `None` if they are blank. Refuses what is
/// not this store.
pub fn find<K: Kv, D: BlockDevice>(
    options: &Options,
    kv: &K,
    data: &D,
    log: Option<&D>,
) -> Result<Option<Superblocks>, OpenError> {
    let on_data = Superblock::read(data)?;
    let on_log = log.map(Superblock::read).transpose()?.flatten();
    let index = kv.get(Db::Meta, meta_key::STORE);
    let index = index.map_err(OpenError::io("index"))?;
    let incomplete = |name: &D, what| {
        let name = name.name().to_owned();
        Err(OpenError::Incomplete { name, what })
    };
    let Some(superblock) = on_data.filter(|s| s.ready) else {
        let uuid = on_data.map(|s| s.uuid);
        if on_log.is_some_and(|s| s.ready && Some(s.uuid) != uuid) {
            return incomplete(data, "is blank, but its log device belongs to a store");
        }
        if index.is_some_and(|i| uuid.is_none_or(|u| !i.starts_with(&u.to_le_bytes()))) {
            return incomplete(data, "is blank, but its meta_dir belongs to a store");
        }
        return Ok(None);
    };
    check_owner(options, &superblock, data)?;
    let has_log = superblock.role & ROLE_LOG != 0;
    let log_superblock = match (log, on_log) {
        (None, _) if has_log => superblock,
        (None, _) => return incomplete(data, "its log is on another device, which must be named"),
        (Some(_), _) if has_log => return incomplete(data, "its log is on this device itself"),
        (Some(log), None) => return incomplete(log, "is blank, but the store has a log elsewhere"),
        (Some(log), Some(s)) => {
            check_owner(options, &s, log)?;
            if s.uuid != superblock.uuid {
                return other(log, "store", hex(s.uuid), hex(superblock.uuid));
            }
            s
        }
    };
    match index {
        None => incomplete(data, "its index (meta_dir) is missing"),
        Some(index) if index != identity(&superblock) => {
            let what = "its index (meta_dir) belongs to another store";
            incomplete(data, what)
        }
        Some(_) => Ok(Some(Superblocks {
            data: superblock,
            log: log_superblock,
        })),
    }
}

fn check_owner<D: BlockDevice>(
    options: &Options,
    superblock: &Superblock,
    device: &D,
) -> Result<(), OpenError> {
    if superblock.cluster != options.cluster {
        let (theirs, ours) = (superblock.cluster, options.cluster);
        return other(device, "cluster", theirs.to_string(), ours.to_string());
    }
    if superblock.shard != options.shard {
        let (theirs, ours) = (superblock.shard, options.shard);
        return other(device, "shard", theirs.to_string(), ours.to_string());
    }
    Ok(())
}

fn other<T, D: BlockDevice>(
    device: &D,
    what: &'static str,
    theirs: String,
    ours: String,
) -> Result<T, OpenError> {
    Err(OpenError::OtherStore {
        name: device.name().to_owned(),
        what,
        theirs,
        ours,
    })
}

fn hex(uuid: u128) -> String {
    format!("{uuid:032x}")
}

/// The index's copy of who it belongs to: uuid, cluster, shard.
fn identity(superblock: &Superblock) -> [u8; 36] {
    let mut bytes = [0; 36];
    bytes[..16].copy_from_slice(&superblock.uuid.to_le_bytes());
    bytes[16..32].copy_from_slice(&superblock.cluster.0.to_le_bytes());
    bytes[32..].copy_from_slice(&superblock.shard.0.to_le_bytes());
    bytes
}

/// Makes a new store on devices that `find` has found blank.
pub fn format<K: Kv, D: BlockDevice>(
    options: &Options,
    kv: &mut K,
    data: &D,
    log: Option<&D>,
) -> Result<Superblocks, OpenError> {
    let mut superblocks = plan(options, data, log)?;
    // An interrupted attempt is gone on with under its own identity.
    if let Some(begun) = Superblock::read(data)? {
        superblocks.data.uuid = begun.uuid;
        superblocks.log.uuid = begun.uuid;
        superblocks.data.sequence = begun.sequence;
    }
    let write = |superblock: &mut Superblock, device: &D, ready: bool| {
        superblock.ready = ready;
        superblock
            .write(device)
            .map_err(OpenError::io(device.name()))
    };
    write(&mut superblocks.data, data, false)?;
    if let Some(log) = log {
        superblocks.log.sequence = Superblock::read(log)?.map_or(0, |s| s.sequence);
        write(&mut superblocks.log, log, false)?;
    }
    let log_device = log.unwrap_or(data);
    clear(log_device, superblocks.log.log).map_err(OpenError::io(log_device.name()))?;
    let store = KvOp {
        db: Db::Meta,
        key: meta_key::STORE,
        value: Some(&identity(&superblocks.data)),
    };
    let committed = kv.writer().commit([store].into_iter());
    committed
        .and_then(|()| kv.refresh())
        .map_err(OpenError::io("index"))?;
    if let Some(log) = log {
        write(&mut superblocks.log, log, true)?;
    }
    write(&mut superblocks.data, data, true)?;
    if log.is_none() {
        superblocks.log = superblocks.data;
    }
    Ok(superblocks)
}

/// Fills the log with zeros: records of a store that was here before could be taken for ours, and
/// a preallocated file takes a flush faster where it was written before (79 against 173 µs).
fn clear<D: BlockDevice>(device: &D, region: Region) -> std::io::Result<()> {
    let zeros = vec![0; REGION_ALIGN_BYTES as usize];
    let mut at = region.offset;
    while at < region.offset + region.len {
        device.write_at(&[IoSlice::new(&zeros)], at)?;
        at += REGION_ALIGN_BYTES;
    }
    device.flush()
}

/// Where everything goes; refuses devices that are too small.
fn plan<D: BlockDevice>(
    options: &Options,
    data: &D,
    log: Option<&D>,
) -> Result<Superblocks, OpenError> {
    let align = |bytes: u64| bytes / REGION_ALIGN_BYTES * REGION_ALIGN_BYTES;
    let usable = |device: &D| align(device.size_bytes().saturating_sub(REGIONS_FROM));
    let too_small = |device: &D, least: u64| {
        let least_bytes = REGIONS_FROM + least;
        Err(OpenError::TooSmall {
            name: device.name().to_owned(),
            size_bytes: device.size_bytes(),
            least_bytes,
        })
    };
    let asked = options.log_bytes.map(|b| align(b).max(LOG_MIN_BYTES));
    let share = align(usable(data) / 16).clamp(LOG_MIN_BYTES, LOG_DEFAULT_MAX_BYTES);
    let log_bytes = asked.unwrap_or_else(|| log.map_or(share, usable));
    if let Some(log) = log
        && (usable(log) < log_bytes || log_bytes < LOG_MIN_BYTES)
    {
        return too_small(log, log_bytes.max(LOG_MIN_BYTES));
    }
    let before_data = if log.is_none() { log_bytes } else { 0 };
    if usable(data) < before_data + DATA_MIN_BYTES {
        return too_small(data, before_data + DATA_MIN_BYTES);
    }
    let log_region = Region {
        offset: REGIONS_FROM,
        len: log_bytes,
    };
    let data_region = Region {
        offset: REGIONS_FROM + before_data,
        len: usable(data) - before_data,
    };
    let superblock = |role: u8| Superblock {
        sequence: 0,
        uuid: options.uuid,
        cluster: options.cluster,
        shard: options.shard,
        role,
        ready: false,
        log: if role & ROLE_LOG != 0 {
            log_region
        } else {
            Region::default()
        },
        data: if role & ROLE_DATA != 0 {
            data_region
        } else {
            Region::default()
        },
        life: 0,
        incarnation: Incarnation(0),
        boot_id: 0,
    };
    Ok(match log {
        Some(_) => Superblocks {
            data: superblock(ROLE_DATA),
            log: superblock(ROLE_LOG),
        },
        None => Superblocks {
            data: superblock(ROLE_DATA | ROLE_LOG),
            log: superblock(ROLE_DATA | ROLE_LOG),
        },
    })
}
