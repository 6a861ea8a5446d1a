//! The word to the keeper that an exec is about to close descriptors of ours, and with each all record
//! locks of this process on its file.
//!
//! What must stay true: the locks are counted before the keeper hears of them, and taken off the count
//! when execve(2) fails, so that the program waits for the keeper exactly when there is something to
//! wait for ([`sealfs_client::node::leaving`]).

use super::lock;
use crate::fds::{self, Fd, Open};
use crate::process::{self, Node, State};
use crate::{credentials, descriptors, fdtable, kernel, subject};
use sealfs_client::node::keeper_link;
use sealfs_client::node::mapped::FileKey;

/// Descriptors that the kernel closes along with ours, and the number of files each stands for.
pub struct Leaving(Vec<(u32, u32)>);

impl Leaving {
    /// Of descriptions that were only read from, and of which nobody holds a lock, nobody waits for the
    /// end.
    pub fn tell() -> Option<Leaving> {
        if subject::FOREIGN {
            // A twin lives on, and looks what is left.
            return None;
        }
        let is_awaited = |o: &Open| o.can_write() || o.slot.locked().is_some();
        let (mut slots, mut files) = (Vec::new(), Vec::new());
        for number in fdtable::ours() {
            let Ok(Fd::Ours(open)) = fds::lookup(number) else {
                continue;
            };
            let has_locks = lock::may_hold(&open);
            if !(has_locks || is_awaited(&open)) || !is_closed_by_exec(&open) {
                continue;
            }
            if is_awaited(&open) {
                slots.push(open.slot.id());
            }
            let file = key_of(&open);
            if has_locks && !files.contains(&file) {
                files.push(file);
            }
        }
        let held = known().filter(|_| lock::may_hold_any());
        if let Some((node, state)) = held {
            let keeps = lock::may_hold_besides(|ino| files.iter().any(|f| f.ino == ino));
            let me = state.registration.index;
            node.arena.begin_exec(me, files.len() as u32, keeps);
        }
        if slots.is_empty() && files.is_empty() {
            return None;
        }
        let runtime = process::known_runtime()?;
        let _owner = credentials::as_owner(runtime);
        let me = held.map(|(_, state)| &state.registration);
        let said = keeper_link::leaving(runtime, me, &slots, &files);
        let told: u32 = said.iter().map(|(_, files)| files).sum();
        end_exec(files.len() as u32 - told);
        let placed = |(socket, files)| (descriptors::place_fd(socket) as u32, files);
        Some(Leaving(said.into_iter().map(placed).collect()))
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        for (socket, files) in &self.0 {
            keeper_link::stayed(*socket as i32);
            end_exec(*files);
            fdtable::remove_internal(*socket);
            kernel::close(*socket);
        }
    }
}

fn known() -> Option<(&'static Node, &'static State)> {
    Some((process::known_node()?, process::known_state()?))
}

/// Record locks on so many files stay.
fn end_exec(files: u32) {
    if let Some((node, state)) = known().filter(|_| files > 0) {
        let registration = &state.registration;
        node.arena
            .end_exec(registration.index, registration.client, files);
    }
}

fn is_closed_by_exec(open: &Open) -> bool {
    let flags = kernel::fcntl(open.fd, libc::F_GETFD, 0);
    flags.is_ok_and(|flags| flags & libc::FD_CLOEXEC as usize != 0)
}

fn key_of(open: &Open) -> FileKey {
    FileKey {
        manager: open.slot.manager(),
        volume: open.slot.volume(),
        ino: open.ino(),
    }
}
