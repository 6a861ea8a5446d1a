//! One program of c-tests: how it is found, compiled and run under a time limit.
//!
//! A program's output goes to a file, not to a pipe: a grandchild that outlives it must not hold the runner. Its limit
//! is kept by timeout(1), which ends the whole process group.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Exit status of timeout(1) when the time is over.
const TIMED_OUT: i32 = 124;
/// Time between timeout(1)'s SIGTERM and its SIGKILL.
const GRACE: &str = "2";
const LAST_LINES: usize = 12;

pub struct Program {
    /// `FAMILY/NAME`.
    pub name: String,
    source: PathBuf,
    binary: PathBuf,
    output: PathBuf,
    /// The words before gcc's arguments.
    compiler: Vec<String>,
}

/// One side of a comparison.
pub struct Runner {
    pub folder: PathBuf,
    pub wrap: Vec<String>,
    pub limit_s: u32,
}

/// What a run printed and how it ended.
pub struct Outcome {
    pub ending: String,
    pub output: String,
    pub errors: String,
}

/// Every program below `folder`, sorted by name; binaries and outputs go below `output`.
pub fn discover(folder: &Path, output: &Path, compiler: &str) -> io::Result<Vec<Program>> {
    let mut programs = Vec::new();
    for family in fs::read_dir(folder)? {
        let family = family?.path();
        if !family.is_dir() {
            continue;
        }
        for source in fs::read_dir(&family)? {
            let source = source?.path();
            if source.extension().is_some_and(|e| e == "c" || e == "sh") {
                programs.push(Program::new(folder, source, output, compiler));
            }
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(programs)
}

impl Program {
    fn new(folder: &Path, source: PathBuf, output: &Path, compiler: &str) -> Self {
        let name = source
            .strip_prefix(folder)
            .unwrap_or(&source)
            .with_extension("");
        let name = name.to_string_lossy().into_owned();
        let flat = name.replace('/', "-");
        let binary = output.join("bin").join(&flat);
        Self {
            name,
            source,
            binary,
            output: output.join("out").join(flat),
            compiler: compiler.split_whitespace().map(str::to_owned).collect(),
        }
    }

    pub fn is_script(&self) -> bool {
        self.source.extension().is_some_and(|e| e == "sh")
    }

    /// Compiles the program if its source or the header is newer than the binary.
    pub fn build(&self) -> io::Result<()> {
        for folder in [&self.binary, &self.output]
            .into_iter()
            .filter_map(|file| file.parent())
        {
            fs::create_dir_all(folder)?;
        }
        if self.is_script() || self.is_fresh() {
            return Ok(());
        }
        let include = self
            .source
            .parent()
            .and_then(Path::parent)
            .unwrap_or(Path::new("."));
        let compiled = Command::new(&self.compiler[0])
            .args(&self.compiler[1..])
            .args([
                "-O1",
                "-Wall",
                "-Werror",
                "-Wno-nonnull",
                "-Wno-stringop-overread",
                "-Wno-stringop-overflow",
                "-pthread",
                "-I",
            ])
            .arg(include)
            .arg("-o")
            .arg(&self.binary)
            .arg(&self.source)
            .output()?;
        if compiled.status.success() {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "{}: {}",
            self.compiler.join(" "),
            String::from_utf8_lossy(&compiled.stderr)
        )))
    }

    fn is_fresh(&self) -> bool {
        let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        let header = self
            .source
            .parent()
            .and_then(Path::parent)
            .map(|p| p.join("ct.h"));
        let newest = modified(&self.source).max(header.and_then(|h| modified(&h)));
        modified(&self.binary).is_some_and(|binary| Some(binary) > newest)
    }

    /// Runs the program in a directory of its own on one side.
    pub fn run(&self, runner: &Runner) -> io::Result<Outcome> {
        let side = if runner.wrap.is_empty() {
            "local"
        } else {
            "tested"
        };
        let out = self.output.with_extension(format!("{side}.out"));
        let err = self.output.with_extension(format!("{side}.err"));
        let mut command = Command::new("timeout");
        command
            .args(["-k", GRACE, &runner.limit_s.to_string()])
            .args(&runner.wrap);
        if self.is_script() {
            command.arg("bash").arg(&self.source);
        } else {
            command.arg(&self.binary);
        }
        let status = command
            .arg(runner.folder.join(self.name.replace('/', "-")))
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?)
            .env("LC_ALL", "C")
            .status()?;
        Ok(Outcome {
            ending: ending(status),
            output: read_lossy(&out)?,
            errors: read_lossy(&err)?,
        })
    }
}

impl Runner {
    /// Runs a tool with `arguments` on this side's folder.
    pub fn tool(&self, tool: &str, arguments: &[&str]) -> io::Result<()> {
        let mut words = self
            .wrap
            .iter()
            .map(String::as_str)
            .chain([tool])
            .chain(arguments.iter().copied());
        let mut command = Command::new(words.next().unwrap_or(tool));
        super::must_succeed(command.args(words).arg(&self.folder))
    }
}

impl Outcome {
    /// The last lines that the run printed.
    pub fn tail(&self) -> String {
        let lines: Vec<&str> = self.output.lines().chain(self.errors.lines()).collect();
        lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
    }
}

fn read_lossy(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(TIMED_OUT), _) => "time limit".to_owned(),
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "ended without a status".to_owned(),
    }
}
