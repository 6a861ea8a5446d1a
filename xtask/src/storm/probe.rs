//! A program on the mount that lives through all kills and does, each time it is asked, a little of everything on
//! directories of all servers.

use crate::cluster::Cluster;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Instant;

const SCRIPT: &str = "c-tests/storm-probe.sh";

pub struct Probe {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
    /// A look that was given up: its answer is still to come.
    overdue: usize,
}

impl Probe {
    pub fn start(root: &Path, cluster: &Cluster) -> io::Result<Self> {
        let folder = cluster.new_folder("probe")?;
        let mut child = cluster
            .wrapped("bash")
            .arg(root.join(SCRIPT))
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (answer, answers) = channel();
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || {
                let mut lines = BufReader::new(output).lines().map_while(Result::ok);
                lines.try_for_each(|line| answer.send(line))
            });
        }
        let orders = child.stdin.take();
        Ok(Self {
            child,
            orders,
            answers,
            overdue: 0,
        })
    }

    /// Asks for one turn and waits for its end.
    pub fn look(&mut self, deadline: Instant) -> io::Result<()> {
        if let Some(orders) = &mut self.orders {
            orders.write_all(b"look\n")?;
        }
        self.overdue += 1;
        while self.overdue > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok(answer) if answer == "good" => self.overdue -= 1,
                Ok(answer) => {
                    self.overdue -= 1;
                    return Err(io::Error::other(answer));
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(io::Error::other("the servers do not serve again"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the probe has ended"));
                }
            }
        }
        Ok(())
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // The end of its orders is its end, unless it hangs.
        drop(self.orders.take());
        if self.overdue > 0 {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}
