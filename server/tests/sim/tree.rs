//! A directory tree as one client knows it, and as it is found.

use std::collections::BTreeMap;

use sealfs_protocol::InodeId;
use sealfs_protocol::attr::{Attr, S_IFDIR};
use sealfs_protocol::message::{Op, OpReply};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster};

/// What a client believes to be below its directory, by path.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Dir(InodeId),
    File(InodeId, Vec<u8>),
}

impl Node {
    pub fn ino(&self) -> InodeId {
        match self {
            Node::Dir(ino) | Node::File(ino, _) => *ino,
        }
    }
}

pub fn brief(node: &Node) -> String {
    match node {
        Node::Dir(ino) => format!("directory {ino:?}"),
        Node::File(ino, bytes) => {
            let crc = bytes
                .iter()
                .fold(0u32, |a, b| a.rotate_left(3) ^ u32::from(*b));
            format!("file {ino:?} of {} bytes ({crc:x})", bytes.len())
        }
    }
}

pub type Tree = BTreeMap<String, Node>;

pub fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

pub fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

pub fn is_within(path: &str, top: &str) -> bool {
    path.strip_prefix(top)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Reads a tree.
pub fn walk(
    cluster: &mut Cluster,
    reader: &mut Client,
    dir: InodeId,
    prefix: &str,
    found: &mut Tree,
) {
    for (name, ino, kind) in reader.list(cluster, dir, 4096) {
        let name = String::from_utf8(name).expect("a name in UTF-8");
        let path = match prefix {
            "" => name,
            _ => format!("{prefix}/{name}"),
        };
        if kind == S_IFDIR {
            found.insert(path.clone(), Node::Dir(ino));
            walk(cluster, reader, ino, &path, found);
        } else {
            let content = read_all(cluster, reader, ino);
            found.insert(path, Node::File(ino, content));
        }
    }
}

fn stat(cluster: &mut Cluster, reader: &mut Client, ino: InodeId) -> Attr {
    let op = Op::GetAttr {
        at: at(ino, ""),
        follow: false,
    };
    reader.call(cluster, op).attr()
}

fn read_all(cluster: &mut Cluster, reader: &mut Client, ino: InodeId) -> Vec<u8> {
    let attr = stat(cluster, reader, ino);
    let mut all = Vec::new();
    let partitions = cluster.ring().partitions();
    for span in attr.layout.split(0, attr.size_bytes) {
        let op = Op::Read {
            ino: attr.ino,
            chunk: span.chunk,
            offset_bytes: span.offset_bytes,
            len_bytes: span.len_bytes,
            atime: true,
            generation: attr.generation,
        };
        let partition = attr.layout.partition_of(attr.ino, span.chunk, partitions);
        reader.begin_at(cluster, partition, op, &[]);
        let read = reader.finish(cluster);
        assert!(matches!(read.reply, OpReply::Read { .. }), "{read:?}");
        let mut bytes = read.payload;
        bytes.resize(span.len_bytes as usize, 0);
        all.extend(bytes);
    }
    all
}
