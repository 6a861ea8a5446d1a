//! `sealfs profile`: a program as under `run`, and afterwards a table of the calls that it and everything it
//! started have made: whose they were, what they took and moved.
//!
//! The processes count in memory that they share with this one (`sealfs_client::node::profile`): here it is
//! made, read when the program has ended, and removed.

use super::Fail;
use super::launch::launch;
use super::node::NodePlace;
use super::run::Where;
use super::signals::Caught;
use super::units::{show_size, show_time};
use clap::Args;
use sealfs_client::node::profile::{FILE_NAME, Profile as Counters, Totals, Why};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  sealfs profile -- make -C /sealfs/project
  sealfs profile --output calls.txt -- python3 train.py /sealfs/data
  sealfs profile --json -o calls.json --volume home -- cp -r /sealfs/a /sealfs/b

The table goes to standard error unless --output names a file. Times are those of the calls that the
library answered; a figure is at most 3.2 % off. The exit code is the program's.")]
pub struct Profile {
    #[command(flatten)]
    on: Where,
    /// Write to this file instead of standard error
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print JSON, times in ns
    #[arg(long)]
    json: bool,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// The counters of this process's command; gone with it.
struct Counted {
    counters: Counters,
    path: PathBuf,
}

impl Counted {
    fn new(place: &NodePlace) -> Result<Counted, Fail> {
        remove_left(Path::new(&place.path()));
        let pid = std::process::id();
        let counters = Counters::create(&place.runtime, pid).map_err(|e| e.to_string())?;
        let path = Counters::path(&place.runtime, pid);
        let path = Path::new(OsStr::from_bytes(path.as_bytes())).to_path_buf();
        Ok(Counted { counters, path })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        // What is left, the next one removes.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the counters of commands that were killed.
fn remove_left(runtime: &Path) {
    for entry in fs::read_dir(runtime).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.as_bytes().strip_prefix(FILE_NAME);
        let is_left = pid.is_some_and(|pid| {
            let process = Path::new("/proc").join(OsStr::from_bytes(pid));
            !process.exists()
        });
        if is_left {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Where the table goes.
enum Output {
    StandardError,
    File(File, PathBuf),
}

impl Output {
    fn open(path: Option<PathBuf>) -> Result<Output, Fail> {
        let Some(path) = path else {
            return Ok(Output::StandardError);
        };
        match File::create(&path) {
            Ok(file) => Ok(Output::File(file, path)),
            Err(e) => {
                Err(format!("{}: {e}: name a file that you may write", path.display()).into())
            }
        }
    }

    fn write(&mut self, text: &str) -> Result<(), Fail> {
        match self {
            // Who closed it does not want to know.
            Output::StandardError => {
                let _ = std::io::stderr().write_all(text.as_bytes());
                Ok(())
            }
            Output::File(file, path) => file
                .write_all(text.as_bytes())
                .map_err(|e| format!("{}: {e}", path.display()).into()),
        }
    }
}

pub fn run(args: Profile) -> Result<u8, Fail> {
    let place = NodePlace::find()?;
    let (mut environment, mount) = args.on.environment(&place)?;
    let mut output = Output::open(args.output)?;
    let counted = Counted::new(&place)?;
    environment.add(
        "SEALFS_PROFILE",
        counted.path.to_string_lossy().into_owned(),
    );
    let begun = Instant::now();
    let code = launch(&args.command, &environment, &mount, Caught::install()?)?;
    let took = begun.elapsed();
    let (images, totals) = (counted.counters.images(), counted.counters.totals());
    let text = if args.json {
        json(images, took, &totals)?
    } else {
        let name = args.command[0].to_string_lossy();
        told(&name, images, took, &totals)
    };
    output.write(&text)?;
    Ok(code)
}

const HEAD: [&str; 12] = [
    "call", "calls", "ours", "path", "descr.", "part", "errors", "total", "p50", "p99", "bytes",
    "requests",
];

fn told(name: &str, images: u64, took: Duration, totals: &[Totals]) -> String {
    if images == 0 {
        return format!(
            "sealfs: {name}: nothing was counted, because nothing of it was covered: `sealfs doctor` tells why\n"
        );
    }
    let in_calls: u64 = totals.iter().map(|t| t.total_ns).sum();
    let ours: u64 = totals.iter().map(|t| t.ours).sum();
    let mut rows = vec![HEAD.map(String::from).to_vec()];
    rows.extend(totals.iter().map(row));
    format!(
        "\n{name}: {took}; {images} program{s}; {in_calls} in {ours} calls of the mount\n\n{table}\n\
         ours: answered by the library, with their times; the kernel's: path, not in the mount; descr., of \
         no file in\nthe mount; part, the library only looks or does its part. requests: to servers, while \
         the call ran.\n",
        took = show_time(took.as_nanos() as u64),
        in_calls = show_time(in_calls),
        s = if images == 1 { "" } else { "s" },
        table = lay_out(&rows),
    )
}

fn row(totals: &Totals) -> Vec<String> {
    let unless_0 = |figure: u64, shown: fn(u64) -> String| match figure {
        0 => "-".into(),
        figure => shown(figure),
    };
    let count = |figure: u64| unless_0(figure, |figure| figure.to_string());
    let theirs = |why: Why| count(totals.theirs[why as usize]);
    vec![
        totals.name.clone(),
        count(totals.calls()),
        count(totals.ours),
        theirs(Why::Path),
        theirs(Why::Descriptor),
        theirs(Why::Part),
        count(totals.failed),
        unless_0(totals.total_ns, show_time),
        unless_0(totals.p50_ns, show_time),
        unless_0(totals.p99_ns, show_time),
        unless_0(totals.bytes, show_size),
        count(totals.requests),
    ]
}

/// Each column as wide as it has to be, the first to the left and the others to the right.
fn lay_out(rows: &[Vec<String>]) -> String {
    let width_of = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width_of).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate();
        let cells = cells.map(|(column, (cell, &width))| match column {
            0 => format!("{cell:<width$}"),
            _ => format!("  {cell:>width$}"),
        });
        cells.collect::<String>() + "\n"
    };
    rows.iter().map(line).collect()
}

fn json(images: u64, took: Duration, totals: &[Totals]) -> Result<String, Fail> {
    let call = |t: &Totals| {
        serde_json::json!({
            "name": t.name,
            "calls": t.calls(),
            "ours": t.ours,
            "kernel": {
                "path": t.theirs[Why::Path as usize],
                "descriptor": t.theirs[Why::Descriptor as usize],
                "part": t.theirs[Why::Part as usize],
            },
            "errors": t.failed,
            "total_ns": t.total_ns,
            "p50_ns": t.p50_ns,
            "p99_ns": t.p99_ns,
            "bytes": t.bytes,
            "requests": t.requests,
        })
    };
    let value = serde_json::json!({
        "programs": images,
        "elapsed_ns": took.as_nanos() as u64,
        "calls": totals.iter().map(call).collect::<Vec<_>>(),
    });
    let text = serde_json::to_string_pretty(&value).map_err(|e| format!("json: {e}"))?;
    Ok(text + "\n")
}
