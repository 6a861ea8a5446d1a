//! Three shards over a network that delays and reorders, with kills in between: several clients
//! change one tree at the same time, and in the end it is what each of them was told.
//!
//! Every client works below a directory of its own and keeps a model of it, so what it must see is
//! known exactly; all of them fight besides over the names of one shared directory, where only the
//! invariants of a file system can be checked.

use std::collections::BTreeMap;

use sealfs_protocol::attr::S_IFDIR;
use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{Errno, InodeId, OpenId, TruncateGeneration};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Outcome, Random, Settings};

const O_RDWR: u32 = 2;
const O_CREAT: u32 = 0o100;

/// What a client believes to be below its directory, by path.
#[derive(Clone, Debug, PartialEq)]
enum Node {
    Dir(InodeId),
    File(InodeId, Vec<u8>),
}

struct Actor {
    client: Client,
    random: Random,
    home: InodeId,
    model: BTreeMap<String, Node>,
    /// The change to be made to the model when the request succeeds.
    doing: Doing,
    left: u32,
}

enum Doing {
    Nothing,
    Create(String),
    MakeDir(String),
    Remove(String),
    Rename(String, String),
    Link(String, String),
    Write(String, Vec<u8>),
    Close,
    Shared,
}

fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn name_of(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

impl Actor {
    fn dir(&self, path: &str) -> InodeId {
        match self.model.get(path) {
            Some(Node::Dir(ino)) => *ino,
            _ => self.home,
        }
    }

    fn pick(&mut self, matches: impl Fn(&Node) -> bool) -> Option<String> {
        let all: Vec<&String> = self
            .model
            .iter()
            .filter(|(_, n)| matches(n))
            .map(|(p, _)| p)
            .collect();
        if all.is_empty() {
            return None;
        }
        let at = self.random.below(all.len() as u64) as usize;
        Some(all[at].clone())
    }

    /// A path that is free, in a directory of the model.
    fn fresh(&mut self) -> String {
        let dir = self.pick(|n| matches!(n, Node::Dir(_))).unwrap_or_default();
        let dir = if self.random.one_in(3) {
            String::new()
        } else {
            dir
        };
        let name = format!("n{}", self.random.below(1 << 30));
        if dir.is_empty() {
            name
        } else {
            format!("{dir}/{name}")
        }
    }

    fn at(&self, path: &str) -> sealfs_protocol::message::At {
        at(self.dir(parent_of(path)), name_of(path))
    }

    fn begin(&mut self, cluster: &mut Cluster, shared: InodeId) {
        self.left -= 1;
        let (doing, op, payload) = match self.random.below(10) {
            0 | 1 => self.create(),
            2 => self.make_dir(),
            3 => self.remove(),
            4 | 5 => self.rename(),
            6 => self.link(),
            7 => self.write(),
            _ => self.fight(shared),
        };
        self.doing = doing;
        self.client.begin(cluster, op, &payload);
    }

    fn create(&mut self) -> (Doing, Op, Vec<u8>) {
        let path = self.fresh();
        let op = Op::Open {
            at: self.at(&path),
            flags: O_RDWR | O_CREAT,
            mode: 0o644,
            open: OpenId(1),
            read_bytes: 0,
        };
        (Doing::Create(path), op, Vec::new())
    }

    fn make_dir(&mut self) -> (Doing, Op, Vec<u8>) {
        let path = self.fresh();
        let op = Op::MakeDir {
            at: self.at(&path),
            mode: 0o755,
        };
        (Doing::MakeDir(path), op, Vec::new())
    }

    fn remove(&mut self) -> (Doing, Op, Vec<u8>) {
        let Some(path) = self.pick(|_| true) else {
            return self.create();
        };
        let at = self.at(&path);
        let op = match self.model[&path] {
            Node::Dir(_) => Op::RemoveDir { at },
            Node::File(..) => Op::Unlink { at },
        };
        (Doing::Remove(path), op, Vec::new())
    }

    fn rename(&mut self) -> (Doing, Op, Vec<u8>) {
        let Some(from) = self.pick(|_| true) else {
            return self.create();
        };
        let replace = self.random.one_in(3).then(|| self.pick(|_| true)).flatten();
        let to = match replace {
            Some(to) => to,
            None => self.fresh(),
        };
        let op = Op::Rename {
            from: self.at(&from),
            to: self.at(&to),
            flags: 0,
        };
        (Doing::Rename(from, to), op, Vec::new())
    }

    fn link(&mut self) -> (Doing, Op, Vec<u8>) {
        let Some(from) = self.pick(|n| matches!(n, Node::File(..))) else {
            return self.create();
        };
        let to = self.fresh();
        let Node::File(ino, _) = self.model[&from] else {
            return self.create();
        };
        let op = Op::Link {
            ino,
            to: self.at(&to),
            from_open: None,
        };
        (Doing::Link(from, to), op, Vec::new())
    }

    fn write(&mut self) -> (Doing, Op, Vec<u8>) {
        let Some(path) = self.pick(|n| matches!(n, Node::File(..))) else {
            return self.create();
        };
        let Node::File(ino, _) = self.model[&path] else {
            return self.create();
        };
        let len = 1 + self.random.below(40_000) as usize;
        let bytes = vec![self.random.below(256) as u8; len];
        let op = Op::Append {
            ino,
            len_bytes: len as u32,
            open: OpenId(1),
        };
        (Doing::Write(path, bytes.clone()), op, bytes)
    }

    /// Something in the directory that all clients fight over.
    fn fight(&mut self, shared: InodeId) -> (Doing, Op, Vec<u8>) {
        let name = |r: &mut Random| format!("s{}", r.below(4));
        let (a, b) = (name(&mut self.random), name(&mut self.random));
        let into_home = format!("moved{}", self.random.below(1 << 30));
        let op = match self.random.below(6) {
            0 | 1 => Op::MakeDir {
                at: at(shared, &a),
                mode: 0o755,
            },
            2 => Op::RemoveDir { at: at(shared, &a) },
            3 => Op::Rename {
                from: at(shared, &a),
                to: at(shared, &b),
                flags: 0,
            },
            4 => Op::Rename {
                from: at(shared, &a),
                to: at(self.home, &into_home),
                flags: 1,
            },
            _ => Op::GetAttr {
                at: at(shared, &a),
                follow: false,
            },
        };
        (Doing::Shared, op, Vec::new())
    }

    /// Takes the outcome into the model, which says what it had to be.
    fn end(&mut self, outcome: &Outcome) -> Option<Op> {
        let doing = std::mem::replace(&mut self.doing, Doing::Nothing);
        let errno = outcome.errno();
        match doing {
            Doing::Create(path) => {
                let ino = outcome.clone().attr().ino;
                self.model.insert(path, Node::File(ino, Vec::new()));
                self.doing = Doing::Close;
                return Some(Op::Close {
                    ino,
                    open: OpenId(1),
                });
            }
            Doing::MakeDir(path) => {
                let ino = outcome.clone().attr().ino;
                self.model.insert(path, Node::Dir(ino));
            }
            Doing::Remove(path) => {
                if self.is_full(&path) {
                    assert_eq!(errno, Some(Errno::ENOTEMPTY), "{path}");
                } else {
                    assert_eq!(errno, None, "{path}");
                    self.model.remove(&path);
                }
            }
            Doing::Rename(from, to) => {
                let expected = self.expect_rename(&from, &to);
                assert_eq!(errno, expected, "{from} -> {to}");
                if errno.is_none() {
                    self.move_all(&from, &to);
                }
            }
            Doing::Link(from, to) => {
                assert_eq!(errno, None, "{from} -> {to}: {outcome:?}");
                let node = self.model[&from].clone();
                self.model.insert(to, node);
            }
            Doing::Write(path, bytes) => {
                assert!(
                    matches!(outcome.reply, OpReply::Written { .. }),
                    "{outcome:?}"
                );
                let Node::File(written, _) = self.model[&path] else {
                    panic!("only files are written");
                };
                for node in self.model.values_mut() {
                    if let Node::File(ino, content) = node
                        && *ino == written
                    {
                        content.extend(&bytes);
                    }
                }
            }
            Doing::Shared | Doing::Close | Doing::Nothing => {}
        }
        None
    }

    fn is_full(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.model.keys().any(|p| p.starts_with(&below))
    }

    fn expect_rename(&self, from: &str, to: &str) -> Option<Errno> {
        let (old, new) = (&self.model[from], self.model.get(to));
        let into_itself = to.starts_with(&format!("{from}/"));
        let onto_above = from.starts_with(&format!("{to}/"));
        let old_dir = matches!(old, Node::Dir(_));
        if old_dir && into_itself {
            return Some(Errno::EINVAL);
        }
        match (old, new) {
            (Node::File(a, _), Some(Node::File(b, _))) if a == b => None,
            (_, None) => None,
            (Node::Dir(a), Some(Node::Dir(b))) if a == b => None,
            (Node::Dir(_), Some(Node::File(..))) => Some(Errno::ENOTDIR),
            (Node::File(..), Some(Node::Dir(_))) => Some(Errno::EISDIR),
            (Node::Dir(_), Some(Node::Dir(_))) if onto_above || self.is_full(to) => {
                Some(Errno::ENOTEMPTY)
            }
            _ => None,
        }
    }

    fn move_all(&mut self, from: &str, to: &str) {
        let same = match (&self.model[from], self.model.get(to)) {
            (Node::File(a, _), Some(Node::File(b, _))) => a == b,
            (Node::Dir(a), Some(Node::Dir(b))) => a == b,
            _ => false,
        };
        if same {
            return;
        }
        let below = format!("{from}/");
        let moved: Vec<String> = self
            .model
            .keys()
            .filter(|p| *p == from || p.starts_with(&below))
            .cloned()
            .collect();
        for path in moved {
            let node = self.model.remove(&path).expect("it is there");
            self.model
                .insert(format!("{to}{}", &path[from.len()..]), node);
        }
    }
}

struct Run {
    cluster: Cluster,
    actors: Vec<Actor>,
    shared: InodeId,
    random: Random,
}

impl Run {
    fn new(settings: Settings, clients: u128, operations: u32) -> Run {
        let mut random = Random::new(settings.seed);
        let mut cluster = Cluster::new(settings);
        let mut first = Client::new(&mut cluster, 1, 0);
        let root = first.root(&cluster);
        let make = |first: &mut Client, cluster: &mut Cluster, name: &str| {
            let op = Op::MakeDir {
                at: at(root, name),
                mode: 0o755,
            };
            first.call(cluster, op).attr().ino
        };
        let shared = make(&mut first, &mut cluster, "shared");
        let actors = (0..clients)
            .map(|i| Actor {
                home: make(&mut first, &mut cluster, &format!("home{i}")),
                client: Client::new(&mut cluster, 100 + i, 0).with_cache(),
                random: Random::new(random.number()),
                model: BTreeMap::new(),
                doing: Doing::Nothing,
                left: operations,
            })
            .collect();
        Run {
            cluster,
            actors,
            shared,
            random,
        }
    }

    /// Runs until every client has done its operations. `kill_one_in`: of the steps of time.
    fn play(&mut self, kill_one_in: Option<u64>) {
        for actor in &mut self.actors {
            actor.begin(&mut self.cluster, self.shared);
        }
        let mut steps = 0u64;
        while self
            .actors
            .iter()
            .any(|a| !matches!(a.doing, Doing::Nothing))
        {
            steps += 1;
            assert!(steps < 5_000_000, "no progress");
            for actor in &mut self.actors {
                if matches!(actor.doing, Doing::Nothing) {
                    continue;
                }
                let Some(outcome) = actor.client.poll(&mut self.cluster) else {
                    continue;
                };
                match actor.end(&outcome) {
                    Some(next) => actor.client.begin(&mut self.cluster, next, &[]),
                    None if actor.left > 0 => actor.begin(&mut self.cluster, self.shared),
                    None => {}
                }
            }
            if kill_one_in.is_some_and(|n| self.random.one_in(n)) {
                let victim = self.random.below(self.cluster.shards() as u64) as usize;
                self.cluster.kill(victim);
                let pause = self.random.below(30_000_000);
                self.cluster.pass(pause);
                self.cluster.start(victim);
            }
            self.cluster.advance();
        }
    }

    fn check(&mut self) {
        self.cluster.pass(30_000_000_000);
        for index in 0..self.cluster.shards() {
            let core = self.cluster.core(index).expect("it is up");
            assert!(
                core.is_idle(),
                "shard {index} still has something under way"
            );
            assert_eq!(core.usage_by_partition(), core.recount_usage());
        }
        let mut reader = Client::new(&mut self.cluster, 9999, 0);
        let mut inodes = BTreeMap::new();
        for i in 0..self.actors.len() {
            let (home, model) = (self.actors[i].home, self.actors[i].model.clone());
            let mut found = BTreeMap::new();
            walk(
                &mut self.cluster,
                &mut reader,
                home,
                "",
                &mut found,
                &mut inodes,
            );
            found.retain(|path, _| !path.starts_with("moved"));
            let expected: BTreeMap<String, Node> = model;
            assert_eq!(
                found.keys().collect::<Vec<_>>(),
                expected.keys().collect::<Vec<_>>(),
                "names of client {i}"
            );
            for (path, node) in &expected {
                assert_eq!(found.get(path), Some(node), "{path} of client {i}");
            }
        }
        let mut found = BTreeMap::new();
        walk(
            &mut self.cluster,
            &mut reader,
            self.shared,
            "",
            &mut found,
            &mut inodes,
        );
    }
}

/// Reads a tree, checking what every directory says of itself.
fn walk(
    cluster: &mut Cluster,
    reader: &mut Client,
    dir: InodeId,
    prefix: &str,
    found: &mut BTreeMap<String, Node>,
    links: &mut BTreeMap<InodeId, u32>,
) {
    let entries = reader.list(cluster, dir, 4096);
    let subdirs = entries.iter().filter(|e| e.2 == S_IFDIR).count() as u32;
    let own = stat(cluster, reader, dir);
    assert_eq!(own.nlink, 2 + subdirs, "links of {prefix:?}");
    for (name, ino, kind) in entries {
        let name = String::from_utf8(name).expect("a name in UTF-8");
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}/{name}")
        };
        let attr = stat(cluster, reader, ino);
        assert!(attr.nlink > 0, "{path}");
        let up = reader.call(cluster, Op::GetPath { dir: ino });
        if kind == S_IFDIR {
            let OpReply::Ancestors { names, .. } = up.reply else {
                panic!("{up:?}");
            };
            assert_eq!(names[0], name.as_bytes());
            found.insert(path.clone(), Node::Dir(ino));
            walk(cluster, reader, ino, &path, found, links);
        } else {
            *links.entry(ino).or_default() += 1;
            let content = read_all(cluster, reader, &attr);
            found.insert(path, Node::File(ino, content));
        }
    }
}

fn stat(cluster: &mut Cluster, reader: &mut Client, ino: InodeId) -> sealfs_protocol::attr::Attr {
    let op = Op::GetAttr {
        at: at(ino, ""),
        follow: false,
    };
    reader.call(cluster, op).attr()
}

fn read_all(
    cluster: &mut Cluster,
    reader: &mut Client,
    attr: &sealfs_protocol::attr::Attr,
) -> Vec<u8> {
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
    assert_eq!(attr.generation, TruncateGeneration(0));
    all
}

fn settings(seed: u64) -> Settings {
    Settings {
        shards: 3,
        partitions: 48,
        seed,
        ..Settings::default()
    }
}

#[test]
fn one_client_sees_what_it_did_over_three_shards() {
    for seed in 0..6 {
        let mut run = Run::new(settings(seed), 1, 150);
        run.play(None);
        run.check();
    }
}

#[test]
fn clients_that_fight_leave_a_sound_tree() {
    for seed in 100..106 {
        let mut run = Run::new(settings(seed), 4, 100);
        run.play(None);
        run.check();
    }
}

#[test]
fn kills_lose_and_double_nothing() {
    for seed in 200..230 {
        let mut run = Run::new(settings(seed), 3, 80);
        run.play(Some(300));
        run.check();
    }
}
