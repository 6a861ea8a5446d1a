//! What a client does below a directory of its own, where it knows what it must see.
//!
//! Without power cuts every outcome is known beforehand. With them, what is acknowledged and not yet
//! synced may be lost: then only what was synced is known, and of everything touched since either
//! state is right, until the client has looked.

use std::collections::BTreeSet;

use sealfs_protocol::message::{At, Op, OpReply};
use sealfs_protocol::{Errno, Incarnation, InodeId, OpenId, PartitionId};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Outcome, Random};

use crate::tree::{Node, Tree, brief, is_within, name_of, parent_of, walk};
use crate::{O_CREAT, O_RDWR};

/// Steps between two times of syncing.
const STEPS_PER_SYNC: u32 = 8;
const APPEND_MAX_BYTES: u64 = 40_000;

enum Doing {
    Nothing,
    Create(String),
    MakeDir(String),
    Remove(String),
    Rename(String, String),
    Link(String, String),
    Write(String, Vec<u8>),
    Close,
    /// Of this shard, by position.
    Sync(usize),
}

/// A request to be made.
pub struct Ask {
    pub op: Op,
    pub payload: Vec<u8>,
    /// If the operation does not say.
    pub partition: Option<PartitionId>,
}

impl Ask {
    fn of(op: Op) -> Ask {
        Ask {
            op,
            payload: Vec::new(),
            partition: None,
        }
    }
}

/// What survives a loss of power.
#[derive(Default)]
struct Safe {
    tree: Tree,
    /// Paths that may have changed since.
    touched: BTreeSet<String>,
    /// Shards' incarnations at the last sync.
    incarnations: Vec<Incarnation>,
    now: Vec<Incarnation>,
    steps: u32,
    /// Something was not as expected: a shard must have lost its tail.
    surprise: Option<String>,
}

pub struct Home {
    pub dir: InodeId,
    tree: Tree,
    doing: Doing,
    /// Some shard may lose power.
    safe: Option<Safe>,
}

/// What follows from an outcome.
pub enum Then {
    Nothing,
    Ask(Ask),
    /// A shard has lost its tail: look what is there.
    Look,
}

impl Home {
    /// `incarnations`: of the shards, if they may lose power, when the directory was synced.
    pub fn new(dir: InodeId, incarnations: Option<Vec<Incarnation>>) -> Home {
        let safe = incarnations.map(|incarnations| Safe {
            incarnations,
            ..Safe::default()
        });
        Home {
            dir,
            tree: Tree::new(),
            doing: Doing::Nothing,
            safe,
        }
    }

    fn at(&self, path: &str) -> At {
        let dir = match self.tree.get(parent_of(path)) {
            Some(Node::Dir(ino)) => *ino,
            _ => self.dir,
        };
        at(dir, name_of(path))
    }

    fn pick(&self, random: &mut Random, matches: impl Fn(&Node) -> bool) -> Option<String> {
        let all: Vec<&String> = self
            .tree
            .iter()
            .filter(|(_, n)| matches(n))
            .map(|(p, _)| p)
            .collect();
        if all.is_empty() {
            return None;
        }
        Some(all[random.below(all.len() as u64) as usize].clone())
    }

    /// A path that is free, in a directory of the tree.
    fn fresh(&self, random: &mut Random) -> String {
        let dir = self.pick(random, |n| matches!(n, Node::Dir(_)));
        let name = format!("n{}", random.below(1 << 30));
        match dir {
            Some(dir) if !random.one_in(3) => format!("{dir}/{name}"),
            _ => name,
        }
    }

    pub fn begin(&mut self, random: &mut Random, cluster: &Cluster) -> Ask {
        if let Some(safe) = &mut self.safe {
            safe.steps += 1;
            if safe.surprise.is_some() || safe.steps > STEPS_PER_SYNC {
                return self.sync(cluster, 0);
            }
        }
        let ask = match random.below(8) {
            0 | 1 => self.create(random),
            2 => self.make_dir(random),
            3 => self.remove(random),
            4 | 5 => self.rename(random),
            6 => self.link(random),
            _ => self.write(random),
        };
        self.touch();
        ask
    }

    fn create(&mut self, random: &mut Random) -> Ask {
        let path = self.fresh(random);
        let op = Op::Open {
            at: self.at(&path),
            flags: O_RDWR | O_CREAT,
            mode: 0o644,
            open: OpenId(1),
            read_bytes: 0,
        };
        self.doing = Doing::Create(path);
        Ask::of(op)
    }

    fn make_dir(&mut self, random: &mut Random) -> Ask {
        let path = self.fresh(random);
        let op = Op::MakeDir {
            at: self.at(&path),
            mode: 0o755,
        };
        self.doing = Doing::MakeDir(path);
        Ask::of(op)
    }

    fn remove(&mut self, random: &mut Random) -> Ask {
        let Some(path) = self.pick(random, |_| true) else {
            return self.create(random);
        };
        let at = self.at(&path);
        let op = match self.tree[&path] {
            Node::Dir(_) => Op::RemoveDir { at },
            Node::File(..) => Op::Unlink { at },
        };
        self.doing = Doing::Remove(path);
        Ask::of(op)
    }

    fn rename(&mut self, random: &mut Random) -> Ask {
        let Some(from) = self.pick(random, |_| true) else {
            return self.create(random);
        };
        let replaced = random
            .one_in(3)
            .then(|| self.pick(random, |_| true))
            .flatten();
        let to = replaced.unwrap_or_else(|| self.fresh(random));
        let op = Op::Rename {
            from: self.at(&from),
            to: self.at(&to),
            flags: 0,
        };
        self.doing = Doing::Rename(from, to);
        Ask::of(op)
    }

    fn link(&mut self, random: &mut Random) -> Ask {
        let Some(from) = self.pick(random, |n| matches!(n, Node::File(..))) else {
            return self.create(random);
        };
        let to = self.fresh(random);
        let op = Op::Link {
            ino: self.tree[&from].ino(),
            to: self.at(&to),
            from_open: None,
        };
        self.doing = Doing::Link(from, to);
        Ask::of(op)
    }

    fn write(&mut self, random: &mut Random) -> Ask {
        let Some(path) = self.pick(random, |n| matches!(n, Node::File(..))) else {
            return self.create(random);
        };
        let len = 1 + random.below(APPEND_MAX_BYTES) as usize;
        let bytes = vec![random.below(256) as u8; len];
        let op = Op::Append {
            ino: self.tree[&path].ino(),
            len_bytes: len as u32,
            open: OpenId(1),
        };
        self.doing = Doing::Write(path, bytes.clone());
        Ask {
            op,
            payload: bytes,
            partition: None,
        }
    }

    fn sync(&mut self, cluster: &Cluster, shard: usize) -> Ask {
        self.doing = Doing::Sync(shard);
        let mut partitions = (0..cluster.ring().partitions()).map(PartitionId);
        Ask {
            op: Op::SyncFs,
            payload: Vec::new(),
            partition: partitions.find(|p| cluster.owner(*p) == shard),
        }
    }

    /// Notes what the step that begins may change.
    fn touch(&mut self) {
        let Some(safe) = &mut self.safe else {
            return;
        };
        let (a, b) = match &self.doing {
            Doing::Create(a) | Doing::MakeDir(a) | Doing::Remove(a) | Doing::Write(a, _) => (a, a),
            Doing::Rename(a, b) | Doing::Link(a, b) => (a, b),
            Doing::Nothing | Doing::Close | Doing::Sync(_) => return,
        };
        let written = match &self.doing {
            Doing::Write(path, _) => self.tree.get(path).map(Node::ino),
            _ => None,
        };
        safe.touched.extend([a.clone(), b.clone()]);
        for (path, node) in self.tree.iter().chain(&safe.tree) {
            if is_within(path, a) || is_within(path, b) || Some(node.ino()) == written {
                safe.touched.insert(path.clone());
            }
        }
        for path in self.tree.keys().filter(|p| is_within(p, a)) {
            safe.touched.insert(format!("{b}{}", &path[a.len()..]));
        }
    }

    /// Takes an outcome into the tree, which says what it had to be.
    pub fn end(&mut self, outcome: &Outcome, client: &Client, cluster: &Cluster) -> Then {
        let errno = outcome.errno();
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Create(path) => {
                if let OpReply::Opened { attr, .. } = &outcome.reply {
                    let ino = attr.ino;
                    self.tree.insert(path, Node::File(ino, Vec::new()));
                    self.doing = Doing::Close;
                    let open = OpenId(1);
                    return Then::Ask(Ask::of(Op::Close { ino, open }));
                }
                self.expect(false, &path, outcome);
            }
            Doing::MakeDir(path) => match &outcome.reply {
                OpReply::Attr(attr) => {
                    self.tree.insert(path, Node::Dir(attr.ino));
                }
                _ => self.expect(false, &path, outcome),
            },
            Doing::Remove(path) => {
                let full = self.is_full(&path);
                let right = errno == full.then_some(Errno::ENOTEMPTY);
                self.expect(right, &path, outcome);
                if errno.is_none() {
                    self.tree.remove(&path);
                }
            }
            Doing::Rename(from, to) => {
                let right = errno == self.expect_rename(&from, &to);
                self.expect(right, &format!("{from} to {to}"), outcome);
                if right && errno.is_none() {
                    self.move_all(&from, &to);
                }
            }
            Doing::Link(from, to) => {
                self.expect(errno.is_none(), &to, outcome);
                if errno.is_none() {
                    self.tree.insert(to, self.tree[&from].clone());
                }
            }
            Doing::Write(path, bytes) => {
                let written = matches!(outcome.reply, OpReply::Written { .. });
                self.expect(written, &path, outcome);
                let written = self.tree[&path].ino();
                for node in self.tree.values_mut() {
                    if let Node::File(ino, content) = node
                        && *ino == written
                    {
                        content.extend(&bytes);
                    }
                }
            }
            Doing::Sync(shard) => return self.synced(shard, client, cluster),
            Doing::Close | Doing::Nothing => {}
        }
        Then::Nothing
    }

    fn expect(&mut self, right: bool, what: &str, outcome: &Outcome) {
        match &mut self.safe {
            _ if right => {}
            Some(safe) => safe.surprise = Some(format!("{what}: {:?}", outcome.reply)),
            None => assert!(right, "{what}: {:?}", outcome.reply),
        }
    }

    fn synced(&mut self, shard: usize, client: &Client, cluster: &Cluster) -> Then {
        let safe = self
            .safe
            .as_mut()
            .expect("only who may lose something syncs");
        safe.now.push(client.incarnation());
        if shard + 1 < cluster.shards() {
            return Then::Ask(self.sync(cluster, shard + 1));
        }
        safe.steps = 0;
        let now = std::mem::take(&mut safe.now);
        let before = std::mem::replace(&mut safe.incarnations, now);
        if before != safe.incarnations {
            return Then::Look;
        }
        assert_eq!(safe.surprise, None, "and no shard lost anything");
        safe.tree = self.tree.clone();
        safe.touched.clear();
        Then::Nothing
    }

    /// Compares with what is there, and takes that over.
    pub fn look(&mut self, cluster: &mut Cluster, reader: &mut Client) {
        let mut found = Tree::new();
        walk(cluster, reader, self.dir, "", &mut found);
        found.retain(|path, _| !path.starts_with("moved"));
        let Some(safe) = &mut self.safe else {
            let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&found), names(&self.tree), "names in {:?}", self.dir);
            for (path, node) in &self.tree {
                let seen = &found[path];
                let text = format!(
                    "{path} in {:?}: {}, not {}",
                    self.dir,
                    brief(seen),
                    brief(node)
                );
                assert!(seen == node, "{text}");
            }
            return;
        };
        for (path, node) in &safe.tree {
            let kept = safe.touched.contains(path) || found.get(path) == Some(node);
            assert!(kept, "{path} was synced and is lost");
        }
        for path in found.keys() {
            // The name of a directory above may have gone back to an older one.
            let moved = safe.touched.iter().any(|top| is_within(path, top));
            let known = moved || safe.tree.contains_key(path);
            assert!(known, "{path} comes from nowhere");
        }
        safe.surprise = None;
        // Not synced yet: what was found may go with the next loss of power.
        safe.touched.extend(found.keys().cloned());
        safe.touched.extend(self.tree.keys().cloned());
        self.tree = found;
    }

    fn is_full(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.tree.keys().any(|p| p.starts_with(&below))
    }

    fn expect_rename(&self, from: &str, to: &str) -> Option<Errno> {
        let (old, new) = (&self.tree[from], self.tree.get(to));
        let old_dir = matches!(old, Node::Dir(_));
        if old_dir && to.starts_with(&format!("{from}/")) {
            return Some(Errno::EINVAL);
        }
        let onto_above = from.starts_with(&format!("{to}/"));
        match (old, new) {
            (_, None) => None,
            (_, Some(new)) if new.ino() == old.ino() => None,
            (Node::Dir(_), Some(Node::File(..))) => Some(Errno::ENOTDIR),
            (Node::File(..), Some(Node::Dir(_))) => Some(Errno::EISDIR),
            (Node::Dir(_), Some(Node::Dir(_))) if onto_above || self.is_full(to) => {
                Some(Errno::ENOTEMPTY)
            }
            _ => None,
        }
    }

    fn move_all(&mut self, from: &str, to: &str) {
        let same = self.tree.get(to).map(Node::ino) == Some(self.tree[from].ino());
        if same {
            return;
        }
        let moved = self.tree.keys().filter(|p| is_within(p, from));
        for path in moved.cloned().collect::<Vec<_>>() {
            if let Some(node) = self.tree.remove(&path) {
                self.tree
                    .insert(format!("{to}{}", &path[from.len()..]), node);
            }
        }
    }
}
