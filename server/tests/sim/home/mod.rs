//! What a client does below a directory of its own, where it knows what it must see.
//!
//! Without power cuts every outcome is known beforehand. With them, what is acknowledged and not yet
//! synced may be lost: then only what was synced is known, and of everything touched since either
//! state is right, until the client has looked. With a quota, what grows may be refused.

mod steps;

use std::collections::BTreeSet;

use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, Incarnation, InodeId, OpenId};
use sealfs_testkit::{Client, Cluster, Outcome};

use crate::change::Change;
use crate::listing::Listing;
use crate::tree::{
    Node, Tree, brief, expect_rename, is_full, is_within, move_all, name_of, parent_of, walk,
};
use crate::work::{Ask, Progress, Work};

/// Steps between two times of syncing.
const STEPS_PER_SYNC: u32 = 8;

enum Doing {
    Nothing,
    Create(String),
    MakeDir(String),
    Remove(String),
    Rename(String, String),
    Link(String, String),
    Chmod(String, u32),
    /// Sets an extended attribute, or takes it away.
    Xattr(String, String, Option<Vec<u8>>),
    List(String, Listing),
    Work(String, Box<Work>),
    Nameless(Nameless),
    Close,
    /// Of this shard, by position.
    Sync(usize),
}

/// A file without a name (`O_TMPFILE`), and how far it has come.
struct Nameless {
    /// The name that it gets in the end, if any.
    path: Option<String>,
    bytes: Vec<u8>,
    open: OpenId,
    /// Once it is there: itself, and whether its bytes were sent.
    node: Option<(Node, bool)>,
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
    /// There is a quota.
    limited: bool,
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
    pub fn new(dir: InodeId, incarnations: Option<Vec<Incarnation>>, limited: bool) -> Home {
        let safe = incarnations.map(|incarnations| Safe {
            incarnations,
            ..Safe::default()
        });
        Home {
            dir,
            tree: Tree::new(),
            doing: Doing::Nothing,
            safe,
            limited,
        }
    }

    fn ino_of_dir(&self, path: &str) -> InodeId {
        self.tree.get(path).map_or(self.dir, |node| node.ino)
    }

    /// Changes a file or directory under all its names.
    fn change(&mut self, path: &str, change: impl Fn(&mut Node)) {
        let Some(ino) = self.tree.get(path).map(|node| node.ino) else {
            return;
        };
        for node in self.tree.values_mut().filter(|node| node.ino == ino) {
            change(node);
        }
    }

    /// Takes an outcome into the tree, which says what it had to be.
    pub fn end(&mut self, outcome: &Outcome, client: &mut Client, cluster: &Cluster) -> Then {
        let errno = outcome.errno();
        let said = &outcome.reply;
        let refused = self.limited && errno == Some(Errno::EDQUOT);
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Create(_) | Doing::MakeDir(_) if refused => {}
            Doing::Create(path) => {
                if let OpReply::Opened { attr, .. } = &outcome.reply {
                    let ino = attr.ino;
                    self.tree.insert(path, Node::file(ino, Vec::new()));
                    self.doing = Doing::Close;
                    let open = OpenId(1);
                    return Then::Ask(Ask::of(Op::Close { ino, open }));
                }
                self.expect(false, || format!("{path}: {said:?}"));
            }
            Doing::MakeDir(path) => match &outcome.reply {
                OpReply::Attr(attr) => {
                    self.tree.insert(path, Node::dir(attr.ino));
                }
                _ => self.expect(false, || format!("{path}: {said:?}")),
            },
            Doing::Remove(path) => {
                let full = is_full(&self.tree, &path);
                let right = errno == full.then_some(Errno::ENOTEMPTY);
                self.expect(right, || format!("{path}: {said:?}"));
                if errno.is_none() {
                    self.tree.remove(&path);
                }
            }
            Doing::Rename(from, to) => {
                let right = errno == expect_rename(&self.tree, &from, &to);
                self.expect(right, || format!("{from} to {to}: {said:?}"));
                if right && errno.is_none() {
                    move_all(&mut self.tree, &from, &to);
                }
            }
            Doing::Link(from, to) => {
                self.expect(errno.is_none(), || format!("link {to}: {said:?}"));
                if errno.is_none() {
                    self.tree.insert(to, self.tree[&from].clone());
                }
            }
            Doing::Chmod(path, mode) => {
                self.expect(errno.is_none(), || format!("chmod {path}: {said:?}"));
                self.change(&path, |node| node.mode = mode);
            }
            Doing::Xattr(path, name, value) => self.end_xattr(&path, &name, value, outcome),
            Doing::List(path, listing) => return self.end_list(path, listing, outcome),
            Doing::Work(path, work) => return self.end_work(path, work, outcome),
            Doing::Nameless(file) => return self.end_nameless(file, outcome, client),
            Doing::Sync(shard) => return self.synced(shard, client, cluster),
            Doing::Close | Doing::Nothing => {}
        }
        Then::Nothing
    }

    fn end_xattr(&mut self, path: &str, name: &str, value: Option<Vec<u8>>, outcome: &Outcome) {
        let had = self.tree[path].xattrs.contains_key(name);
        let missing = value.is_none() && !had;
        let right = outcome.errno() == missing.then_some(Errno::ENODATA);
        self.expect(right, || format!("{name} of {path}: {:?}", outcome.reply));
        self.change(path, |node| {
            match &value {
                Some(value) => node.xattrs.insert(name.to_owned(), value.clone()),
                None => node.xattrs.remove(name),
            };
        });
    }

    fn end_list(&mut self, path: String, mut listing: Listing, outcome: &Outcome) -> Then {
        match listing.take(outcome) {
            Some(false) => {
                let (partition, op) = listing.ask();
                self.doing = Doing::List(path, listing);
                return Then::Ask(Ask::at(partition, op));
            }
            Some(true) => {
                let here = self.tree.iter().filter(|(p, _)| parent_of(p) == path);
                let all: BTreeSet<_> = here.map(|(p, n)| (name_of(p).to_owned(), n.ino)).collect();
                let count = listing.entries.len();
                let seen: BTreeSet<_> = listing.entries.into_iter().collect();
                let right = seen == all && seen.len() == count;
                self.expect(right, || format!("{path} lists {seen:?}, not {all:?}"));
            }
            None => self.expect(false, || format!("{path}: {:?}", outcome.reply)),
        }
        Then::Nothing
    }

    fn end_work(&mut self, path: String, mut work: Box<Work>, outcome: &Outcome) -> Then {
        match work.go_on(outcome, self.limited) {
            Progress::Ask(ask) => {
                self.doing = Doing::Work(path, work);
                return Then::Ask(ask);
            }
            Progress::Wrong(text) => self.expect(false, || format!("{path}: {text}")),
            Progress::Done => {
                let Some(before) = self.tree[&path].content.clone() else {
                    return Then::Nothing;
                };
                let same = work.size_before() == before.len() as u64;
                let sizes = (work.size_before(), before.len());
                self.expect(same, || format!("{path}: its size is {sizes:?}"));
                if let Change::Read(at, _) = work.change {
                    let from = before.len().min(at as usize);
                    let expected = before.get(from..from + work.read.len());
                    let right = expected == Some(&work.read[..]);
                    self.expect(right, || format!("{path}: other bytes from {at} on"));
                }
                let source = self.source_of(&work.change);
                self.change(&path, |node| {
                    if let Some(content) = &mut node.content {
                        work.change.apply(content, &source, work.landed);
                    }
                });
            }
        }
        Then::Nothing
    }

    /// What is copied from.
    fn source_of(&self, change: &Change) -> Vec<u8> {
        let Change::Copy(source, ..) = change else {
            return Vec::new();
        };
        let found = self.tree.values().find(|node| node.ino == *source);
        found
            .and_then(|node| node.content.clone())
            .unwrap_or_default()
    }

    /// Made, then written, then named or not, then closed.
    fn end_nameless(&mut self, mut file: Nameless, outcome: &Outcome, client: &mut Client) -> Then {
        let refused = self.limited && outcome.errno() == Some(Errno::EDQUOT);
        let open = file.open;
        match (&mut file.node, &outcome.reply) {
            (None, OpReply::Opened { attr, .. }) => {
                let ino = attr.ino;
                client.keep_open(ino, open);
                file.node = Some((Node::file(ino, Vec::new()), false));
                let len_bytes = file.bytes.len() as u32;
                let op = Op::Append {
                    ino,
                    len_bytes,
                    open,
                };
                let ask = Ask::with(op, file.bytes.clone());
                self.doing = Doing::Nameless(file);
                return Then::Ask(ask);
            }
            (Some((node, sent @ false)), OpReply::Written { .. } | OpReply::Errno(_)) => {
                let written = matches!(outcome.reply, OpReply::Written { .. });
                let right = written || refused;
                *sent = true;
                if written {
                    node.content = Some(file.bytes.clone());
                }
                let ino = node.ino;
                self.expect(right, || format!("{ino:?}: {:?}", outcome.reply));
                if let Some(path) = &file.path {
                    let op = Op::Link {
                        ino,
                        to: self.at(path),
                        from_open: Some(open),
                    };
                    self.doing = Doing::Nameless(file);
                    return Then::Ask(Ask::of(op));
                }
                return self.close_nameless(ino, open, client);
            }
            (Some((node, true)), OpReply::Attr(_)) => {
                let node = node.clone();
                let ino = node.ino;
                self.tree.extend(file.path.map(|path| (path, node)));
                return self.close_nameless(ino, open, client);
            }
            (node, other) => {
                let right = refused && node.is_none();
                let ino = node.as_ref().map(|(node, _)| node.ino);
                self.expect(right, || format!("a nameless file: {other:?}"));
                if let Some(ino) = ino {
                    return self.close_nameless(ino, open, client);
                }
            }
        }
        Then::Nothing
    }

    fn close_nameless(&mut self, ino: InodeId, open: OpenId, client: &mut Client) -> Then {
        client.keep_open_no_more(ino, open);
        self.doing = Doing::Close;
        Then::Ask(Ask::of(Op::Close { ino, open }))
    }

    fn expect(&mut self, right: bool, story: impl FnOnce() -> String) {
        match &mut self.safe {
            _ if right => {}
            Some(safe) => safe.surprise = Some(story()),
            None => panic!("{}", story()),
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
            let now = found.get(path).map(brief);
            assert!(kept, "{path} was synced as {} and is {now:?}", brief(node));
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
}
