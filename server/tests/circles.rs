//! Circles of processes that wait for record locks of several shards: one of each ends with EDEADLK,
//! the wait that closed it, and nothing else does.

use sealfs_protocol::message::{LockOwner, LockRange, LockSpace, LockType, Op, OpReply};
use sealfs_protocol::{Errno, InodeId, OpenId};
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Outcome, Settings};

const O_RDWR_CREAT: u32 = 0o102;
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// A cluster, clients, and for each client a file on a shard of its own, as far as there are shards.
struct Field {
    cluster: Cluster,
    clients: Vec<Client>,
    files: Vec<InodeId>,
}

impl Field {
    fn new(shards: u32, clients: usize, seed: u64) -> Field {
        let mut cluster = Cluster::new(Settings {
            shards,
            partitions: 48,
            seed,
            ..Settings::default()
        });
        let ids = 1..=clients as u128;
        let mut clients: Vec<Client> = ids.map(|id| Client::new(&mut cluster, id, 0)).collect();
        let files = files_on_all(&mut cluster, &mut clients[0]);
        let files = files.into_iter().cycle().take(clients.len()).collect();
        Field {
            cluster,
            clients,
            files,
        }
    }

    /// Byte `file / shards` of the file, so that each index is a lock of its own.
    fn range(&self, client: usize, file: usize, kind: LockType) -> LockRange {
        let byte = (file / self.cluster.shards()) as u64;
        LockRange {
            space: LockSpace::Record,
            owner: LockOwner::Process {
                client: self.clients[client].id,
                session: self.clients[client].session,
            },
            kind,
            start: byte,
            last: byte,
            pid: client as u32,
        }
    }

    fn begin(&mut self, client: usize, file: usize, range: LockRange, wait: Option<u32>) {
        let ino = self.files[file];
        let op = Op::Lock { ino, range, wait };
        self.clients[client].begin(&mut self.cluster, op, &[]);
    }

    fn hold(&mut self, client: usize, file: usize) {
        let range = self.range(client, file, LockType::Write);
        self.begin(client, file, range, None);
        let done = self.clients[client].finish(&mut self.cluster);
        assert_eq!(done.reply, OpReply::Done);
    }

    fn wait(&mut self, client: usize, file: usize) {
        let range = self.range(client, file, LockType::Write);
        self.begin(client, file, range, Some(0));
    }

    /// Its server has forgotten that it waits, and is asked once more.
    fn wait_again(&mut self, client: usize, file: usize, waited_ms: u32) {
        let range = self.range(client, file, LockType::Write);
        self.begin(client, file, range, Some(waited_ms));
    }

    fn release(&mut self, client: usize, file: usize) {
        let range = self.range(client, file, LockType::Unlock);
        self.begin(client, file, range, None);
        self.clients[client].finish(&mut self.cluster);
    }

    /// Frames that the first shard has taken.
    fn requests(&self) -> u64 {
        self.cluster.core(0).map_or(0, |c| c.counters().requests)
    }

    /// Lets time pass; what has come of each client's call.
    fn outcomes(&mut self, ns: u64) -> Vec<Option<Outcome>> {
        let mut all: Vec<Option<Outcome>> = self.clients.iter().map(|_| None).collect();
        let until = self.cluster.now().mono_ns + ns;
        while self.cluster.now().mono_ns < until {
            self.cluster.advance();
            for (client, found) in self.clients.iter_mut().zip(&mut all) {
                let outcome = client.poll(&mut self.cluster);
                *found = found.take().or(outcome);
            }
        }
        all
    }

    /// The same; those whose wait was a circle's last, and those who have got their lock.
    fn ended(&mut self, ns: u64) -> (Vec<usize>, Vec<usize>) {
        let outcomes = self.outcomes(ns).into_iter().enumerate();
        let outcomes = outcomes.filter_map(|(i, outcome)| Some((i, outcome?)));
        let (mut refused, mut got) = (Vec::new(), Vec::new());
        for (client, outcome) in outcomes {
            match outcome.reply {
                OpReply::Errno(Errno::EDEADLK) => refused.push(client),
                OpReply::Done => got.push(client),
                other => panic!("{client}: {other:?}"),
            }
        }
        (refused, got)
    }
}

/// Files of which the n-th lies on the n-th shard.
fn files_on_all(cluster: &mut Cluster, client: &mut Client) -> Vec<InodeId> {
    let mut found = vec![None; cluster.shards()];
    let root = client.root(cluster);
    for n in 0..200 {
        let dir = client.call(
            cluster,
            Op::MakeDir {
                at: at(root, &format!("d{n}")),
                mode: 0o755,
            },
        );
        let dir = dir.attr().ino;
        let op = Op::Open {
            at: at(dir, "f"),
            flags: O_RDWR_CREAT,
            mode: 0o644,
            open: OpenId(1),
            read_bytes: 0,
        };
        let shard = cluster.owner(dir.partition());
        if found[shard].is_none() {
            found[shard] = Some(client.call(cluster, op).attr().ino);
        }
    }
    let found: Vec<InodeId> = found.into_iter().flatten().collect();
    assert_eq!(found.len(), cluster.shards());
    found
}

#[test]
fn the_wait_that_closes_a_circle_over_two_shards_is_refused() {
    let mut field = Field::new(2, 2, 1);
    field.hold(0, 0);
    field.hold(1, 1);
    field.wait(0, 1);
    assert_eq!(field.ended(SECOND), (vec![], vec![]));
    field.wait(1, 0);
    assert_eq!(field.ended(SECOND), (vec![1], vec![]));
    // It holds what it held: the other goes on waiting until that is given back.
    field.release(1, 1);
    assert_eq!(field.ended(SECOND), (vec![], vec![0]));
}

#[test]
fn a_circle_over_many_shards_and_processes_is_found_whoever_closes_it() {
    for last in 0..5 {
        let mut field = Field::new(3, 5, 2);
        for client in 0..5 {
            field.hold(client, client);
        }
        for client in (0..5).filter(|c| *c != last) {
            field.wait(client, (client + 1) % 5);
        }
        assert_eq!(field.ended(SECOND), (vec![], vec![]));
        field.wait(last, (last + 1) % 5);
        assert_eq!(field.ended(SECOND), (vec![last], vec![]), "last {last}");
    }
}

#[test]
fn of_a_circle_whose_waits_begin_at_once_exactly_one_is_refused() {
    for seed in 0..40 {
        let (shards, clients) = (2 + seed as u32 % 2, 2 + seed as usize % 4);
        let mut field = Field::new(shards, clients, seed);
        for client in 0..clients {
            field.hold(client, client);
        }
        for client in 0..clients {
            field.wait(client, (client + 1) % clients);
            field.cluster.pass(seed * 37 % 400 * 1_000);
        }
        let (refused, got) = field.ended(3 * SECOND);
        assert_eq!(
            (refused.len(), got.len()),
            (1, 0),
            "seed {seed}: {refused:?}"
        );
    }
}

#[test]
fn two_circles_that_close_at_once_lose_one_wait_each() {
    let mut field = Field::new(2, 4, 4);
    for client in 0..4 {
        field.hold(client, client);
    }
    for client in 0..4 {
        field.wait(client, client ^ 1);
    }
    let (refused, got) = field.ended(2 * SECOND);
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_ne!(refused[0] ^ 1, refused[1], "one of each");
    assert!(got.is_empty());
}

#[test]
fn a_queue_is_no_circle_and_a_wait_that_was_taken_back_closes_none() {
    let mut field = Field::new(3, 4, 5);
    for client in 0..3 {
        field.hold(client, client);
    }
    field.wait(0, 1);
    field.wait(1, 2);
    field.wait(3, 0);
    assert_eq!(field.ended(2 * SECOND), (vec![], vec![]));
    field.clients[1].die(&mut field.cluster);
    let client = field.clients[1].id;
    let home = sealfs_protocol::hash::client_home(client, field.cluster.ring().partitions());
    let mut keeper = Client::new(&mut field.cluster, 99, 0);
    keeper.begin_at(&mut field.cluster, home, Op::EndClient { client }, &[]);
    assert_eq!(keeper.finish(&mut field.cluster).reply, OpReply::Done);
    let (refused, got) = field.ended(SECOND);
    assert_eq!((refused, got), (vec![], vec![0]));
}

#[test]
fn descriptions_that_wait_for_each_other_wait() {
    for space in [LockSpace::Record, LockSpace::Flock] {
        let mut field = Field::new(2, 2, 6);
        let range = |field: &Field, client: usize| LockRange {
            space,
            owner: LockOwner::Description {
                session: field.clients[client].session,
                open: OpenId(7),
            },
            ..field.range(client, 0, LockType::Write)
        };
        for client in 0..2 {
            let range = range(&field, client);
            field.begin(client, client, range, None);
            let done = field.clients[client].finish(&mut field.cluster);
            assert_eq!(done.reply, OpReply::Done);
        }
        for client in 0..2 {
            let range = range(&field, client);
            field.begin(client, 1 - client, range, Some(0));
        }
        assert_eq!(field.ended(2 * SECOND), (vec![], vec![]), "{space:?}");
    }
}

#[test]
fn a_circle_is_found_though_a_shard_was_away_or_restarted() {
    for restart in [false, true] {
        let mut field = Field::new(3, 3, 7);
        for client in 0..3 {
            field.hold(client, client);
        }
        field.wait(0, 1);
        field.wait(1, 2);
        assert_eq!(field.ended(SECOND), (vec![], vec![]));
        // A shard that has nothing to do with the last wait, but a part of the circle.
        if restart {
            field.cluster.kill(1);
        } else {
            field.cluster.stop_for(1, 5 * SECOND);
        }
        field.wait(2, 0);
        assert_eq!(field.ended(4 * SECOND), (vec![], vec![]));
        if restart {
            field.cluster.start(1);
        }
        let (refused, got) = field.ended(20 * SECOND);
        assert_eq!((refused.len(), got.len()), (1, 0), "restart: {restart}");
    }
}

#[test]
fn a_lock_that_is_soon_free_costs_no_search() {
    let mut field = Field::new(3, 2, 8);
    field.hold(0, 0);
    field.release(1, 0);
    field.cluster.pass(SECOND);
    let searches = |field: &Field| -> u64 {
        let cores = (0..3).filter_map(|i| field.cluster.core(i));
        cores.map(|c| c.counters().lock_searches).sum()
    };
    let before = field.requests();
    field.wait(1, 0);
    while field.requests() == before {
        field.cluster.advance();
    }
    field.release(0, 0);
    assert_eq!(field.ended(20 * MS), (vec![], vec![1]));
    assert_eq!(searches(&field), 0);
    field.wait(0, 0);
    assert_eq!(field.ended(SECOND), (vec![], vec![]));
    assert_eq!(searches(&field), 1, "one is enough for a wait that stays");
}

#[test]
fn a_wait_that_was_there_before_the_restart_of_its_server_is_not_the_one_that_closes_a_circle() {
    for (shards, seed) in [(1, 1), (3, 1), (3, 2), (3, 3)] {
        let mut field = Field::new(shards, 3, seed);
        (0..3).for_each(|n| field.hold(n, n));
        // 0 waits for 1, and 1 for 2, when the server of one of them is restarted; meanwhile 2 closes
        // the circle.
        for client in [1, 2] {
            field.wait(client, (client + 1) % 3);
            assert_eq!(field.ended(SECOND), (vec![], vec![]));
        }
        field.wait_again(0, 1, 5_000);
        assert_eq!(field.ended(5 * SECOND), (vec![2], vec![]), "{shards}");
        field.release(2, 2);
        assert_eq!(field.ended(SECOND), (vec![], vec![1]));
        field.release(1, 1);
        assert_eq!(field.ended(SECOND), (vec![], vec![0]));
    }
}
