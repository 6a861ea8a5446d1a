//! How an inode lies in the index: what most inodes have in common takes no space.
//!
//! Every file has one of these records, so its length decides how large an index is, and how much of it
//! stays in memory. A file that was just made takes 34 bytes. Numbers are little-endian; the table stands in
//! docs/on-disk-format.md. What must stay true: reading is total, and an inode reads back as it was.

use super::{Body, Directory, InodeRecord, Record};
use sealfs_protocol::attr::{Layout, Time};
use sealfs_protocol::codec::Malformed;
use sealfs_protocol::{InodeId, PartitionId, TruncateGeneration, VolumeId};

const TAG: u8 = 2;

const WIDE: u16 = 1;
const HAS_XATTRS: u16 = 1 << 1;
const LINKABLE: u16 = 1 << 2;
/// Fields that follow; without them the link count is 1, times are the time of birth or the one named,
/// and the others are 0 or nothing.
const NLINK: u16 = 1 << 3;
const RDEV: u16 = 1 << 4;
const SIZE: u16 = 1 << 5;
const GENERATION: u16 = 1 << 6;
const PENDING: u16 = 1 << 7;
/// Without: as the time of birth.
const MTIME: u16 = 1 << 8;
/// Without: as the modification time.
const CTIME: u16 = 1 << 9;
/// Without: as the modification time.
const ATIME: u16 = 1 << 10;
const PENDING_SPARES: u16 = 1 << 11;
const RESERVES: u16 = 1 << 12;

const INLINE: u8 = 0;
const CHUNKS: u8 = 1;
const SYMLINK: u8 = 2;
const DIRECTORY: u8 = 3;
const NODE: u8 = 4;

/// Whether these are the bytes of a directory's inode, by the byte that says what its body is.
pub fn is_directory(bytes: &[u8]) -> bool {
    bytes.first() == Some(&TAG) && bytes.get(3) == Some(&DIRECTORY)
}

impl Record for InodeRecord {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        out.push(TAG);
        out.extend_from_slice(&flags(self).to_le_bytes());
        out.push(match self.body {
            Body::Inline(_) => INLINE,
            Body::Chunks { .. } => CHUNKS,
            Body::Symlink(_) => SYMLINK,
            Body::Directory(_) => DIRECTORY,
            Body::Node => NODE,
        });
        for number in [self.volume.0, self.mode, self.uid, self.gid] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&[self.layout.chunk_size_log2, self.layout.width]);
        put_time(&mut out, self.btime);
        put_fields(&mut out, self);
        put_body(&mut out, &self.body);
        out
    }

    fn decode(bytes: &[u8]) -> Result<InodeRecord, Malformed> {
        let mut from = Reader(bytes);
        if from.u8()? != TAG {
            return Err(Malformed);
        }
        let flags = from.u16()?;
        let kind = from.u8()?;
        let has = |flag: u16| flags & flag != 0;
        let (volume, mode) = (VolumeId(from.u32()?), from.u32()?);
        let (uid, gid) = (from.u32()?, from.u32()?);
        let layout = Layout {
            chunk_size_log2: from.u8()?,
            width: from.u8()?,
        };
        let btime = from.time()?;
        let nlink = from.optional(has(NLINK), Reader::u32)?.unwrap_or(1);
        let rdev = from.optional(has(RDEV), Reader::u64)?.unwrap_or(0);
        let size_bytes = from.optional(has(SIZE), Reader::u64)?.unwrap_or(0);
        let generation = from.optional(has(GENERATION), Reader::u32)?.unwrap_or(0);
        let pending = from.optional(has(PENDING), Reader::u64)?;
        let mtime = from.optional(has(MTIME), Reader::time)?.unwrap_or(btime);
        let ctime = from.optional(has(CTIME), Reader::time)?.unwrap_or(mtime);
        let atime = from.optional(has(ATIME), Reader::time)?.unwrap_or(mtime);
        Ok(InodeRecord {
            volume,
            mode,
            nlink,
            uid,
            gid,
            rdev,
            size_bytes,
            atime,
            mtime,
            ctime,
            btime,
            layout,
            generation: TruncateGeneration(generation),
            wide: has(WIDE),
            pending,
            pending_spares: has(PENDING_SPARES),
            reserves: has(RESERVES),
            has_xattrs: has(HAS_XATTRS),
            linkable: has(LINKABLE),
            body: from.body(kind)?,
        })
    }
}

fn flags(inode: &InodeRecord) -> u16 {
    let facts = [
        (WIDE, inode.wide),
        (HAS_XATTRS, inode.has_xattrs),
        (LINKABLE, inode.linkable),
        (NLINK, inode.nlink != 1),
        (RDEV, inode.rdev != 0),
        (SIZE, inode.size_bytes != 0),
        (GENERATION, inode.generation.0 != 0),
        (PENDING, inode.pending.is_some()),
        (MTIME, inode.mtime != inode.btime),
        (CTIME, inode.ctime != inode.mtime),
        (ATIME, inode.atime != inode.mtime),
        (PENDING_SPARES, inode.pending_spares),
        (RESERVES, inode.reserves),
    ];
    let set = facts.iter().filter(|(_, is)| *is);
    set.fold(0, |flags, (flag, _)| flags | flag)
}

/// The fields that differ from what is usual, in the order of their flags.
fn put_fields(out: &mut Vec<u8>, inode: &InodeRecord) {
    let flags = flags(inode);
    let has = |flag: u16| flags & flag != 0;
    if has(NLINK) {
        out.extend_from_slice(&inode.nlink.to_le_bytes());
    }
    if has(RDEV) {
        out.extend_from_slice(&inode.rdev.to_le_bytes());
    }
    if has(SIZE) {
        out.extend_from_slice(&inode.size_bytes.to_le_bytes());
    }
    if has(GENERATION) {
        out.extend_from_slice(&inode.generation.0.to_le_bytes());
    }
    if let Some(size) = inode.pending {
        out.extend_from_slice(&size.to_le_bytes());
    }
    let times = [
        (MTIME, inode.mtime),
        (CTIME, inode.ctime),
        (ATIME, inode.atime),
    ];
    for (_, time) in times.into_iter().filter(|(flag, _)| has(*flag)) {
        put_time(out, time);
    }
}

fn put_time(out: &mut Vec<u8>, time: Time) {
    out.extend_from_slice(&time.seconds.to_le_bytes());
    out.extend_from_slice(&time.nanoseconds.to_le_bytes());
}

fn put_body(out: &mut Vec<u8>, body: &Body) {
    match body {
        Body::Inline(bytes) | Body::Symlink(bytes) => out.extend_from_slice(bytes),
        Body::Chunks { first_blocks_512 } => {
            out.extend_from_slice(&first_blocks_512.to_le_bytes());
        }
        Body::Directory(directory) => {
            let parts = directory.split.len() as u16;
            out.extend_from_slice(&directory.parent.0.to_le_bytes());
            out.extend_from_slice(&directory.entries.to_le_bytes());
            out.extend_from_slice(&directory.next_entry.to_le_bytes());
            out.extend_from_slice(&parts.to_le_bytes());
            for partition in directory.split.iter().take(usize::from(parts)) {
                out.extend_from_slice(&partition.0.to_le_bytes());
            }
            out.extend_from_slice(&directory.name);
        }
        Body::Node => {}
    }
}

/// The bytes that are still to be read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        self.take().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        self.take().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Result<Time, Malformed> {
        Ok(Time {
            seconds: self.take().map(i64::from_le_bytes)?,
            nanoseconds: self.u32()?,
        })
    }

    fn optional<T>(
        &mut self,
        is_there: bool,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        is_there.then(|| read(self)).transpose()
    }

    fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0).to_vec()
    }

    fn body(&mut self, kind: u8) -> Result<Body, Malformed> {
        let body = match kind {
            INLINE => Body::Inline(self.rest()),
            SYMLINK => Body::Symlink(self.rest()),
            CHUNKS => Body::Chunks {
                first_blocks_512: self.u32()?,
            },
            DIRECTORY => Body::Directory(self.directory()?),
            NODE => Body::Node,
            _ => return Err(Malformed),
        };
        if self.0.is_empty() {
            Ok(body)
        } else {
            Err(Malformed)
        }
    }

    fn directory(&mut self) -> Result<Directory, Malformed> {
        let parent = InodeId(self.u64()?);
        let (entries, next_entry) = (self.u64()?, self.u64()?);
        let parts = self.u16()?;
        let mut split = Vec::new();
        for _ in 0..parts {
            split.push(PartitionId(self.u16()?));
        }
        Ok(Directory {
            parent,
            name: self.rest(),
            entries,
            next_entry,
            split,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::INLINE_MAX_BYTES;
    use proptest::prelude::*;
    use sealfs_protocol::attr::S_IFREG;

    fn fresh() -> InodeRecord {
        let now = Time {
            seconds: 1_790_000_000,
            nanoseconds: 999_999_999,
        };
        InodeRecord {
            volume: VolumeId(1),
            mode: S_IFREG | 0o644,
            nlink: 1,
            uid: 1000,
            gid: 1000,
            rdev: 0,
            size_bytes: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            layout: Layout::DEFAULT,
            generation: TruncateGeneration(0),
            wide: false,
            pending: None,
            pending_spares: false,
            reserves: false,
            has_xattrs: false,
            linkable: false,
            body: Body::Inline(Vec::new()),
        }
    }

    #[test]
    fn a_fresh_file_takes_34_bytes() {
        assert_eq!(fresh().encode().len(), 34);
    }

    #[test]
    fn a_full_inline_inode_stays_below_the_node_limit() {
        let mut inode = fresh();
        inode.body = Body::Inline(vec![7; INLINE_MAX_BYTES]);
        inode.pending = Some(1);
        inode.atime = Time::default();
        assert!(inode.encode().len() < 2000);
    }

    fn bodies() -> impl Strategy<Value = Body> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..40);
        let split = proptest::collection::vec(any::<u16>().prop_map(PartitionId), 0..9);
        let numbers = (any::<u64>(), any::<u64>(), any::<u64>());
        let directory =
            (numbers, bytes(), split).prop_map(|((parent, entries, next), name, split)| {
                Body::Directory(Directory {
                    parent: InodeId(parent),
                    name,
                    entries,
                    next_entry: next,
                    split,
                })
            });
        prop_oneof![
            bytes().prop_map(Body::Inline),
            bytes().prop_map(Body::Symlink),
            any::<u32>().prop_map(|first_blocks_512| Body::Chunks { first_blocks_512 }),
            directory,
            Just(Body::Node),
        ]
    }

    prop_compose! {
        /// Inodes whose fields are the usual ones or any.
        fn inodes()(
            small in (any::<u32>(), 0u32..3, any::<u32>(), any::<u32>(), 0u32..2),
            large in (0u64..2, any::<u64>(), proptest::option::of(any::<u64>())),
            times in proptest::array::uniform4((0i64..2, 0u32..2)),
            facts in any::<[bool; 5]>(),
            body in bodies(),
        ) -> InodeRecord {
            let time = |(seconds, nanoseconds)| Time { seconds, nanoseconds };
            InodeRecord {
                volume: VolumeId(small.0),
                mode: small.2,
                nlink: small.1,
                uid: small.3,
                gid: small.2,
                rdev: large.0,
                size_bytes: large.1,
                atime: time(times[0]),
                mtime: time(times[1]),
                ctime: time(times[2]),
                btime: time(times[3]),
                layout: Layout { chunk_size_log2: 16, width: small.3 as u8 },
                generation: TruncateGeneration(small.4),
                wide: facts[0],
                pending: large.2,
                pending_spares: facts[3],
                reserves: facts[4],
                has_xattrs: facts[1],
                linkable: facts[2],
                body,
            }
        }
    }

    proptest! {
        #[test]
        fn inodes_read_back_as_they_were(inode in inodes()) {
            prop_assert_eq!(InodeRecord::decode(&inode.encode()), Ok(inode));
        }

        #[test]
        fn any_bytes_are_an_inode_or_malformed(
            inode in inodes(),
            cut in any::<proptest::sample::Index>(),
            noise in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = inode.encode();
            bytes.truncate(cut.index(bytes.len()).min(33));
            prop_assert_eq!(InodeRecord::decode(&bytes), Err(Malformed));
            let _ = InodeRecord::decode(&noise);
            bytes.extend(noise);
            let _ = InodeRecord::decode(&bytes);
        }
    }
}
