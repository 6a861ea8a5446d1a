//! A twin: the process that answers the calls of one process under the supervisor.
//!
//! It is forked from the router, knows the mount as a covered process does (registered in the node's
//! arena, with a client of its own), and runs the library's dispatcher for each call that the router
//! passes on. It forgets everything about descriptors and directories between two calls.
//!
//! What must stay true: each call is answered once; a twin ends with its process, and the keeper then
//! finds what the process left, as for a covered one.
//!
//! # Safety
//! The page that router and twin share holds atomics and is never unmapped.

use crate::fds::{self, Fd, Open};
use crate::interpose::{self, Ctx, NOT_FOUND};
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::patch::call::Call;
use crate::patch::class::{Class, TOUCHED};
use crate::route::{Bypass, Outcome};
use crate::sys::{self, check};
use crate::{
    credentials, drive, fdtable, notify, observe, pending, proc, process, restart, subject, waits,
};
use core::sync::atomic::{
    AtomicPtr, AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};
use notify::Notification;
use sealfs_protocol::Errno;

/// The kernel's word for "to be made again, if the handler that runs now asked for it".
pub const ERESTARTSYS: isize = 512;

/// What the router sees of a twin at any time.
#[repr(C)]
pub struct Shared {
    /// The thread that a twin drives: its calls pass. 0 is none.
    pub driving: AtomicU32,
    /// The process has, or had, something of ours.
    pub touched: AtomicU32,
    /// It has changed its identity.
    pub changed: AtomicU32,
}

static SHARED: AtomicPtr<Shared> = AtomicPtr::new(core::ptr::null_mut());

impl Shared {
    /// A page for a process and its twin.
    pub fn new() -> Result<&'static Shared, Errno> {
        let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let flags = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as usize;
        let bytes = size_of::<Shared>();
        let nr = libc::SYS_mmap as usize;
        // SAFETY: fresh zeroed memory, which is a value of the structure.
        unsafe {
            let page = sys::syscall6(nr, 0, bytes, protection, flags, usize::MAX, 0);
            Ok(&*(check(page).map_err(Errno)? as *const Shared))
        }
    }

    /// Unmaps the page, which nobody uses any more.
    pub fn drop_page(&'static self) {
        let at = core::ptr::from_ref(self) as usize;
        kernel::unmap(at, size_of::<Shared>());
    }
}

/// Says which thread is driven from here on.
pub fn set_driving(tid: u32) {
    // SAFETY: null or the page, which stays.
    if let Some(shared) = unsafe { SHARED.load(Acquire).as_ref() } {
        shared.driving.store(tid, Release);
    }
}

/// What a twin is made with.
pub struct Birth {
    pub pid: u32,
    pub pidfd: i32,
    /// Where calls come from; its end is the twin's.
    pub channel: i32,
    pub shared: &'static Shared,
}

/// Answers calls until the router closes the channel.
pub fn run(birth: &Birth) {
    proc::set_name(c"sealfs-twin");
    SHARED.store(core::ptr::from_ref(birth.shared).cast_mut(), Release);
    subject::set_process(birth.pid, birth.pidfd);
    subject::set_call(birth.pid, 0);
    process::enter();
    // Nothing is remembered: another's descriptors change without our being asked.
    fdtable::freeze(true);
    if birth.shared.changed.load(Relaxed) != 0 {
        credentials::note_change();
    }
    let umask = proc::Status::of(birth.pid).and_then(|status| status.umask());
    process::note_umask(umask.unwrap_or(0o022));
    waits::start(birth.channel);
    let mut left = Vec::new();
    loop {
        look_after(&mut left, birth.channel);
        let Some(notification) = waits::next(birth.channel) else {
            return;
        };
        close_left(&mut left);
        left.clear();
        subject::set_call(notification.tid, notification.id);
        if is_exec(notification.number) {
            left = closed_by_exec();
        }
        serve(&notification);
        if TOUCHED.load(Relaxed) {
            birth.shared.touched.store(1, Relaxed);
        }
    }
}

/// A process that never had a twin was killed: as long as somebody is registered who then ends, the
/// keeper looks for what it left.
pub fn mourn() {
    process::enter();
    let _ = process::state();
}

/// The next call from the router; `None` when there will be none.
pub fn receive(channel: i32) -> Option<Notification> {
    let mut one = Notification::default();
    let (at, bytes) = ((&raw mut one) as usize, size_of::<Notification>());
    loop {
        let nr = libc::SYS_read as usize;
        // SAFETY: the structure has that many bytes.
        match check(unsafe { sys::syscall3(nr, channel as usize, at, bytes) }) {
            Ok(read) => return (read == bytes).then_some(one),
            Err(libc::EINTR) => {}
            Err(_) => return None,
        }
    }
}

fn is_exec(number: i32) -> bool {
    matches!(i64::from(number), libc::SYS_execve | libc::SYS_execveat)
}

/// What exec closes without a word.
fn closed_by_exec() -> Vec<Open> {
    let is_closed = |fd| match fds::lookup(fd) {
        Ok(Fd::Ours(open)) if proc::closes_at_exec(subject::pid(), open.fd) => Some(open),
        _ => None,
    };
    let open = subject::held().filter_map(is_closed).collect();
    subject::give_back();
    open
}

/// Tells of what is closed by now.
fn close_left(left: &mut Vec<Open>) {
    left.retain(|open| {
        let still = matches!(fds::lookup(open.fd as usize), Ok(Fd::Ours(now)) if now.slot.id() == open.slot.id());
        subject::give_back();
        if !still {
            interpose::closed(open);
        }
        still
    });
}

/// Until the next call comes: whether exec is through with it, sooner and later, at last after about
/// a second. Then the kernel has refused it.
fn look_after(left: &mut Vec<Open>, channel: i32) {
    const FIRST_MS: usize = 1;
    const LAST_MS: usize = 512;
    let mut wait_ms = FIRST_MS;
    while !left.is_empty() && wait_ms <= LAST_MS && !waits::is_readable(channel, wait_ms) {
        close_left(left);
        wait_ms *= 2;
    }
}

/// Answers a call.
pub fn serve(notification: &Notification) {
    answer(notification, decide_for(notification));
}

/// What is answered to a call; `None`: the kernel does it.
pub fn decide_for(notification: &Notification) -> Option<isize> {
    let mut call = Call {
        nr: notification.number as usize,
        args: notification.arguments.map(|argument| argument as usize),
    };
    // A panic of ours is an I/O error of the call.
    let said = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| decide(&mut call)));
    subject::give_back();
    match said.unwrap_or(Some(-Errno::EIO.0 as isize)) {
        None if drive::is_driving() => Some(drive::native(&call)),
        Some(said) if said == -Errno::EINTR.0 as isize && pending::take_given_up() => {
            Some(-ERESTARTSYS)
        }
        said => said,
    }
}

/// Lets the thread go on with what was decided.
pub fn answer(notification: &Notification, said: Option<isize>) {
    // ENOENT: the thread was killed meanwhile.
    let _ = match said {
        Some(said) if drive::is_driving() => {
            drive::finish(said);
            Ok(())
        }
        Some(said) => notify::answer(notification.id, said),
        None => notify::go_on(notification.id),
    };
}

/// What is answered; `None`: the kernel does it.
fn decide(call: &mut Call) -> Option<isize> {
    if call.nr == libc::SYS_rt_sigaction as usize {
        return restart::answer(call);
    }
    let (handler, class) = interpose::find(call.nr)?;
    process::enter();
    let by_path = matches!(class, Class::Path | Class::AtPath);
    if by_path || class == Class::Always {
        follow_directory();
    }
    let ends = call.nr == libc::SYS_exit_group as usize;
    if ends && subject::held().next().is_some() {
        // Who has never used the mount may still be the last to hold something.
        let _ = process::state();
    }
    let mut ctx = Ctx {
        call,
        kernel_said: None,
    };
    let begun = observe::is_on().then(|| observe::begin(ctx.call, class));
    let mut outcome = interpose::outcome_of(handler(&mut ctx));
    if by_path && outcome == Outcome::Theirs(Bypass::NotBelowMount) {
        // The kernel cannot be asked first, so the way is walked: a link on it may lead to us.
        ctx.kernel_said = NOT_FOUND;
        outcome = interpose::outcome_of(handler(&mut ctx));
    }
    if let Some(begun) = begun {
        observe::end(&begun, outcome);
    }
    match outcome {
        Outcome::Ours(value) | Outcome::Asked(_, value) => Some(value),
        Outcome::Theirs(_) => None,
    }
}

/// Goes to the working directory of the thread.
fn follow_directory() {
    let path = CPath::new(format!("/proc/{}/cwd", subject::tid()).as_bytes());
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
    if let Ok(directory) = kernel::open_at(AT_FDCWD, &path, flags, 0) {
        let _ = kernel::fchdir(directory);
        kernel::close(directory);
    }
}
