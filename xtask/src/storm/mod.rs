//! Suites while servers die: three servers, of which a random one is killed (SIGKILL) and started again every few
//! seconds. Whatever passes without must pass with it, and a server that is back must soon serve again.
//!
//! What must stay true: who is killed when follows from the seed, which is printed first; a kill that failed, or a
//! server that does not serve again in time, counts as a failure like one of the suite's own; so does a file that
//! is not gone after all names were removed.

mod killer;
mod leftovers;
mod probe;

use crate::c_tests::{self, Total, target_folder};
use crate::cluster::Cluster;
use crate::public::{fsx, pjdfstest};
use crate::suite::counted;
use clap::{Args, ValueEnum};
use killer::{Killer, Rhythm};
use leftovers::Witness;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SERVERS: usize = 3;
/// Seconds a c-test may take: it waits for the servers that its steps need, one after the other.
const TIME_LIMIT_S: u32 = 90;

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    CTests,
    Pjdfstest,
    Fsx,
}

#[derive(Args, Clone)]
pub struct Options {
    /// Suites to run, in this order (default: all)
    #[arg(long, value_enum, value_delimiter = ',')]
    pub suites: Vec<Suite>,
    /// What the kills follow from, and the operations of fsx (default: the time)
    #[arg(long)]
    pub seed: Option<u32>,
    /// Milliseconds from one kill to the next
    #[arg(long, default_value_t = 5_000)]
    pub every: u64,
    /// How often each suite runs; fsx with another seed each time
    #[arg(long, default_value_t = 1)]
    pub rounds: u32,
    /// Operations of one run of fsx
    #[arg(long, default_value_t = 20_000)]
    pub operations: u64,
    /// Only c-tests whose FAMILY/NAME contains this text
    #[arg(long, default_value = "")]
    pub filter: String,
    /// Run this instead, with SEALFS_ROOT and SEALFS_WRAP as the scripts of c-tests get them
    #[arg(last = true)]
    pub command: Vec<String>,
}

pub fn run(root: &Path, options: &Options) -> io::Result<bool> {
    let total = exercise(root, options)?;
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0 && total.passed > 0)
}

/// Runs what was chosen; each suite has a cluster of its own.
pub fn exercise(root: &Path, options: &Options) -> io::Result<Total> {
    let seed = options.seed.unwrap_or_else(seed_of_the_time);
    let every = options.every;
    println!("storm: seed {seed}, a server killed every {every} ms");
    let rhythm = Rhythm {
        seed,
        every: Duration::from_millis(every),
        servers: SERVERS,
    };
    let mut total = Total::default();
    if !options.command.is_empty() {
        let work = |cluster: &Cluster| command_on(root, options, cluster);
        total.add(under_kills(root, &[], rhythm, &work)?);
        return Ok(total);
    }
    let all = [Suite::CTests, Suite::Pjdfstest, Suite::Fsx];
    let chosen = if options.suites.is_empty() {
        &all[..]
    } else {
        &options.suites
    };
    for suite in chosen {
        let work = |cluster: &Cluster| suite_on(root, *suite, options, seed, cluster);
        total.add(under_kills(root, more_options(*suite), rhythm, &work)?);
    }
    Ok(total)
}

fn seed_of_the_time() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(1, |now| now.as_secs() as u32)
}

/// fsx needs small chunks: one operation then goes to several servers.
fn more_options(suite: Suite) -> &'static [&'static str] {
    match suite {
        Suite::Fsx => &["--chunk-size", "64K"],
        Suite::CTests | Suite::Pjdfstest => &[],
    }
}

fn under_kills(
    root: &Path,
    more: &[&str],
    rhythm: Rhythm,
    work: &dyn Fn(&Cluster) -> io::Result<Total>,
) -> io::Result<Total> {
    let cluster = Cluster::up_for_tests(&target_folder(root), SERVERS, more)?;
    std::thread::scope(|scope| {
        let killer = Killer::start(scope, root, &cluster, rhythm)?;
        let _witness = Witness::start(&cluster)?;
        let worked = work(&cluster);
        let mut total = killer.stop();
        total.add(worked?);
        let clean = leftovers::look(&cluster);
        if let Err(error) = &clean {
            println!("FAIL storm leftovers: {error}");
        }
        total.add(Total::of(clean.is_ok()));
        Ok(total)
    })
}

fn suite_on(
    root: &Path,
    suite: Suite,
    options: &Options,
    seed: u32,
    cluster: &Cluster,
) -> io::Result<Total> {
    let mut total = Total::default();
    for round in 0..options.rounds {
        let wrap = cluster.prefix().to_owned();
        total.add(match suite {
            Suite::CTests => {
                let options = c_tests::Options {
                    root: Some(cluster.folder("c-tests")),
                    wrap,
                    filter: options.filter.clone(),
                    jobs: 2,
                    cc: c_tests::COMPILER.to_owned(),
                    time_limit: TIME_LIMIT_S,
                    local: None,
                    verbose: false,
                };
                c_tests::compare_all(root, &options)?
            }
            Suite::Pjdfstest => {
                let folder = cluster.new_folder(&format!("pjdfstest-{round}"))?;
                let options = pjdfstest::Options {
                    root: Some(folder),
                    wrap,
                };
                pjdfstest::compare(root, &options)?
            }
            Suite::Fsx => {
                let options = fsx::Options {
                    root: Some(cluster.new_folder(&format!("fsx-{round}"))?),
                    wrap,
                    operations: options.operations,
                    seed: seed.wrapping_add(round),
                };
                fsx::exercise(root, &options)?
            }
        });
    }
    Ok(total)
}

fn command_on(root: &Path, options: &Options, cluster: &Cluster) -> io::Result<Total> {
    cluster.new_folder(Cluster::SCRIPTS)?;
    let mut total = Total::default();
    for _ in 0..options.rounds {
        let mut command = Command::new(&options.command[0]);
        cluster.describe_to(command.args(&options.command[1..]));
        let counted = counted(root, &mut command)?;
        // A command that counts nothing is one test.
        if counted.passed + counted.failed == 0 {
            total.add(Total::of(true));
        }
        total.add(counted);
    }
    Ok(total)
}
