//! A directory tree as one client knows it, and as it is found.

use std::collections::BTreeMap;

use sealfs_protocol::attr::Attr;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, InodeId};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster};

const PERMISSIONS: u32 = 0o7777;

/// What a client believes to be below its directory, by path.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub ino: InodeId,
    pub mode: u32,
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// `None`: a directory.
    pub content: Option<Vec<u8>>,
}

impl Node {
    pub fn dir(ino: InodeId) -> Node {
        Node {
            ino,
            mode: 0o755,
            xattrs: BTreeMap::new(),
            content: None,
        }
    }

    pub fn file(ino: InodeId, content: Vec<u8>) -> Node {
        Node {
            mode: 0o644,
            content: Some(content),
            ..Node::dir(ino)
        }
    }

    pub fn is_dir(&self) -> bool {
        self.content.is_none()
    }
}

pub fn brief(node: &Node) -> String {
    let Node {
        ino, mode, xattrs, ..
    } = node;
    match &node.content {
        None => format!("directory {ino:?} {mode:o} {xattrs:?}"),
        Some(bytes) => {
            let crc = bytes
                .iter()
                .fold(0u32, |a, b| a.rotate_left(3) ^ u32::from(*b));
            let len = bytes.len();
            format!("file {ino:?} {mode:o} {xattrs:?} of {len} bytes ({crc:x})")
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

/// Whether something is in a directory.
pub fn is_full(tree: &Tree, path: &str) -> bool {
    let below = format!("{path}/");
    tree.keys().any(|p| p.starts_with(&below))
}

/// The error that a rename must have, if any.
pub fn expect_rename(tree: &Tree, from: &str, to: &str) -> Option<Errno> {
    let (old, new) = (&tree[from], tree.get(to));
    let old_dir = old.is_dir();
    if old_dir && to.starts_with(&format!("{from}/")) {
        return Some(Errno::EINVAL);
    }
    let onto_above = from.starts_with(&format!("{to}/"));
    let new = new.filter(|new| new.ino != old.ino)?;
    match (old_dir, new.is_dir()) {
        (true, false) => Some(Errno::ENOTDIR),
        (false, true) => Some(Errno::EISDIR),
        (true, true) if onto_above || is_full(tree, to) => Some(Errno::ENOTEMPTY),
        _ => None,
    }
}

/// A rename takes everything below along.
pub fn move_all(tree: &mut Tree, from: &str, to: &str) {
    let same = tree.get(to).map(|node| node.ino) == Some(tree[from].ino);
    if same {
        return;
    }
    let moved = tree.keys().filter(|p| is_within(p, from));
    for path in moved.cloned().collect::<Vec<_>>() {
        if let Some(node) = tree.remove(&path) {
            tree.insert(format!("{to}{}", &path[from.len()..]), node);
        }
    }
}

/// Reads a tree.
pub fn walk(
    cluster: &mut Cluster,
    reader: &mut Client,
    dir: InodeId,
    prefix: &str,
    found: &mut Tree,
) {
    for (name, ino, _) in reader.list(cluster, dir, 4096) {
        let name = String::from_utf8(name).expect("a name in UTF-8");
        let path = match prefix {
            "" => name,
            _ => format!("{prefix}/{name}"),
        };
        let attr = stat(cluster, reader, ino);
        let content = (!attr.is_dir()).then(|| reader.read_all(cluster, &attr));
        let node = Node {
            ino,
            mode: attr.mode & PERMISSIONS,
            xattrs: xattrs(cluster, reader, ino),
            content,
        };
        let is_dir = node.is_dir();
        found.insert(path.clone(), node);
        if is_dir {
            walk(cluster, reader, ino, &path, found);
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

fn xattrs(cluster: &mut Cluster, reader: &mut Client, ino: InodeId) -> BTreeMap<String, Vec<u8>> {
    let (at, follow) = (at(ino, ""), false);
    let op = Op::ListXattr {
        at: at.clone(),
        follow,
    };
    let names = bytes_of(reader.call(cluster, op).reply);
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    let mut found = BTreeMap::new();
    for name in names {
        let op = Op::GetXattr {
            at: at.clone(),
            follow,
            name: name.to_vec(),
        };
        let value = bytes_of(reader.call(cluster, op).reply);
        let name = String::from_utf8(name.to_vec()).expect("a name in UTF-8");
        found.insert(name, value);
    }
    found
}

fn bytes_of(reply: OpReply) -> Vec<u8> {
    match reply {
        OpReply::Bytes(bytes) => bytes,
        other => panic!("no bytes: {other:?}"),
    }
}
