//! One daemon of an embedded cluster: its files in the state directory, and its process.

use crate::cli::process::ProcessRecord;
use crate::cli::signals::Caught;
use crate::cli::{Fail, environment, programs};
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long a daemon may take until it serves; replaying a log after a crash takes its time.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// Longest time between a request to end and the end.
pub const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two looks at a daemon that starts.
const PAUSE: Duration = Duration::from_millis(2);

/// `manager`, `server-0`, … of one state directory.
pub struct Daemon {
    pub name: String,
    state: PathBuf,
}

impl Daemon {
    pub fn new(state: &Path, name: &str) -> Daemon {
        Daemon {
            name: name.into(),
            state: state.into(),
        }
    }

    pub fn config_path(&self) -> PathBuf {
        self.state.join(format!("{}.toml", self.name))
    }

    pub fn data_dir(&self) -> PathBuf {
        self.state.join(&self.name)
    }

    /// Written by the daemon when it serves; its absence means "not yet".
    pub fn ready_path(&self) -> PathBuf {
        self.state.join(format!("run/{}.ready", self.name))
    }

    /// The last address, kept while the daemon does not run and when a start fails.
    fn url_path(&self) -> PathBuf {
        self.state.join(format!("run/{}.url", self.name))
    }

    fn record_path(&self) -> PathBuf {
        self.state.join(format!("run/{}.json", self.name))
    }

    fn log_path(&self) -> PathBuf {
        self.state.join(format!("log/{}.log", self.name))
    }

    fn program(&self) -> Result<PathBuf, Fail> {
        let is_manager = self.name == "manager";
        programs::beside(if is_manager {
            "sealfs-manager"
        } else {
            "sealfs-server"
        })
    }

    /// The process, if it runs.
    pub fn process(&self) -> Option<ProcessRecord> {
        let text = fs::read_to_string(self.record_path()).ok()?;
        let record: ProcessRecord = serde_json::from_str(&text).ok()?;
        record.is_alive().then_some(record)
    }

    /// Where it listens, or listened last.
    pub fn url(&self) -> Option<String> {
        read_url(&self.url_path())
    }

    /// Starts the process, in a session of its own; [`Starting::wait`] tells when it serves.
    pub fn start(&self) -> Result<Starting<'_>, Fail> {
        let program = self.program()?;
        let fail = |path: &Path, e: std::io::Error| Fail::from(format!("{}: {e}", path.display()));
        let log_path = self.log_path();
        let mut log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log_path)
            .map_err(|e| fail(&log_path, e))?;
        let log_start = log.seek(SeekFrom::End(0)).map_err(|e| fail(&log_path, e))?;
        match fs::remove_file(self.ready_path()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(fail(&self.ready_path(), e));
            }
            _ => {}
        }
        let own = std::env::current_exe().map_err(|e| fail(Path::new("/proc/self/exe"), e))?;
        let mut command = Command::new(own);
        command
            .arg("__detach")
            .arg(&program)
            .arg("--config")
            .arg(self.config_path())
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| fail(&log_path, e))?)
            .stderr(log);
        environment::strip_for_daemon(&mut command);
        let child = command.spawn().map_err(|e| fail(&program, e))?;
        let record =
            ProcessRecord::of(child.id().cast_signed(), &program).map_err(|e| fail(&program, e))?;
        let text = serde_json::to_string(&record).map_err(|e| e.to_string())?;
        fs::write(self.record_path(), text).map_err(|e| fail(&self.record_path(), e))?;
        Ok(Starting {
            daemon: self,
            record,
            log_start,
        })
    }

    /// Ends the process if it runs.
    pub fn stop(&self) -> Result<(), Fail> {
        if let Some(process) = self.process()
            && !process.stop(STOP_PATIENCE)
        {
            return Err(format!("{}: process {} does not end", self.name, process.pid).into());
        }
        Ok(())
    }
}

fn read_url(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|url| !url.is_empty())
}

/// A daemon between its start and the moment it serves.
pub struct Starting<'a> {
    daemon: &'a Daemon,
    record: ProcessRecord,
    log_start: u64,
}

impl Starting<'_> {
    /// Waits until it serves and returns its URL; its own words if it gave up.
    pub fn wait(&self, caught: &mut Caught) -> Result<String, Fail> {
        let deadline = Instant::now() + START_PATIENCE;
        loop {
            if let Some(url) = read_url(&self.daemon.ready_path()) {
                let path = self.daemon.url_path();
                fs::write(&path, format!("{url}\n"))
                    .map_err(|e| format!("{}: {e}", path.display()))?;
                return Ok(url);
            }
            if !self.record.is_alive() {
                return Err(self.last_words().into());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "{}: does not serve after {} s: see {}",
                    self.daemon.name,
                    START_PATIENCE.as_secs(),
                    self.daemon.log_path().display()
                )
                .into());
            }
            caught.check()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// The last line that it wrote in this life.
    fn last_words(&self) -> String {
        let path = self.daemon.log_path();
        let mut text = String::new();
        let read = fs::File::open(&path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.log_start))?;
            file.read_to_string(&mut text)
        });
        let own = |line: &&str| line.starts_with("sealfs-");
        let last = text.lines().rfind(own).or_else(|| text.lines().next_back());
        match (read, last) {
            (Ok(_), Some(line)) => format!("{}: did not start: {line}", self.daemon.name),
            _ => format!(
                "{}: did not start: see {}",
                self.daemon.name,
                path.display()
            ),
        }
    }
}
