//! The dispatcher: every system call that is not provably native ends here, from a patched site or
//! from an exported symbol, and is given to the family it belongs to.
//!
//! A handler turns the raw arguments into types (`user`), asks `route` whether the call is ours,
//! and does it on the client and the arena. `calls` has the one table of all numbers.
//!
//! What must stay true: no path below the mount reaches the kernel; a handler answers with the
//! errno that the kernel would give; "not ours" is an answer with a reason, never an error.
//!
//! # Safety
//! Calls are handed to the kernel with the program's own arguments or with addresses of ours.

mod at;
mod attr;
mod beyond;
mod calls;
mod control;
mod copy;
mod cwd;
mod dir;
mod exec;
mod fd;
mod file;
mod filled;
mod hold;
pub mod image;
mod inotify;
mod leaving;
mod lock;
mod map;
mod name;
mod naming;
mod node;
mod open;
mod opendir;
mod process;
mod program;
mod refuse;
mod repeat;
mod resolve;
mod rw;
mod socket;
mod space;
mod stat;
mod user;
mod write_limit;
mod xattr;

pub use calls::{CLASSES, find, name_of};
#[cfg(supervisor)]
pub use fd::closed;

use crate::observe;
use crate::patch::call::{Call, Route, native_unmasked};
use crate::patch::class::Class;
use crate::process as state;
use crate::route::{Answer, Bypass, Outcome};
use crate::start::StartEnv;
use sealfs_protocol::Errno;

/// Called once, from the constructor, when `SEALFS_MOUNT` is set, before any call is intercepted.
pub fn process_start(env: &StartEnv) {
    opendir::start();
    state::start(env);
}

/// A call on its way through the dispatcher.
pub struct Ctx<'a> {
    pub call: &'a mut Call,
    /// What the kernel said when it was asked first; `None` if it was not.
    pub kernel_said: Option<isize>,
}

impl Ctx<'_> {
    /// Argument `n` as an address or a length.
    pub fn arg(&self, n: usize) -> usize {
        self.call.args[n]
    }

    /// Argument `n` as a C `int`.
    pub fn int(&self, n: usize) -> i32 {
        self.call.args[n] as i32
    }

    /// Argument `n` as a descriptor number; negative ones are beyond every table.
    pub fn fd(&self, n: usize) -> usize {
        self.call.args[n] as u32 as usize
    }

    /// Issues the call as it stands, with the program's signal mask.
    pub fn native(&self) -> isize {
        native(self.call)
    }
}

/// Decides an intercepted call. Runs on a private stack with asynchronous signals blocked (unless
/// the process is under seccomp). May rewrite the arguments and return [`Route::Native`]: the
/// program's own instruction then issues the call, on the program's stack, with its own mask. A path call
/// that looks native is [`Route::Try`], likewise.
pub fn dispatch(call: &mut Call) -> Route {
    let Some((handler, class)) = find(call.nr) else {
        return Route::Native;
    };
    state::enter();
    let begun = observe::is_on().then(|| observe::begin(call, class));
    let mut ctx = Ctx {
        call,
        kernel_said: None,
    };
    let outcome = outcome_of(handler(&mut ctx));
    if let Some(begun) = begun {
        observe::end(&begun, outcome);
    }
    match outcome {
        Outcome::Ours(value) | Outcome::Asked(_, value) => Route::Done(value),
        Outcome::Theirs(Bypass::NotBelowMount) if by_path(class) && !state::is_sandboxed() => {
            Route::Try
        }
        Outcome::Theirs(_) => Route::Native,
    }
}

/// An error is an answer of ours.
pub fn outcome_of(answer: Answer) -> Outcome {
    answer.unwrap_or_else(|errno| Outcome::Ours(-errno.0 as isize))
}

/// A path call that looked native was given to the kernel first, and the kernel said `result`
/// (`-ENOENT`, `-ENOTDIR` or `-ELOOP`). If the path leads into the mount after all (a local
/// symbolic link, `..`), answers the call; otherwise returns `result` as it is.
pub fn dispatch_after_kernel(call: &mut Call, result: isize) -> isize {
    let Some((handler, class)) = find(call.nr) else {
        return result;
    };
    let begun = observe::is_on().then(|| observe::begin(call, class));
    let mut ctx = Ctx {
        call,
        kernel_said: Some(result),
    };
    match outcome_of(handler(&mut ctx)) {
        Outcome::Theirs(_) => result,
        outcome @ (Outcome::Ours(value) | Outcome::Asked(_, value)) => {
            if let Some(begun) = begun {
                observe::end_after_kernel(&begun, outcome);
            }
            value
        }
    }
}

fn by_path(class: Class) -> bool {
    matches!(class, Class::Path | Class::AtPath)
}

/// What stands for the kernel's word where it was not asked.
pub const NOT_FOUND: Option<isize> = Some(-(Errno::ENOENT.0 as isize));

/// The kernel's words for "this path leads nowhere": the mount may lie behind a link on it.
pub fn is_missing(result: isize) -> bool {
    [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP]
        .iter()
        .any(|e| result == -e.0 as isize)
}

/// Issues a call with the program's signal mask: handlers may run before it returns.
pub fn native(call: &Call) -> isize {
    // SAFETY: the arguments are the program's own, which the kernel checks, or addresses of values
    // that the caller keeps alive.
    unsafe { native_unmasked(call) }
}

/// The signature of a handler.
pub type Handler = fn(&mut Ctx<'_>) -> Answer;
