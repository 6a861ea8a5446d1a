//! What goes wrong in a run, and when.

use sealfs_protocol::manager::Durability;
use sealfs_server::meta::Limits;
use sealfs_testkit::{Client, Cluster, Place, Random, Settings};

const MS: u64 = 1_000_000;

/// What kinds of things go wrong, chosen by the seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub settings: Settings,
    pub clients: u128,
    /// Calls of each client.
    pub calls: u32,
    kills: bool,
    power_cuts: bool,
    broken_connections: bool,
    partitions: bool,
    stops: bool,
    pub deaths: bool,
    /// Something goes wrong once in so many steps.
    one_in: u64,
}

impl Plan {
    pub fn of(seed: u64, calls: u32) -> Plan {
        let mut random = Random::new(seed ^ 0x9e37);
        let mut coin = |n| random.one_in(n);
        let power_cuts = coin(3);
        let always = coin(4);
        let (kills, broken_connections) = (coin(2), coin(2));
        let (partitions, stops, deaths) = (coin(3), coin(4), coin(3));
        let (slow_frames, batches, slow_disks) = (coin(2), coin(2), coin(12));
        let limits = Limits {
            flush_after_ns: (1 + random.below(300)) * MS,
            commit_bytes: 8 << 10 << random.below(8),
            commit_after_ns: (5 + random.below(1_000)) * MS,
            ..Limits::default()
        };
        let split_entries = random.one_in(2).then(|| 2 + random.below(6));
        let limited = random.one_in(4);
        let mut quota = |least, more| {
            if limited {
                least + random.below(more)
            } else {
                0
            }
        };
        let (quota_bytes, quota_inodes) = (quota(100_000, 4_000_000), quota(16, 80));
        Plan {
            settings: Settings {
                shards: 3 + random.below(3) as u32,
                partitions: 48,
                seed,
                durability: if always {
                    Durability::Always
                } else {
                    Durability::Fsync
                },
                slow_frames,
                batches,
                disk_max_ns: if slow_disks {
                    2_500 * MS
                } else {
                    (1 + random.below(30)) * MS / 10
                },
                skew_max_ns: random.below(50) * MS,
                limits,
                split_entries,
                quota_bytes,
                quota_inodes,
                trace: crate::setting("TRACE").is_some(),
                ..Settings::default()
            },
            clients: 4,
            calls,
            kills,
            power_cuts,
            broken_connections,
            partitions,
            stops,
            deaths,
            one_in: 100 + random.below(500),
        }
    }

    /// Whether there is a quota.
    pub fn is_limited(&self) -> bool {
        self.settings.quota_inodes > 0
    }

    /// Whether something acknowledged may be lost.
    pub fn loses(&self) -> bool {
        self.power_cuts && self.settings.durability != Durability::Always
    }
}

enum Repair {
    Start(usize),
    Heal,
}

/// Makes things go wrong, and right again.
pub struct Chaos {
    plan: Plan,
    random: Random,
    repairs: Vec<(u64, Repair)>,
}

impl Chaos {
    pub fn new(plan: &Plan, random: Random) -> Chaos {
        Chaos {
            plan: plan.clone(),
            random,
            repairs: Vec::new(),
        }
    }

    /// Called again and again while time passes.
    pub fn tick<'a>(&mut self, cluster: &mut Cluster, clients: impl Iterator<Item = &'a Client>) {
        let now = cluster.now().mono_ns;
        let (due, later) = std::mem::take(&mut self.repairs)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.repairs = later;
        let due: Vec<(u64, Repair)> = due;
        for (_, repair) in due {
            repair.carry_out(cluster);
        }
        if !self.random.one_in(self.plan.one_in) {
            return;
        }
        let clients: Vec<Place> = clients.map(Client::place).collect();
        match self.random.below(5) {
            0 if self.plan.kills => self.fell(cluster, false),
            1 if self.plan.power_cuts => self.fell(cluster, true),
            2 if self.plan.broken_connections => {
                let standing = cluster.net().standing();
                for _ in 0..=self.random.below(3) {
                    let at = self.random.below(standing.len() as u64 + 1) as usize;
                    if let Some(conn) = standing.get(at) {
                        cluster.cut(*conn);
                    }
                }
            }
            3 if self.plan.partitions => self.part(cluster, &clients),
            4 if self.plan.stops => {
                let shard = self.random.below(cluster.shards() as u64) as usize;
                let ns = self.short_or_long(3_000 * MS);
                cluster.stop_for(shard, ns);
            }
            _ => {}
        }
    }

    /// Mostly some ms, now and then much longer.
    fn short_or_long(&mut self, long_ns: u64) -> u64 {
        if self.random.one_in(8) {
            self.random.below(long_ns)
        } else {
            self.random.below(30 * MS)
        }
    }

    /// One shard goes down, or several, or all.
    fn fell(&mut self, cluster: &mut Cluster, power: bool) {
        let shards = cluster.shards() as u64;
        let count = match self.random.below(6) {
            0 => shards,
            1 => 1 + self.random.below(shards),
            _ => 1,
        };
        let first = self.random.below(shards);
        for shard in (0..count).map(|i| ((first + i) % shards) as usize) {
            if !cluster.is_up(shard) {
                continue;
            }
            if power {
                cluster.power_cut(shard);
            } else {
                cluster.kill(shard);
            }
            let at = cluster.now().mono_ns + self.short_or_long(1_500 * MS);
            self.repairs.push((at, Repair::Start(shard)));
        }
    }

    fn part(&mut self, cluster: &mut Cluster, clients: &[Place]) {
        let shards = cluster.shards() as u64;
        for _ in 0..=self.random.below(2 * shards) {
            let a = Place::Shard(self.random.below(shards) as usize);
            let b = match clients.get(self.random.below(2 * clients.len() as u64) as usize) {
                Some(client) => *client,
                None => Place::Shard(self.random.below(shards) as usize),
            };
            cluster.net().part(a, b);
        }
        let at = cluster.now().mono_ns + self.short_or_long(5_000 * MS);
        self.repairs.push((at, Repair::Heal));
    }

    /// Everything is repaired, and nothing more goes wrong.
    pub fn calm(&mut self, cluster: &mut Cluster) {
        for (_, repair) in std::mem::take(&mut self.repairs) {
            repair.carry_out(cluster);
        }
        for shard in 0..cluster.shards() {
            cluster.stop_for(shard, 0);
        }
    }
}

impl Repair {
    fn carry_out(self, cluster: &mut Cluster) {
        match self {
            Repair::Start(shard) => cluster.start(shard),
            Repair::Heal => cluster.net().heal(),
        }
    }
}
