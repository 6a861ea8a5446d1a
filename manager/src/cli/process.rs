//! Processes that the command started: recognised again, signalled, waited for.
//!
//! What must stay true: nothing is ever signalled by name, and a number that was given to another
//! process meanwhile is never signalled: pid, start time, boot and program all have to agree, and
//! the signal goes through a pidfd that was opened before they were compared.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Identity of a process, as kept in a file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ProcessRecord {
    pub pid: i32,
    /// Field 22 of /proc/PID/stat: ticks since boot.
    pub start_ticks: u64,
    pub boot_id: String,
    pub program: PathBuf,
}

impl ProcessRecord {
    /// Records a process that runs, or is about to run, `program`.
    pub fn of(pid: i32, program: &Path) -> io::Result<ProcessRecord> {
        let stat = Stat::read(pid)?;
        Ok(ProcessRecord {
            pid,
            start_ticks: stat.start_ticks,
            boot_id: boot_id()?,
            program: program.into(),
        })
    }

    pub fn is_alive(&self) -> bool {
        self.handle().is_some()
    }

    /// A handle of the process, if it is still the one that was recorded and has not ended.
    fn handle(&self) -> Option<OwnedFd> {
        let handle = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::empty()).ok()?;
        let stat = Stat::read(self.pid).ok()?;
        let is_same = !stat.has_ended
            && stat.start_ticks == self.start_ticks
            && boot_id().ok()? == self.boot_id
            && self.runs_program();
        is_same.then_some(handle)
    }

    /// The program is the recorded one, or a newer build put in its place. Between fork and exec of
    /// a start it is this very command.
    fn runs_program(&self) -> bool {
        let Ok(found) = fs::read_link(format!("/proc/{}/exe", self.pid)) else {
            return false;
        };
        let found = found.to_string_lossy().into_owned();
        let found = Path::new(found.strip_suffix(" (deleted)").unwrap_or(&found)).to_owned();
        found.file_name() == self.program.file_name()
            || std::env::current_exe().is_ok_and(|own| own == found)
    }

    /// Sends a signal; false if the process is gone.
    pub fn signal(&self, signal: Signal) -> bool {
        self.handle()
            .is_some_and(|handle| pidfd_send_signal(&handle, signal).is_ok())
    }

    /// Waits until the process has ended; false when `patience` did not suffice.
    pub fn wait(&self, patience: Duration) -> bool {
        let Some(handle) = self.handle() else {
            return true;
        };
        let timeout = Timespec {
            tv_sec: patience.as_secs().cast_signed(),
            tv_nsec: patience.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&handle, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&timeout)), Ok(n) if n > 0) || !self.is_alive()
    }

    /// Asks the process to end, and after `patience` makes it.
    pub fn stop(&self, patience: Duration) -> bool {
        // A stopped process would not hear the request.
        self.signal(Signal::CONT);
        self.signal(Signal::TERM);
        if self.wait(patience) {
            return true;
        }
        self.signal(Signal::KILL);
        self.wait(patience)
    }
}

struct Stat {
    has_ended: bool,
    start_ticks: u64,
}

impl Stat {
    /// The name in field 2 may hold anything, so the fields are counted from its last `)`.
    fn read(pid: i32) -> io::Result<Stat> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let bad = || io::Error::other(format!("/proc/{pid}/stat is unreadable"));
        let (_, rest) = text.rsplit_once(')').ok_or_else(bad)?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next().ok_or_else(bad)?;
        let start = fields.nth(18).and_then(|f| f.parse().ok());
        Ok(Stat {
            has_ended: matches!(state, "Z" | "X"),
            start_ticks: start.ok_or_else(bad)?,
        })
    }
}

fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
}

/// A signal by name ("TERM", "SIGTERM", "9").
pub fn parse_signal(text: &str) -> Result<Signal, String> {
    const NAMED: [(&str, Signal); 12] = [
        ("HUP", Signal::HUP),
        ("INT", Signal::INT),
        ("QUIT", Signal::QUIT),
        ("ABRT", Signal::ABORT),
        ("KILL", Signal::KILL),
        ("SEGV", Signal::SEGV),
        ("USR1", Signal::USR1),
        ("USR2", Signal::USR2),
        ("TERM", Signal::TERM),
        ("CONT", Signal::CONT),
        ("STOP", Signal::STOP),
        ("TSTP", Signal::TSTP),
    ];
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let found = NAMED
        .iter()
        .find(|(known, signal)| *known == name || text.parse() == Ok(signal.as_raw()));
    found.map(|(_, signal)| *signal).ok_or_else(|| {
        let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
        format!(
            "signal {text:?} is not known: use one of {}",
            names.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn myself() -> ProcessRecord {
        let program = std::env::current_exe().unwrap();
        ProcessRecord::of(std::process::id().cast_signed(), &program).unwrap()
    }

    #[test]
    fn a_recycled_number_is_not_taken_for_the_process_that_had_it() {
        assert!(myself().is_alive());
        let recycled = ProcessRecord {
            start_ticks: myself().start_ticks - 1,
            ..myself()
        };
        assert!(!recycled.is_alive());
        assert!(!recycled.signal(Signal::KILL));
    }

    #[test]
    fn a_process_of_another_boot_is_not_alive() {
        let earlier = ProcessRecord {
            boot_id: "another".into(),
            ..myself()
        };
        assert!(!earlier.is_alive());
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["KILL", "SIGKILL", "sigkill", "9"] {
            assert_eq!(parse_signal(text), Ok(Signal::KILL));
        }
        assert!(parse_signal("NOPE").is_err());
    }
}
