//! Ctrl-C and its kin: caught, so that what was started is taken down, and passed on to programs.

use super::Fail;
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;
use std::process::Child;

/// Signals that would have ended this process, waiting to be looked at.
pub struct Caught(SignalsInfo<WithOrigin>);

impl Caught {
    pub fn install() -> Result<Caught, Fail> {
        SignalsInfo::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2])
            .map(Caught)
            .map_err(|e| format!("cannot catch signals: {e}").into())
    }

    /// Fails as soon as somebody wants this process to end.
    pub fn check(&mut self) -> Result<(), Fail> {
        match self.0.pending().next() {
            None => Ok(()),
            Some(origin) => Err(Fail {
                code: 128 + origin.signal as u8,
                text: "interrupted".into(),
            }),
        }
    }

    /// From now on signals go to `child`. Those of the terminal reach it by themselves, as it is in
    /// the terminal's foreground group like this process.
    pub fn forward_to(mut self, child: &Child) -> Result<(), Fail> {
        let handle = open(child)?;
        std::thread::spawn(move || {
            for origin in self.0.forever() {
                let from_terminal = origin.process.is_none();
                if let Some(signal) = Signal::from_named_raw(origin.signal)
                    && !from_terminal
                {
                    // A child that has ended needs no signal.
                    let _ = pidfd_send_signal(&handle, signal);
                }
            }
        });
        Ok(())
    }
}

fn open(child: &Child) -> Result<OwnedFd, Fail> {
    Pid::from_raw(child.id().cast_signed())
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
        .ok_or_else(|| format!("process {} cannot be watched", child.id()).into())
}
