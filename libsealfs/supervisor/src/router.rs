//! The supervisor itself: hears every call that asks, lets go on what is plainly the kernel's, and
//! gives the rest to the twin of the process that made it.
//!
//! What must stay true: it never waits for anybody but the kernel, so that no process under it can
//! hold up another; it ends when the last process under its filter has.
//!
//! # Safety
//! The kernel calls get structures of ours that outlive them.

use crate::fds::{FIFO_MODE, PLACEHOLDER_MODE};
use crate::interpose;
use crate::patch::class::Class;
use crate::sys::{self, check};
use crate::tasks::{die_with, exit, fork, hurry, kill, reap};
use crate::twin::{self, Birth, Shared};
use crate::{kernel, notify, proc, settings, subject};
use core::sync::atomic::Ordering::{Acquire, Relaxed};
use notify::Notification;
use sealfs_protocol::Errno;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A process under the filter.
struct Process {
    pidfd: u32,
    shared: &'static Shared,
    twin: Option<Twin>,
}

/// The process that answers for it.
struct Twin {
    pid: i32,
    channel: u32,
    /// Calls that it was given, by thread; some may be answered by now.
    given: HashMap<u32, u64>,
}

#[derive(Default)]
struct Router {
    processes: HashMap<u32, Process>,
    /// Threads other than the first ones, and their processes.
    threads: HashMap<u32, u32>,
}

/// Serves until nobody is left.
pub fn run() -> Result<(), Errno> {
    let mut router = Router::default();
    hurry();
    loop {
        let mut waited = vec![poll_for(notify::listener())];
        let pids: Vec<u32> = router.processes.keys().copied().collect();
        for pid in &pids {
            waited.push(poll_for(router.processes[pid].pidfd as i32));
        }
        let twins = router.processes.values().filter_map(|p| p.twin.as_ref());
        waited.extend(twins.map(|twin| poll_for(twin.channel as i32)));
        poll(&mut waited)?;
        for (pid, slot) in pids.iter().zip(&waited[1..]) {
            if slot.revents != 0 {
                router.ended(*pid);
            }
        }
        router.look_after_twins();
        if waited[0].revents & libc::POLLIN != 0 {
            router.hear();
        } else if waited[0].revents & libc::POLLHUP != 0 {
            return Ok(());
        }
    }
}

fn poll_for(fd: i32) -> libc::pollfd {
    libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    }
}

fn poll(list: &mut [libc::pollfd]) -> Result<(), Errno> {
    let nr = libc::SYS_poll as usize;
    // SAFETY: the list is as long as it is said to be.
    match check(unsafe { sys::syscall3(nr, list.as_mut_ptr() as usize, list.len(), usize::MAX) }) {
        Ok(_) | Err(libc::EINTR) => Ok(()),
        Err(errno) => Err(Errno(errno)),
    }
}

impl Router {
    fn hear(&mut self) {
        // ENOENT: killed before it was heard.
        let Ok(call) = notify::receive() else { return };
        let Some(pid) = self.process_of(call.tid) else {
            let _ = notify::go_on(call.id);
            return;
        };
        let Ok(process) = self.known(pid) else {
            let _ = notify::answer(call.id, -Errno::EIO.0 as isize);
            return;
        };
        if process.is_kernels(&call) {
            let _ = notify::go_on(call.id);
            return;
        }
        if self.pass_on(pid, &call).is_err() {
            let _ = notify::answer(call.id, -Errno::EIO.0 as isize);
        }
    }

    /// The process that a thread belongs to.
    fn process_of(&mut self, tid: u32) -> Option<u32> {
        if self.processes.contains_key(&tid) {
            return Some(tid);
        }
        if let Some(pid) = self.threads.get(&tid)
            && self.processes.contains_key(pid)
            && proc::is_thread(*pid, tid)
        {
            return Some(*pid);
        }
        let pid = proc::Status::of(tid)?.process()?;
        if pid != tid {
            self.threads.insert(tid, pid);
        }
        Some(pid)
    }

    fn known(&mut self, pid: u32) -> Result<&Process, Errno> {
        match self.processes.entry(pid) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(free) => Ok(free.insert(Process::new(pid)?)),
        }
    }

    fn pass_on(&mut self, pid: u32, call: &Notification) -> Result<(), Errno> {
        if self.processes.get(&pid).is_some_and(|p| p.twin.is_none()) {
            let twin = self.make_twin(pid)?;
            if let Some(process) = self.processes.get_mut(&pid) {
                process.twin = Some(twin);
            }
        }
        let process = self.processes.get_mut(&pid).ok_or(Errno::ESRCH)?;
        let twin = process.twin.as_mut().ok_or(Errno::ESRCH)?;
        twin.given.insert(call.tid, call.id);
        send(twin.channel, call)
    }

    fn make_twin(&self, pid: u32) -> Result<Twin, Errno> {
        let process = self.processes.get(&pid).ok_or(Errno::ESRCH)?;
        let [ours, twins] = channel()?;
        let router = sys::getpid();
        let born = fork()?;
        if born == 0 {
            die_with(router);
            for other in self.processes.values().filter(|p| p.pidfd != process.pidfd) {
                kernel::close(other.pidfd);
            }
            let channels = self.processes.values().filter_map(|p| p.twin.as_ref());
            channels.for_each(|twin| kernel::close(twin.channel));
            kernel::close(ours);
            twin::run(&Birth {
                pid,
                pidfd: process.pidfd as i32,
                channel: twins as i32,
                shared: process.shared,
            });
            exit();
        }
        kernel::close(twins);
        Ok(Twin {
            pid: born,
            channel: ours,
            given: HashMap::new(),
        })
    }

    /// A process has ended: what it left, the keeper finds when its twin is gone.
    fn ended(&mut self, pid: u32) {
        let Some(process) = self.processes.remove(&pid) else {
            return;
        };
        self.threads.retain(|_, owner| *owner != pid);
        if let Some(twin) = &process.twin {
            kill(twin.pid);
            kernel::close(twin.channel);
        } else if process.shared.touched.load(Relaxed) != 0
            && let Ok(0) = fork()
        {
            twin::mourn();
            exit();
        }
        kernel::close(process.pidfd);
        process.shared.drop_page();
    }

    /// Twins that ended before their processes: what they had been given is an I/O error, and the
    /// next call gets another twin.
    fn look_after_twins(&mut self) {
        while let Some(ended) = reap() {
            let lost = |process: &&mut Process| {
                let twin = process.twin.as_ref();
                twin.is_some_and(|twin| twin.pid == ended)
            };
            if let Some(process) = self.processes.values_mut().find(lost)
                && let Some(twin) = process.twin.take()
            {
                process.shared.driving.store(0, Relaxed);
                kernel::close(twin.channel);
                for id in twin.given.into_values() {
                    let _ = notify::answer(id, -Errno::EIO.0 as isize);
                }
            }
        }
    }
}

impl Process {
    fn new(pid: u32) -> Result<Process, Errno> {
        let nr = libc::SYS_pidfd_open as usize;
        // SAFETY: two numbers.
        let pidfd = check(unsafe { sys::syscall3(nr, pid as usize, 0, 0) }).map_err(Errno)?;
        let process = Process {
            pidfd: subject::own(pidfd as u32)?,
            shared: Shared::new()?,
            twin: None,
        };
        let holds = |fd| proc::descriptor_mode(pid, fd) == Some(PLACEHOLDER_MODE);
        if proc::descriptors(pid).into_iter().any(holds) {
            process.shared.touched.store(1, Relaxed);
        }
        Ok(process)
    }

    /// What can be told at a glance to be the kernel's.
    fn is_kernels(&self, call: &Notification) -> bool {
        if self.shared.driving.load(Acquire) == call.tid {
            return true;
        }
        let Some((_, class)) = interpose::find(call.number as usize) else {
            return i64::from(call.number) != libc::SYS_rt_sigaction;
        };
        let is_native = |n: usize| self.is_native(call.tid, call.arguments[n] as u32);
        match class {
            Class::Fd | Class::Close => is_native(0),
            Class::TwoFds => is_native(0) && is_native(1),
            Class::Map => is_native(4),
            Class::WhenTouched => self.is_untouched(),
            Class::Always => match i64::from(call.number) {
                libc::SYS_copy_file_range | libc::SYS_splice => is_native(0) && is_native(2),
                libc::SYS_fchdir => is_native(0),
                libc::SYS_fork
                | libc::SYS_vfork
                | libc::SYS_clone
                | libc::SYS_clone3
                | libc::SYS_close_range
                | libc::SYS_exit_group => self.is_untouched(),
                libc::SYS_umask => self.twin.is_none(),
                libc::SYS_setuid
                | libc::SYS_setgid
                | libc::SYS_setreuid
                | libc::SYS_setregid
                | libc::SYS_setresuid
                | libc::SYS_setresgid
                | libc::SYS_setfsuid
                | libc::SYS_setfsgid
                | libc::SYS_setgroups => {
                    self.shared.changed.store(1, Relaxed);
                    self.twin.is_none()
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn is_untouched(&self) -> bool {
        self.shared.touched.load(Relaxed) == 0
    }

    fn is_native(&self, tid: u32, fd: u32) -> bool {
        let Some((device, inode, mode)) = proc::descriptor_facts(tid, fd) else {
            return true;
        };
        if mode == PLACEHOLDER_MODE {
            self.shared.touched.store(1, Relaxed);
            return false;
        }
        let above = settings::settings().is_some_and(|s| s.ancestors.contains(&(device, inode)));
        mode != FIFO_MODE && !above
    }
}

/// A pair of sockets that keep messages apart, both among our own numbers.
fn channel() -> Result<[u32; 2], Errno> {
    let mut pair = [0i32; 2];
    let kind = (libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC) as usize;
    let (nr, at) = (libc::SYS_socketpair as usize, pair.as_mut_ptr() as usize);
    // SAFETY: room for two numbers.
    check(unsafe { sys::syscall4(nr, libc::AF_UNIX as usize, kind, 0, at) }).map_err(Errno)?;
    Ok([subject::own(pair[0] as u32)?, subject::own(pair[1] as u32)?])
}

fn send(channel: u32, call: &Notification) -> Result<(), Errno> {
    let (at, bytes) = (
        core::ptr::from_ref(call) as usize,
        size_of::<Notification>(),
    );
    let flags = libc::MSG_NOSIGNAL as usize;
    let nr = libc::SYS_sendto as usize;
    // SAFETY: the structure has that many bytes.
    let sent = unsafe { sys::syscall6(nr, channel as usize, at, bytes, flags, 0, 0) };
    check(sent).map(|_| ()).map_err(Errno)
}
