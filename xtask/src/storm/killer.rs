//! The thread that kills a random server now and then, starts it again, and looks whether it serves.

use super::probe::Probe;
use crate::c_tests::Total;
use crate::cluster::Cluster;
use std::io;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// Longest time that a killed server stays away before it is started again.
const AWAY_MAX: Duration = Duration::from_secs(1);
/// Longest time after its start in which a server serves all that is asked of it.
const RECOVERY_MAX: Duration = Duration::from_secs(5);

#[derive(Clone, Copy)]
pub struct Rhythm {
    pub seed: u32,
    /// From one kill to the next.
    pub every: Duration,
    pub servers: usize,
}

pub struct Killer<'scope> {
    stop: Sender<()>,
    thread: ScopedJoinHandle<'scope, Total>,
}

impl<'scope> Killer<'scope> {
    pub fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        root: &Path,
        cluster: &'env Cluster,
        rhythm: Rhythm,
    ) -> io::Result<Self> {
        let probe = Probe::start(root, cluster)?;
        let (stop, stopped) = channel();
        let thread = scope.spawn(move || kill_all_along(cluster, rhythm, probe, &stopped));
        Ok(Self { stop, thread })
    }

    /// Ends it with all servers up; what it has found counts.
    pub fn stop(self) -> Total {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| Total::of(false))
    }
}

fn kill_all_along(
    cluster: &Cluster,
    rhythm: Rhythm,
    mut probe: Probe,
    stopped: &Receiver<()>,
) -> Total {
    let mut random = Random(u64::from(rhythm.seed));
    let away_max = AWAY_MAX.min(rhythm.every / 2);
    let (mut kills, mut problems) = (0, 0);
    let mut slowest = Duration::ZERO;
    let mut next = Instant::now();
    loop {
        next += rhythm.every;
        let pause = next.saturating_duration_since(Instant::now());
        if stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        let server = format!("server-{}", random.below(rhythm.servers as u64));
        let away = Duration::from_millis(random.below(away_max.as_millis() as u64 + 1));
        kills += 1;
        match kill_once(cluster, &server, away, &mut probe, stopped) {
            Ok(took) => slowest = slowest.max(took),
            Err(error) => {
                println!("FAIL storm kill {kills}, {server} away for {away:?}: {error}");
                problems += 1;
            }
        }
    }
    println!("storm: {kills} kills, slowest recovery {slowest:?}");
    Total {
        passed: usize::from(problems == 0 && kills > 0),
        failed: problems,
    }
}

/// Returns how long it took, once the server was started, until the probe had its answers.
fn kill_once(
    cluster: &Cluster,
    server: &str,
    away: Duration,
    probe: &mut Probe,
    stopped: &Receiver<()>,
) -> io::Result<Duration> {
    cluster.kill(server)?;
    // Told to stop in the meantime it starts the server at once.
    let _ = stopped.recv_timeout(away);
    let start = Instant::now();
    cluster.start(server)?;
    probe.look(start + RECOVERY_MAX)?;
    Ok(start.elapsed())
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit.max(1)
    }
}
