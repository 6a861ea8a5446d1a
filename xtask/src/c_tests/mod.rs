//! The POSIX contract: every program below c-tests/ runs on a local directory and on sealfs; outputs must be equal.
//!
//! The kernel is the specification: there are no expected outputs. A program is `FAMILY/NAME.c` (compiled here) or
//! `FAMILY/NAME.sh`; it gets the path of a directory that it makes itself. Without `--root` both runs are local, which
//! proves that the programs are deterministic.

mod program;

use clap::Args;
use program::{Outcome, Program, Runner};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// The compiler, unless another is named.
pub const COMPILER: &str = "gcc";
/// Below c-tests/: a name and a reason a line.
const KNOWN_DIFFERENCES: &str = "known-differences.tsv";
/// The same of programs that the library is not loaded into.
const KNOWN_SUPERVISED: &str = "known-supervised.tsv";

#[derive(Args, Clone)]
pub struct Options {
    /// Directory on the file system under test, made if missing
    #[arg(long)]
    pub root: Option<PathBuf>,
    /// Command prefix for everything that touches --root, for example the line of `sealfs dev env --prefix`
    #[arg(long, default_value = "")]
    pub wrap: String,
    /// Only programs whose FAMILY/NAME contains this text
    #[arg(long, default_value = "")]
    pub filter: String,
    /// Programs at the same time
    #[arg(long, default_value_t = 2)]
    pub jobs: usize,
    /// Seconds one program may run
    #[arg(long, default_value_t = 10)]
    pub time_limit: u32,
    /// Local directory to compare with (default: a new one below the system's temporary directory)
    #[arg(long)]
    pub local: Option<PathBuf>,
    /// What compiles the programs: `gcc -static` makes such as the library cannot reach (scripts are left out then)
    #[arg(long, default_value = COMPILER)]
    pub cc: String,
    /// Print both outputs of every program that differs
    #[arg(long)]
    pub verbose: bool,
}

/// Passed and failed programs.
#[derive(Default, Clone, Copy)]
pub struct Total {
    pub passed: usize,
    pub failed: usize,
}

impl Total {
    /// The outcome of one test.
    pub fn of(good: bool) -> Self {
        Self {
            passed: usize::from(good),
            failed: usize::from(!good),
        }
    }

    pub fn add(&mut self, more: Self) {
        self.passed += more.passed;
        self.failed += more.failed;
    }
}

pub fn run(root: &Path, options: &Options) -> io::Result<bool> {
    let total = compare_all(root, options)?;
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(total.failed == 0 && total.passed > 0)
}

/// Builds and compares every chosen program; prints one line for each.
pub fn compare_all(root: &Path, options: &Options) -> io::Result<Total> {
    let plain = options.cc == COMPILER;
    let folder = if plain {
        "c-tests".to_owned()
    } else {
        format!("c-tests-{}", options.cc.replace([' ', '/'], ""))
    };
    let output = target_folder(root).join(folder);
    std::fs::create_dir_all(&output)?;
    let programs: Vec<Program> = program::discover(&root.join("c-tests"), &output, &options.cc)?
        .into_iter()
        .filter(|program| plain || !program.is_script())
        .filter(|program| program.name.contains(&options.filter))
        .collect();
    let here = Places::prepare(options)?;
    let known = match &options.root {
        Some(below) if !below.exists() => {
            let mut known = known_differences(root, KNOWN_DIFFERENCES)?;
            if !plain {
                known.extend(known_differences(root, KNOWN_SUPERVISED)?);
            }
            known
        }
        _ => Vec::new(),
    };
    let total = Mutex::new(Total::default());
    in_parallel(options.jobs, &programs, |program| {
        let (good, line) = compare(program, &here, options);
        let reason = known.iter().find(|(name, _)| *name == program.name);
        let (good, line) = match reason {
            None => (good, line),
            Some((name, why)) if !good => {
                println!("known {name}: {why}");
                return;
            }
            Some((name, _)) => (
                false,
                format!("FAIL {name}: agrees again, and stands in c-tests/{KNOWN_DIFFERENCES}"),
            ),
        };
        let mut total = total
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        println!("{line}");
        if good {
            total.passed += 1;
        } else {
            total.failed += 1;
        }
    });
    here.clean()?;
    Ok(*total
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Programs that are known to differ on the mount (a path that the kernel does not know), and why.
fn known_differences(root: &Path, list: &str) -> io::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(root.join("c-tests").join(list))?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    Ok(lines
        .filter_map(|line| line.split_once('\t'))
        .map(|(name, why)| (name.to_owned(), why.to_owned()))
        .collect())
}

pub fn target_folder(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// The two sides: a local directory, and the one under test with its command prefix.
struct Places {
    local: Runner,
    tested: Runner,
}

impl Places {
    fn prepare(options: &Options) -> io::Result<Self> {
        let unique = format!("sealfs-c-tests-{}", std::process::id());
        let local = options
            .local
            .clone()
            .unwrap_or_else(std::env::temp_dir)
            .join(format!("{unique}-local"));
        let wrap: Vec<String> = options.wrap.split_whitespace().map(str::to_owned).collect();
        let tested = match &options.root {
            Some(root) => Runner {
                folder: root.join(&unique),
                wrap,
                limit_s: options.time_limit,
            },
            None => Runner {
                folder: local.with_extension("again"),
                wrap,
                limit_s: options.time_limit,
            },
        };
        let local = Runner {
            folder: local,
            wrap: Vec::new(),
            limit_s: options.time_limit,
        };
        local.tool("mkdir", &["-p", "-m", "755"])?;
        tested.tool("mkdir", &["-p", "-m", "755"])?;
        Ok(Self { local, tested })
    }

    fn clean(&self) -> io::Result<()> {
        self.local.tool("rm", &["-rf"])?;
        self.tested.tool("rm", &["-rf"])
    }
}

/// Runs one program on both sides. Returns whether they agree, and the line to print.
fn compare(program: &Program, places: &Places, options: &Options) -> (bool, String) {
    let start = Instant::now();
    let outcome = program
        .build()
        .and_then(|()| Ok((program.run(&places.local)?, program.run(&places.tested)?)));
    let seconds = start.elapsed().as_secs_f64();
    let name = &program.name;
    match outcome {
        Err(error) => (false, format!("FAIL {name} {seconds:.1} s: {error}")),
        Ok((local, _)) if local.ending != "exit 0" => (
            false,
            format!(
                "FAIL {name} {seconds:.1} s: locally {}\n{}",
                local.ending,
                local.tail()
            ),
        ),
        Ok((local, tested)) if local.ending == tested.ending && local.output == tested.output => {
            (true, format!("ok   {name} {seconds:.1} s"))
        }
        Ok((local, tested)) => (
            false,
            format!(
                "FAIL {name} {seconds:.1} s: {}",
                explain(&local, &tested, options.verbose)
            ),
        ),
    }
}

/// The first difference of two outcomes, in words.
fn explain(local: &Outcome, tested: &Outcome, verbose: bool) -> String {
    let mut ours = tested.output.lines();
    let mut text = String::new();
    if local.ending != tested.ending {
        text.push_str(&tested.ending);
    }
    for (index, expected) in local.output.lines().enumerate() {
        let got = ours.next();
        if got != Some(expected) {
            let got = got.unwrap_or("(end of output)");
            let _ = write!(
                text,
                "\n     line {}: locally {expected}\n     on the tested: {got}",
                index + 1
            );
            break;
        }
    }
    if let Some(extra) = ours
        .next()
        .filter(|_| tested.output.starts_with(&local.output))
    {
        let _ = write!(text, "\n     more output: {extra}");
    }
    if verbose {
        let _ = write!(
            text,
            "\n--- local\n{}--- tested\n{}",
            local.output, tested.output
        );
    }
    if !tested.errors.trim().is_empty() {
        let _ = write!(text, "\n     stderr: {}", tested.errors.trim());
    }
    text
}

fn in_parallel<T: Sync>(jobs: usize, items: &[T], work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    work(item);
                }
            });
        }
    });
}

/// A command's status as text; an error names the command.
pub fn must_succeed(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{command:?}: {status}")))
}
