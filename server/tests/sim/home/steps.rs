//! What a client does next below its own directory.

use sealfs_protocol::attr::SetAttr;
use sealfs_protocol::message::{At, Op};
use sealfs_protocol::{OpenId, PartitionId};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Random};

use super::{Doing, Home, Nameless, STEPS_PER_SYNC};
use crate::change::Change;
use crate::listing::Listing;
use crate::tree::{Node, is_within, name_of, parent_of};
use crate::work::{Ask, Work};
use crate::{O_CREAT, O_RDWR};

/// open(2): `O_TMPFILE`, which includes `O_DIRECTORY`.
const O_TMPFILE: u32 = 0o20_200_000;
const MODES: [u32; 4] = [0o755, 0o700, 0o640, 0o111];

impl Home {
    pub(super) fn at(&self, path: &str) -> At {
        at(self.ino_of_dir(parent_of(path)), name_of(path))
    }

    fn pick(&self, random: &mut Random, matches: impl Fn(&Node) -> bool) -> Option<String> {
        let all = self.tree.iter().filter(|(_, node)| matches(node));
        let all: Vec<&String> = all.map(|(path, _)| path).collect();
        if all.is_empty() {
            return None;
        }
        Some(all[random.below(all.len() as u64) as usize].clone())
    }

    /// A path that is free, in a directory of the tree.
    fn fresh(&self, random: &mut Random) -> String {
        let dir = self.pick(random, Node::is_dir);
        let name = format!("n{}", random.below(1 << 30));
        match dir {
            Some(dir) if !random.one_in(3) => format!("{dir}/{name}"),
            _ => name,
        }
    }

    pub fn begin(&mut self, random: &mut Random, client: &mut Client, cluster: &Cluster) -> Ask {
        if let Some(safe) = &mut self.safe {
            safe.steps += 1;
            if safe.surprise.is_some() || safe.steps > STEPS_PER_SYNC {
                return self.sync(cluster, 0);
            }
        }
        let ask = match random.below(20) {
            0..4 => Some(self.create(random)),
            4 | 5 => Some(self.make_dir(random)),
            6 | 7 => self.remove(random),
            8..11 => self.rename(random),
            11 => self.link(random),
            12..16 => self.work(random, cluster),
            16 => self.chmod(random),
            17 => self.xattr(random),
            18 => Some(self.list(random)),
            _ => Some(self.nameless(random, client)),
        };
        let ask = ask.unwrap_or_else(|| self.create(random));
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

    fn remove(&mut self, random: &mut Random) -> Option<Ask> {
        let path = self.pick(random, |_| true)?;
        let at = self.at(&path);
        let op = if self.tree[&path].is_dir() {
            Op::RemoveDir { at }
        } else {
            Op::Unlink { at }
        };
        self.doing = Doing::Remove(path);
        Some(Ask::of(op))
    }

    fn rename(&mut self, random: &mut Random) -> Option<Ask> {
        let from = self.pick(random, |_| true)?;
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
        Some(Ask::of(op))
    }

    fn link(&mut self, random: &mut Random) -> Option<Ask> {
        let from = self.pick(random, |node| !node.is_dir())?;
        let to = self.fresh(random);
        let op = Op::Link {
            ino: self.tree[&from].ino,
            to: self.at(&to),
            from_open: None,
        };
        self.doing = Doing::Link(from, to);
        Some(Ask::of(op))
    }

    fn work(&mut self, random: &mut Random, cluster: &Cluster) -> Option<Ask> {
        let path = self.pick(random, |node| !node.is_dir())?;
        let ino = self.tree[&path].ino;
        let other = self.pick(random, |node| !node.is_dir() && node.ino != ino);
        let other = other.and_then(|path| self.tree.get(&path));
        let content = other.and_then(|node| Some((node.ino, node.content.as_deref()?)));
        let change = Change::choose(random, content.unwrap_or((ino, &[])));
        let (work, ask) = Work::begin(ino, change, cluster.ring().partitions());
        self.doing = Doing::Work(path, Box::new(work));
        Some(ask)
    }

    fn chmod(&mut self, random: &mut Random) -> Option<Ask> {
        let path = self.pick(random, |_| true)?;
        let mode = MODES[random.below(MODES.len() as u64) as usize];
        let set = SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        };
        let at = at(self.tree[&path].ino, "");
        let follow = false;
        self.doing = Doing::Chmod(path, mode);
        Some(Ask::of(Op::SetAttr { at, follow, set }))
    }

    fn xattr(&mut self, random: &mut Random) -> Option<Ask> {
        let path = self.pick(random, |_| true)?;
        let name = format!("user.{}", random.below(2));
        let (at, follow) = (at(self.tree[&path].ino, ""), false);
        let value = (!random.one_in(3)).then(|| vec![1; random.below(60) as usize]);
        let bytes = name.clone().into_bytes();
        let op = match value.clone() {
            Some(value) => Op::SetXattr {
                at,
                follow,
                name: bytes,
                value,
                flags: 0,
            },
            None => Op::RemoveXattr {
                at,
                follow,
                name: bytes,
            },
        };
        self.doing = Doing::Xattr(path, name, value);
        Some(Ask::of(op))
    }

    fn list(&mut self, random: &mut Random) -> Ask {
        let path = self.pick(random, Node::is_dir).unwrap_or_default();
        let limit_bytes = if random.one_in(2) { 64 } else { 4096 };
        let listing = Listing::new(self.ino_of_dir(&path), limit_bytes);
        let (partition, op) = listing.ask();
        self.doing = Doing::List(path, listing);
        Ask::at(partition, op)
    }

    fn nameless(&mut self, random: &mut Random, client: &mut Client) -> Ask {
        let file = Nameless {
            path: random.one_in(2).then(|| self.fresh(random)),
            bytes: vec![7; 1 + random.below(70_000) as usize],
            open: client.fresh_open(),
            node: None,
        };
        let dir = self.pick(random, Node::is_dir).unwrap_or_default();
        let op = Op::Open {
            at: at(self.ino_of_dir(&dir), ""),
            flags: O_RDWR | O_TMPFILE,
            mode: 0o644,
            open: file.open,
            read_bytes: 0,
        };
        self.doing = Doing::Nameless(file);
        Ask::of(op)
    }

    pub(super) fn sync(&mut self, cluster: &Cluster, shard: usize) -> Ask {
        self.doing = Doing::Sync(shard);
        let mut partitions = (0..cluster.ring().partitions()).map(PartitionId);
        Ask {
            partition: partitions.find(|p| cluster.owner(*p) == shard),
            ..Ask::of(Op::SyncFs)
        }
    }

    /// Notes what the step that begins may change.
    fn touch(&mut self) {
        let Some(safe) = &mut self.safe else {
            return;
        };
        let (a, b) = match &self.doing {
            Doing::Create(a)
            | Doing::MakeDir(a)
            | Doing::Remove(a)
            | Doing::Chmod(a, _)
            | Doing::Xattr(a, ..)
            | Doing::Work(a, _)
            | Doing::Nameless(Nameless { path: Some(a), .. }) => (a, a),
            Doing::Rename(a, b) | Doing::Link(a, b) => (a, b),
            _ => return,
        };
        let changed = match &self.doing {
            Doing::Work(path, _) | Doing::Chmod(path, _) | Doing::Xattr(path, ..) => {
                self.tree.get(path).map(|node| node.ino)
            }
            _ => None,
        };
        safe.touched.extend([a.clone(), b.clone()]);
        for (path, node) in self.tree.iter().chain(&safe.tree) {
            if is_within(path, a) || is_within(path, b) || Some(node.ino) == changed {
                safe.touched.insert(path.clone());
            }
        }
        for path in self.tree.keys().filter(|p| is_within(p, a)) {
            safe.touched.insert(format!("{b}{}", &path[a.len()..]));
        }
    }
}
