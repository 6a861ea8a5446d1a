//! The operations on one shard in memory, told as the kernel tells them.

use sealfs_protocol::attr::{S_IFDIR, S_IFIFO, SetAttr, SetTime};
use sealfs_protocol::message::{LockOwner, LockRange, LockSpace, LockType, Op, OpReply, Stop};
use sealfs_protocol::{Errno, InodeId, TruncateGeneration};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Outcome, Settings};

mod access;
mod data;
mod names;
mod trips;

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;
const O_EXCL: u32 = 0o200;
const O_TRUNC: u32 = 0o1000;
const O_DIRECTORY: u32 = 0o200_000;
const O_NOFOLLOW: u32 = 0o400_000;
const O_TMPFILE: u32 = 0o20_000_000 | O_DIRECTORY;

struct Fs {
    cluster: Cluster,
    client: Client,
    root: InodeId,
}

impl Fs {
    fn new() -> Fs {
        Fs::with(Settings::default(), 0)
    }

    fn with(settings: Settings, uid: u32) -> Fs {
        let mut cluster = Cluster::new(settings);
        let client = Client::new(&mut cluster, 11, uid);
        let root = client.root(&cluster);
        Fs {
            cluster,
            client,
            root,
        }
    }

    fn call(&mut self, op: Op) -> Outcome {
        self.client.call(&mut self.cluster, op)
    }

    fn open_flags(&mut self, path: &str, flags: u32) -> Outcome {
        let open = self.client.fresh_open();
        self.call(Op::Open {
            at: at(self.root, path),
            flags,
            mode: 0o644,
            open,
            read_bytes: 0,
        })
    }

    fn create(&mut self, path: &str) -> InodeId {
        self.open_flags(path, O_RDWR | O_CREAT | O_EXCL).attr().ino
    }

    fn mkdir(&mut self, path: &str) -> Outcome {
        self.call(Op::MakeDir {
            at: at(self.root, path),
            mode: 0o755,
        })
    }

    fn stat(&mut self, path: &str) -> Outcome {
        self.call(Op::GetAttr {
            at: at(self.root, path),
            follow: false,
        })
    }

    fn unlink(&mut self, path: &str) -> Option<Errno> {
        self.call(Op::Unlink {
            at: at(self.root, path),
        })
        .errno()
    }

    fn rmdir(&mut self, path: &str) -> Option<Errno> {
        self.call(Op::RemoveDir {
            at: at(self.root, path),
        })
        .errno()
    }

    fn dir(&mut self, path: &str) -> InodeId {
        if path.is_empty() {
            return self.root;
        }
        self.stat(path).attr().ino
    }

    fn rename(&mut self, from: (&str, &str), to: (&str, &str), flags: u32) -> Option<Errno> {
        let (a, b) = (self.dir(from.0), self.dir(to.0));
        self.call(Op::Rename {
            from: at(a, from.1),
            to: at(b, to.1),
            flags,
        })
        .errno()
    }

    fn write(&mut self, ino: InodeId, offset: u32, bytes: &[u8]) -> Outcome {
        let generation = self.generation(ino);
        let op = Op::Write {
            ino,
            chunk: 0,
            offset_bytes: offset,
            len_bytes: bytes.len() as u32,
            generation,
            open: sealfs_protocol::OpenId(1),
        };
        self.client.call_with(&mut self.cluster, op, bytes)
    }

    fn generation(&mut self, ino: InodeId) -> TruncateGeneration {
        let op = Op::GetAttr {
            at: at(ino, ""),
            follow: false,
        };
        self.call(op).attr().generation
    }

    fn read(&mut self, ino: InodeId, offset: u32, len: u32) -> Vec<u8> {
        let generation = self.generation(ino);
        let read = self.call(Op::Read {
            ino,
            chunk: 0,
            offset_bytes: offset,
            len_bytes: len,
            atime: true,
            generation,
        });
        assert!(
            matches!(read.reply, OpReply::Read { len_bytes } if len_bytes as usize == read.payload.len())
        );
        read.payload
    }

    fn set(&mut self, path: &str, set: SetAttr) -> Outcome {
        self.call(Op::SetAttr {
            at: at(self.root, path),
            follow: true,
            set,
        })
    }

    fn names(&mut self, dir: InodeId) -> Vec<String> {
        let entries = self.client.list(&mut self.cluster, dir, 100);
        let names = entries
            .into_iter()
            .map(|(name, ..)| String::from_utf8(name));
        names.map(|n| n.expect("a name in UTF-8")).collect()
    }
}
