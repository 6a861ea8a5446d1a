//! A cluster and its clients through a run: many calls while things go wrong, then calm, then the
//! judgement.

use std::collections::VecDeque;

use sealfs_protocol::message::{Op, OpReply};
use sealfs_protocol::{ClientId, InodeId, PartitionId, SessionId, hash};
use sealfs_server::core::Core;
use sealfs_testkit::audit::Audit;
use sealfs_testkit::client::at;
use sealfs_testkit::{Client, Cluster, Random};

use crate::chaos::{Chaos, Plan};
use crate::history::Histories;
use crate::home::{Home, Then};
use crate::limits;
use crate::shared::{Common, Shared, first_names};
use crate::work::Ask;
use crate::{O_CREAT, O_RDWR};

const SECOND_NS: u64 = 1_000_000_000;
/// Everybody who waits goes on this long after the last server is back, in ns.
const RECOVERY_NS: u64 = 5 * SECOND_NS;
/// Longer than opens are waited for after a restart, in ns.
const QUIET_NS: u64 = 16 * SECOND_NS;
const ADMIN: u128 = 1;
/// A client dies once in so many steps.
const DEATH_ONE_IN: u64 = 6_000;
/// What is used is compared with the quota once in so many steps.
const USE_LOOKED_AT_EVERY: u64 = 64;
const STEPS_MAX: u64 = 3_000_000;

enum Doing {
    Nothing,
    Home,
    Shared,
}

struct Actor {
    client: Client,
    random: Random,
    home: Home,
    shared: Shared,
    doing: Doing,
    left: u32,
    /// When its client last had an answer, in ns.
    heard_ns: u64,
}

pub struct Run {
    cluster: Cluster,
    actors: Vec<Actor>,
    common: Common,
    history: Histories,
    /// Orders what is asked and told.
    moments: u64,
    random: Random,
    plan: Plan,
    admin: Client,
    /// Clients whose end is to be told.
    ends: VecDeque<u128>,
    ending: Option<Op>,
    next_client: u128,
}

impl Run {
    pub fn new(plan: Plan) -> Run {
        let mut random = Random::new(plan.settings.seed ^ 0x51_7cc1);
        let mut cluster = Cluster::new(plan.settings.clone());
        let mut admin = Client::new(&mut cluster, ADMIN, 0);
        let root = admin.root(&cluster);
        let dirs: Vec<InodeId> = (0..2)
            .map(|i| make_dir(&mut admin, &mut cluster, root, &format!("shared{i}")))
            .collect();
        let files: Vec<_> = ["data", "more"]
            .into_iter()
            .zip(&dirs)
            .map(|(name, dir)| {
                (
                    (*dir, name.to_owned()),
                    make_file(&mut admin, &mut cluster, *dir, name),
                )
            })
            .collect();
        let history = Histories::new(first_names(&dirs, &files));
        let common = Common::new(dirs, files, &plan);
        let homes: Vec<InodeId> = (0..plan.clients)
            .map(|i| make_dir(&mut admin, &mut cluster, root, &format!("home{i}")))
            .collect();
        make_durable(&mut admin, &mut cluster);
        let incarnations = (0..cluster.shards()).filter_map(|i| cluster.core(i));
        let incarnations: Vec<_> = incarnations.map(Core::incarnation).collect();
        let incarnations = plan.loses().then_some(incarnations);
        let actors = (0..).zip(homes).map(|(i, home)| {
            let mut client = Client::new(&mut cluster, 100 + i, 0).with_cache();
            Actor {
                shared: Shared::new(&common, &mut client),
                client,
                random: Random::new(random.number()),
                home: Home::new(home, incarnations.clone(), plan.is_limited()),
                doing: Doing::Nothing,
                left: plan.calls,
                heard_ns: 0,
            }
        });
        Run {
            actors: actors.collect(),
            cluster,
            common,
            history,
            moments: 0,
            random,
            next_client: 100 + plan.clients,
            plan,
            admin,
            ends: VecDeque::new(),
            ending: None,
        }
    }

    /// Clients call until each has made its calls; then everything is repaired and they let go.
    pub fn play(&mut self) {
        let mut chaos = Chaos::new(&self.plan, Random::new(self.random.number()));
        let deep = crate::setting("DEEP").is_some();
        let mut steps = 0u64;
        while self.actors.iter().any(|a| a.left > 0) {
            steps += 1;
            assert!(steps < STEPS_MAX, "no progress");
            for index in 0..self.actors.len() {
                self.go_on(index, &mut chaos, false);
            }
            self.tell_ends();
            let clients = self.actors.iter().map(|a| &a.client);
            chaos.tick(&mut self.cluster, clients);
            self.cluster.advance();
            if self.plan.is_limited() && steps.is_multiple_of(USE_LOOKED_AT_EVERY) {
                limits::check_use(&self.cluster, &self.plan.settings);
            }
            if deep {
                let problems = Audit::of(&self.cluster).check_listings().problems();
                assert!(problems.is_empty(), "{problems:#?}");
            }
        }
        chaos.calm(&mut self.cluster);
        self.let_go(&mut chaos);
    }

    /// What is under way ends, each question within the time of recovery; then everything is given back.
    fn let_go(&mut self, chaos: &mut Chaos) {
        let calm_since = self.cluster.now().mono_ns;
        // Voting and deciding wait for a flush each, which slow disks do not owe to us.
        let recovery = RECOVERY_NS + 4 * self.plan.settings.disk_max_ns;
        let waits = |a: &Actor| !matches!(a.doing, Doing::Nothing) && !a.shared.waits_for_lock();
        let mut waiting: Vec<bool> = self.actors.iter().map(waits).collect();
        let mut open = self.actors.len();
        while open > 0 {
            open = 0;
            for (index, waits) in waiting.iter_mut().enumerate() {
                if self.go_on(index, chaos, true) {
                    *waits = false;
                } else {
                    open += 1;
                }
            }
            // Others may wait for the locks of clients that have died.
            self.tell_ends();
            self.cluster.advance();
            let now_ns = self.cluster.now().mono_ns;
            let overdue = |a: &Actor| now_ns > a.heard_ns.max(calm_since) + recovery;
            let blocked = waiting
                .iter()
                .zip(&self.actors)
                .any(|(w, a)| *w && overdue(a));
            assert!(!blocked, "clients are blocked: {waiting:?}");
            assert!(now_ns <= calm_since + 8 * recovery, "clients never end");
        }
    }

    fn moment(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    /// Lets a client see what has come, and do the next thing. True once it has nothing left to
    /// do: what was under way is over, and with `leaving` everything given back.
    fn go_on(&mut self, index: usize, chaos: &mut Chaos, leaving: bool) -> bool {
        let outcome = self.actors[index].client.poll(&mut self.cluster);
        let actor = &mut self.actors[index];
        if let Some(outcome) = outcome {
            actor.heard_ns = self.cluster.now().mono_ns;
            match std::mem::replace(&mut actor.doing, Doing::Nothing) {
                Doing::Shared => {
                    self.moments += 1;
                    let more = actor.shared.end(
                        &outcome,
                        self.moments,
                        &mut actor.client,
                        &mut self.common,
                        &mut self.history,
                    );
                    if let Some(ask) = more {
                        self.ask(index, ask, Doing::Shared);
                    }
                }
                Doing::Home => match actor.home.end(&outcome, &mut actor.client, &self.cluster) {
                    Then::Nothing => {}
                    Then::Ask(ask) => self.ask(index, ask, Doing::Home),
                    Then::Look => {
                        chaos.calm(&mut self.cluster);
                        self.look(index);
                    }
                },
                Doing::Nothing => {}
            }
        }
        let actor = &mut self.actors[index];
        match actor.doing {
            // Who has nothing left to do lets go, since others may wait for it.
            Doing::Nothing if leaving || actor.left == 0 => return self.give_back(index),
            Doing::Nothing => self.begin(index),
            Doing::Shared if self.plan.deaths && self.random.one_in(DEATH_ONE_IN) && !leaving => {
                self.die(index);
            }
            _ => {}
        }
        false
    }

    fn begin(&mut self, index: usize) {
        let begun = self.moment();
        let actor = &mut self.actors[index];
        actor.left -= 1;
        if actor.random.one_in(3) {
            let ask = actor
                .home
                .begin(&mut actor.random, &mut actor.client, &self.cluster);
            return self.ask(index, ask, Doing::Home);
        }
        let (random, client) = (&mut actor.random, &mut actor.client);
        let asked = actor.shared.begin(random, &self.common, client);
        actor.shared.send(asked, begun, client, &mut self.cluster);
        actor.doing = Doing::Shared;
    }

    fn ask(&mut self, index: usize, ask: Ask, doing: Doing) {
        let actor = &mut self.actors[index];
        actor.doing = doing;
        match ask.partition {
            Some(partition) => {
                actor
                    .client
                    .begin_at(&mut self.cluster, partition, ask.op, &ask.payload);
            }
            None => actor.client.begin(&mut self.cluster, ask.op, &ask.payload),
        }
    }

    /// Whether nothing is left to be given back.
    fn give_back(&mut self, index: usize) -> bool {
        let begun = self.moment();
        let actor = &mut self.actors[index];
        let Some(asked) = actor.shared.drain(&actor.client) else {
            return true;
        };
        let client = &mut actor.client;
        actor.shared.send(asked, begun, client, &mut self.cluster);
        actor.doing = Doing::Shared;
        false
    }

    /// A client is killed in the middle of a call; another one takes its place.
    fn die(&mut self, index: usize) {
        let now = self.moment();
        let fresh = self.next_client;
        self.next_client += 1;
        let actor = &mut self.actors[index];
        actor.client.die(&mut self.cluster);
        let (client, common) = (&actor.client, &self.common);
        actor.shared.die(client, now, common, &mut self.history);
        self.ends.push_back(client.id.0);
        actor.client = Client::new(&mut self.cluster, fresh, 0).with_cache();
        actor.shared = Shared::new(&self.common, &mut actor.client);
        actor.doing = Doing::Nothing;
    }

    /// The node of dead clients tells of their ends.
    fn tell_ends(&mut self) {
        if self.ending.is_some() && self.admin.poll(&mut self.cluster).is_none() {
            return;
        }
        self.ending = match self.ending.take() {
            Some(Op::EndClient { client }) => Some(Op::EndSession {
                session: session_of(client),
            }),
            _ => self.ends.pop_front().map(|id| Op::EndClient {
                client: ClientId(id),
            }),
        };
        if let Some(op) = self.ending.clone() {
            let home = home_of(&op, &self.cluster);
            self.admin.begin_at(&mut self.cluster, home, op, &[]);
        }
    }

    fn look(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        actor.home.look(&mut self.cluster, &mut actor.client);
    }

    /// What must hold once nothing is under way.
    pub fn judge(&mut self) {
        for index in 0..self.actors.len() {
            self.look(index);
        }
        while self.ending.is_some() || !self.ends.is_empty() {
            self.tell_ends();
            self.cluster.advance();
        }
        for actor in &self.actors {
            self.ends.push_back(actor.client.id.0);
        }
        self.ends.push_back(ADMIN);
        self.admin = Client::new(&mut self.cluster, ADMIN + 1, 0);
        while self.ending.is_some() || !self.ends.is_empty() {
            self.tell_ends();
            self.cluster.advance();
        }
        self.cluster.pass(QUIET_NS);
        for index in 0..self.cluster.shards() {
            let core = self.cluster.core(index).expect("it is up");
            assert!(core.is_idle(), "shard {index} has something under way");
            assert_eq!(core.usage_by_partition(), core.recount_usage());
        }
        let mut audit = Audit::of(&self.cluster).check_tree().check_rest();
        if !self.plan.loses() {
            audit = audit.check_chunks();
        }
        let problems = audit.problems();
        assert!(problems.is_empty(), "{problems:#?}");
        if !self.plan.loses() {
            self.history.judge();
        }
        if self.plan.is_limited() {
            limits::try_edges(&mut self.cluster);
        }
    }

    pub fn calls(&self) -> usize {
        self.history.calls()
    }
}

/// As [`Client::new`] pairs them.
fn session_of(client: ClientId) -> SessionId {
    SessionId(client.0 | 1 << 64)
}

/// What was made so far survives every power cut: a slow device may owe its flush for seconds.
fn make_durable(admin: &mut Client, cluster: &mut Cluster) {
    for shard in 0..cluster.shards() {
        let mut partitions = (0..cluster.ring().partitions()).map(PartitionId);
        let partition = partitions.find(|p| cluster.owner(*p) == shard);
        admin.begin_at(cluster, partition.expect("each owns some"), Op::SyncFs, &[]);
        assert_eq!(admin.finish(cluster).errno(), None);
    }
}

fn home_of(op: &Op, cluster: &Cluster) -> PartitionId {
    let partitions = cluster.ring().partitions();
    match op {
        Op::EndClient { client } => hash::client_home(*client, partitions),
        Op::EndSession { session } => hash::session_home(*session, partitions),
        _ => PartitionId(0),
    }
}

fn make_dir(client: &mut Client, cluster: &mut Cluster, dir: InodeId, name: &str) -> InodeId {
    let op = Op::MakeDir {
        at: at(dir, name),
        mode: 0o755,
    };
    client.call(cluster, op).attr().ino
}

fn make_file(client: &mut Client, cluster: &mut Cluster, dir: InodeId, name: &str) -> InodeId {
    let open = client.fresh_open();
    let op = Op::Open {
        at: at(dir, name),
        flags: O_RDWR | O_CREAT,
        mode: 0o644,
        open,
        read_bytes: 0,
    };
    let ino = client.call(cluster, op).attr().ino;
    let closed = client.call(cluster, Op::Close { ino, open });
    assert_eq!(closed.reply, OpReply::Done);
    ino
}
