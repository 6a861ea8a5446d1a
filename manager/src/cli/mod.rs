//! The command people type: `sealfs`.
//!
//! One file per verb group; each verb returns an exit code or a [`Fail`]. What must stay true:
//! codes mean 0 good, 1 failed, 2 usage, 3 degraded (`run`, `profile` and `dev run` pass on the
//! status of their program); an error is one line that names the thing and the remedy; what is refused has
//! neither written nor started anything.

mod cluster;
mod coverage;
mod detach;
mod dev;
mod doctor;
mod environment;
mod files;
mod generate;
mod keeper;
mod launch;
mod layers;
mod mount;
mod node;
mod process;
mod profile;
mod programs;
mod run;
mod signals;
mod trace;
mod units;
mod volume;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Exit code for a cluster that works with parts missing.
pub const DEGRADED: u8 = 3;

/// Why a verb failed.
#[derive(Debug)]
pub struct Fail {
    pub code: u8,
    pub text: String,
}

impl From<String> for Fail {
    fn from(text: String) -> Fail {
        Fail { code: 1, text }
    }
}

impl From<&str> for Fail {
    fn from(text: &str) -> Fail {
        text.to_owned().into()
    }
}

/// A distributed file system for unmodified programs, wholly in user space.
#[derive(Parser, Debug)]
#[command(
    name = "sealfs",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  sealfs dev run -- bash            a shell that sees /sealfs, on a cluster of its own
  sealfs dev up --servers 3         a cluster in the background
  sealfs run --volume home -- make  a program on a cluster that exists
  sealfs status

Exit codes: 0 good, 1 failed, 2 usage, 3 degraded; run, profile and dev run exit as their program does."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// A cluster of one machine, for development, tests and demos
    Dev(dev::Dev),
    /// Show the cluster: manager, servers, volumes
    Status(cluster::StatusArgs),
    /// Create, list, change and delete volumes
    Volume(volume::VolumeArgs),
    /// List servers
    Server(cluster::ServerArgs),
    /// Run a program that sees a volume of a cluster
    Run(run::Run),
    /// Run a program as `run` does, and show which calls it made and what they took
    Profile(profile::Profile),
    /// List files of a volume
    Ls(files::list::Ls),
    /// Print files of a volume
    Cat(files::show::Cat),
    /// Copy between volumes and local directories
    Cp(files::copy::Cp),
    /// Remove files of a volume
    Rm(files::remove::Rm),
    /// Make directories in a volume
    Mkdir(files::remove::Mkdir),
    /// Show what is known of files of a volume
    Stat(files::list::Stat),
    /// Show or set the size of the pieces that a directory's new files are cut into
    ChunkSize(files::layout::ChunkSize),
    /// Tell what works on this machine, and why something does not
    Doctor(doctor::Doctor),
    /// Print completions for a shell
    Completions(generate::Completions),
    /// Write manual pages
    Man(generate::Man),
    #[command(name = "__detach", hide = true)]
    Detach(detach::Detach),
    #[command(name = "__keeper", hide = true)]
    Keeper(keeper::StartKeeper),
}

/// Parses the command line and runs the verb.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.verb {
        Verb::Dev(args) => dev::run(args),
        Verb::Status(args) => cluster::status(args),
        Verb::Volume(args) => volume::run(args),
        Verb::Server(args) => cluster::server(args),
        Verb::Run(args) => run::run(args),
        Verb::Profile(args) => profile::run(args),
        Verb::Ls(args) => files::list::ls(&args),
        Verb::Cat(args) => Ok(files::show::cat(&args)),
        Verb::Cp(args) => files::copy::cp(&args),
        Verb::Rm(args) => Ok(files::remove::rm(&args)),
        Verb::Mkdir(args) => Ok(files::remove::mkdir(&args)),
        Verb::Stat(args) => files::list::stat(&args),
        Verb::ChunkSize(args) => files::layout::chunk_size(&args),
        Verb::Doctor(args) => doctor::run(args),
        Verb::Completions(args) => generate::completions(&args),
        Verb::Man(args) => generate::man(&args),
        Verb::Detach(args) => detach::run(args),
        Verb::Keeper(args) => keeper::run(&args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(fail) => {
            eprintln!("sealfs: {}", fail.text);
            ExitCode::from(fail.code)
        }
    }
}

/// Prints to standard output; a reader that went away ends the command quietly.
pub fn print(text: &str) -> Result<(), Fail> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        outcome => outcome.map_err(|e| format!("standard output: {e}").into()),
    }
}

/// Prints facts for programs.
pub fn print_json(value: &impl serde::Serialize) -> Result<(), Fail> {
    let text = serde_json::to_string_pretty(value).map_err(|e| format!("json: {e}"))?;
    print(&(text + "\n"))
}
