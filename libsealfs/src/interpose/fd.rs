//! Descriptor numbers: close(2), dup(2) and its kin, close_range(2).
//!
//! What must stay true: what is remembered of a number is dropped before and after it changes; the
//! one that closes the last descriptor of a description, in whatever process, tells the server.

use super::{Ctx, hold, lock, repeat};
use crate::credentials;
use crate::descriptors;
use crate::fds::{self, Fd, Open};
use crate::fdtable::{self, State};
use crate::route::{Answer, Bypass, Outcome, asked, done, theirs};
use crate::sync::{Mutex, RawMutex};
use crate::{kernel, process, subject};
use sealfs_client::node::{Arena, Slot, SlotId, placeholder};
use sealfs_client::{Client, FileRef};
use sealfs_protocol::{Errno, OpenId, dirent};

/// close(fd)
pub fn close(ctx: &mut Ctx<'_>) -> Answer {
    let fd = ctx.fd(0);
    match fds::lookup(fd) {
        Ok(Fd::Ours(open)) => {
            fdtable::forget(fd);
            let answer = subject::close(&open);
            fdtable::forget(fd);
            closed(&open);
            answer
        }
        Ok(Fd::Internal) => Err(Errno::EBADF),
        Ok(Fd::Theirs) if fdtable::get(fd) == State::Fifo && !subject::FOREIGN => {
            fdtable::forget(fd);
            let said = ctx.native();
            fdtable::forget(fd);
            hold::settle_fifos();
            Ok(Outcome::Ours(said))
        }
        Ok(Fd::Theirs | Fd::Above | Fd::Listing) | Err(_) => {
            fdtable::forget(fd);
            theirs(Bypass::NativeDescriptor)
        }
    }
}

/// After a descriptor of a description was closed: POSIX drops this process's record locks on the
/// file, and the last closer of all tells the server.
pub fn closed(open: &Open) {
    lock::dropped_by_close(open);
    release_if_last(&open.slot);
}

/// Tells the server of the close if no descriptor of the description is left in any process.
pub fn release_if_last(slot: &Slot<'static>) {
    subject::give_back();
    let (Some(node), Some(me)) = (process::known_node(), process::me_or_ancestor()) else {
        return;
    };
    let file = FileRef {
        ino: slot.ino(),
        open: slot.open_id(),
    };
    let was_shared = slot.is_shared();
    let _owner = credentials::as_owner(node.runtime);
    if !placeholder::last_closer(node.runtime, &node.arena, slot.id(), me) {
        if let Some(client) = process::known_client() {
            client.leave(file);
        }
        return;
    }
    repeat::closed(slot);
    match process::client() {
        // Locks of a description that others held may be known to them alone: they end now.
        Ok(client) if was_shared => {
            // close(2) has nothing to say about it; the keeper tries again.
            if client.close_now(file).is_ok() {
                node.arena.release(slot.id());
            }
        }
        Ok(client) => {
            release_later(slot.id(), file.open);
            client.close(file);
            release_confirmed(&client, &node.arena);
        }
        // The keeper finds the slot closing when this process ends.
        Err(_) => {}
    }
}

/// Slots whose close no server has confirmed yet, and the process that closed them. They are given back
/// only afterwards: if we die before, the keeper sends it.
static UNCONFIRMED: Mutex<(u32, Vec<(OpenId, SlotId)>)> =
    Mutex::const_new(<RawMutex as lock_api::RawMutex>::INIT, (0, Vec::new()));

fn release_later(id: SlotId, open: OpenId) {
    let me = process::pid();
    let mut unconfirmed = UNCONFIRMED.lock();
    if unconfirmed.0 != me {
        // Those of our parent are its own to give back.
        *unconfirmed = (me, Vec::new());
    }
    unconfirmed.1.push((open, id));
}

fn release_confirmed(client: &Client, arena: &Arena) {
    let mut unconfirmed = UNCONFIRMED.lock();
    if unconfirmed.0 != process::pid() {
        return;
    }
    client.drain_closed(|open| {
        if let Some(at) = unconfirmed.1.iter().position(|(o, _)| *o == open) {
            arena.release(unconfirmed.1.swap_remove(at).1);
        }
    });
}

/// Sends every deferred close and gives their slots back: before exec and at the end.
pub fn flush_closes() {
    if let (Some(client), Some(arena)) = (process::known_client(), process::known_arena()) {
        client.flush_deferred();
        release_confirmed(client, arena);
    }
}

/// The process ends: its descriptors of ours are closed now, so that locks which end with the last
/// of them have ended when somebody learns that the process has. Record locks end with its client.
pub fn close_all() {
    for number in subject::held() {
        if let Ok(Fd::Ours(open)) = fds::lookup(number) {
            fdtable::forget(number);
            // The kernel closes it in any case when the process is gone.
            let _ = subject::close(&open);
            release_if_last(&open.slot);
        }
    }
    hold::leave_all();
    flush_closes();
}

/// Before a further descriptor of the description comes into being.
pub fn share(open: &Open) -> Result<(), Errno> {
    let node = process::node()?;
    let before = open.slot.is_shared();
    if !placeholder::mark_shared(node.runtime, &node.arena, open.fd as i32, open.slot.id())? {
        // Another thread closed it meanwhile: we may have been the ones who kept it open.
        release_if_last(&open.slot);
        return Err(Errno::EBADF);
    }
    if !before {
        open.note_written();
    }
    Ok(())
}

/// dup(fd)
pub fn dup(ctx: &mut Ctx<'_>) -> Answer {
    duplicate(ctx)
}

/// Issues a call that returns a duplicate of the descriptor in argument 0.
pub fn duplicate(ctx: &mut Ctx<'_>) -> Answer {
    let open = match fds::of(ctx, 0)? {
        Fd::Ours(open) => open,
        Fd::Internal => return Err(Errno::EBADF),
        Fd::Theirs if fdtable::get(ctx.fd(0)) == State::Fifo => {
            let said = ctx.native();
            if let Ok(new) = usize::try_from(said) {
                fdtable::set(new, State::Fifo);
            }
            return Ok(Outcome::Ours(said));
        }
        Fd::Above | Fd::Listing | Fd::Theirs => return theirs(Bypass::NativeDescriptor),
    };
    share(&open)?;
    if subject::FOREIGN {
        return theirs(Bypass::KernelsPart);
    }
    let said = ctx.native();
    if let Ok(new) = usize::try_from(said) {
        fdtable::set(new, State::Ours(open.slot.id().index));
    }
    Ok(Outcome::Ours(said))
}

/// dup2(old, new) and dup3(old, new, flags)
pub fn dup_onto(ctx: &mut Ctx<'_>) -> Answer {
    let (old, new) = (ctx.fd(0), ctx.fd(1));
    let from = fds::lookup(old)?;
    if matches!(from, Fd::Internal) {
        return Err(Errno::EBADF);
    }
    if old == new {
        return theirs(Bypass::KernelsPart);
    }
    let replaced = match fds::lookup(new) {
        Ok(Fd::Ours(open)) => Some(open),
        // dup(2) names this errno for a number that is not to be had at the moment.
        Ok(Fd::Internal) => return Err(Errno::EBUSY),
        Ok(Fd::Theirs | Fd::Above | Fd::Listing) | Err(_) => None,
    };
    let state = match &from {
        Fd::Ours(open) => {
            share(open)?;
            State::Ours(open.slot.id().index)
        }
        _ if fdtable::get(old) == State::Fifo => State::Fifo,
        _ => State::Unknown,
    };
    if subject::FOREIGN && replaced.is_none() {
        return theirs(Bypass::KernelsPart);
    }
    let was_fifo = fdtable::get(new) == State::Fifo;
    let touches_ours = state != State::Unknown || was_fifo || replaced.is_some();
    fdtable::forget(new);
    let said = ctx.native();
    fdtable::forget(new);
    if said >= 0 {
        if state != State::Unknown {
            fdtable::set(new, state);
        }
        if let Some(open) = replaced {
            closed(&open);
        }
        if was_fifo {
            hold::settle_fifos();
        }
    }
    if !touches_ours {
        return asked(Bypass::NativeDescriptor, Some(said));
    }
    Ok(Outcome::Ours(said))
}

/// close_range(first, last, flags)
pub fn close_range(ctx: &mut Ctx<'_>) -> Answer {
    let (first, last, flags) = (ctx.arg(0) as u32, ctx.arg(1) as u32, ctx.arg(2) as u32);
    let known = libc::CLOSE_RANGE_UNSHARE | libc::CLOSE_RANGE_CLOEXEC;
    if flags & !known != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & libc::CLOSE_RANGE_CLOEXEC != 0 {
        // Ours are closed at exec anyway, and nothing else changes.
        return theirs(Bypass::KernelsPart);
    }
    let open: Vec<Open> = open_numbers()?
        .into_iter()
        .filter(|fd| (first..=last).contains(fd))
        .filter_map(|fd| match fds::lookup(fd as usize) {
            Ok(Fd::Ours(open)) => Some(open),
            _ => None,
        })
        .collect();
    if subject::FOREIGN {
        if open.is_empty() {
            return theirs(Bypass::KernelsPart);
        }
        let said = ctx.native();
        open.iter().for_each(closed);
        return Ok(Outcome::Ours(said));
    }
    fdtable::forget_range(first as usize, last as usize);
    let mut from = first;
    let mut kept: Vec<u32> = descriptors::in_use()
        .filter(|fd| (first..=last).contains(fd))
        .collect();
    kept.sort_unstable();
    for fd in kept {
        if fd > from {
            kernel::close_range(from, fd - 1, flags)?;
        }
        from = fd + 1;
    }
    if from <= last {
        kernel::close_range(from, last, flags)?;
    }
    fdtable::forget_range(first as usize, last as usize);
    open.iter().for_each(closed);
    hold::settle_fifos();
    if open.is_empty() {
        return asked(Bypass::KernelsPart, Some(0));
    }
    done()
}

/// The numbers that are open, from the kernel's own list.
pub fn open_numbers() -> Result<Vec<u32>, Errno> {
    let path = kernel::CPath::new(format!("/proc/{}/fd", subject::real_pid()).as_bytes());
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    let list = kernel::open_at(kernel::AT_FDCWD, &path, flags, 0)?;
    let mut numbers = Vec::new();
    let mut page = vec![0u8; 4096];
    loop {
        let len = match kernel::getdents(list, &mut page) {
            Ok(0) => break,
            Ok(len) => len,
            Err(errno) => {
                kernel::close(list);
                return Err(errno);
            }
        };
        let names = dirent::records(&page[..len]).filter_map(|r| crate::path::number(r.name));
        numbers.extend(names.filter(|fd| *fd != list));
    }
    kernel::close(list);
    Ok(numbers)
}
