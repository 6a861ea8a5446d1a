//! Has the program make system calls, by ptrace(2): what only it can do itself, as changing its
//! working directory, executing another program, mapping memory.
//!
//! The story: the thread waits for the answer to its call. It is seized, the answer is given, and it
//! stops before it has run one instruction of its own. From there it is sent back to its `syscall`
//! instruction with other registers, as often as it takes; then it gets its registers back, with
//! the answer, and is let go. Its signals are blocked meanwhile.
//!
//! What must stay true: the router lets every call of a thread pass that is driven (`twin::Shared`);
//! the word for that is taken back before the thread is let go.
//!
//! # Safety
//! ptrace requests get structures of ours of the kernel's size.

use crate::interpose::image::Executed;
use crate::log::{Level, say};
use crate::patch::call::Call;
use crate::sync::{Mutex, RawMutex};
use crate::sys::{self, check};
use crate::{guard, notify, subject, twin};
use sealfs_protocol::Errno;

const SYSCALL_BYTES: u64 = 2;
/// What the syscall-stops of a seized thread show as their signal (PTRACE_O_TRACESYSGOOD).
const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
const PTRACE_EVENT_STOP: i32 = 128;
const GETSIGMASK: usize = 0x420a;
const SETSIGMASK: usize = 0x420b;
const MASK_BYTES: usize = 8;
const ENTIRE: u64 = u64::MAX;

/// A thread that was seized.
struct Driven {
    tid: u32,
    registers: libc::user_regs_struct,
    mask: u64,
    /// A signal that was about to be delivered when the thread was seized.
    signal: i32,
    /// Memory that was mapped for us.
    lent: Vec<(usize, usize)>,
    /// It runs another program by now.
    executed: bool,
    gone: bool,
}

static DRIVEN: Mutex<Option<Driven>> =
    Mutex::const_new(<RawMutex as lock_api::RawMutex>::INIT, None);

fn trace(request: usize, tid: u32, address: usize, data: usize) -> Result<usize, Errno> {
    let nr = libc::SYS_ptrace as usize;
    // SAFETY: callers pass structures of the size that the request asks for.
    check(unsafe { sys::syscall4(nr, request, tid as usize, address, data) }).map_err(Errno)
}

/// Why a thread stopped.
enum Stop {
    Syscall,
    Executed,
    /// Stopped by us or with its whole group.
    Event,
    Signal(i32),
    Gone,
}

fn wait() -> Stop {
    let mut status = 0i32;
    loop {
        let at = (&raw mut status) as usize;
        let any = usize::MAX;
        let nr = libc::SYS_wait4 as usize;
        // SAFETY: the status is ours.
        match check(unsafe { sys::syscall4(nr, any, at, libc::__WALL as usize, 0) }) {
            Ok(_) => break,
            Err(libc::EINTR) => {}
            Err(_) => return Stop::Gone,
        }
    }
    if !libc::WIFSTOPPED(status) {
        return Stop::Gone;
    }
    match (libc::WSTOPSIG(status), status >> 16) {
        (SYSCALL_STOP, _) => Stop::Syscall,
        (_, libc::PTRACE_EVENT_EXEC) => Stop::Executed,
        (_, PTRACE_EVENT_STOP) => Stop::Event,
        (signal, _) => Stop::Signal(signal),
    }
}

impl Driven {
    fn seize() -> Result<Driven, Errno> {
        let tid = subject::tid();
        let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACEEXEC;
        trace(libc::PTRACE_SEIZE as usize, tid, 0, options as usize)?;
        let mut driven = Driven {
            tid,
            // SAFETY: zeros are a value of this plain structure.
            registers: unsafe { core::mem::zeroed() },
            mask: 0,
            signal: 0,
            lent: Vec::new(),
            executed: false,
            gone: false,
        };
        twin::set_driving(tid);
        trace(libc::PTRACE_INTERRUPT as usize, tid, 0, 0)?;
        notify::answer(subject::call_id(), 0)?;
        match wait() {
            Stop::Gone => driven.gone = true,
            Stop::Signal(signal) => driven.signal = signal,
            Stop::Syscall | Stop::Executed | Stop::Event => {}
        }
        let registers = (&raw mut driven.registers) as usize;
        trace(libc::PTRACE_GETREGS as usize, tid, 0, registers)?;
        let mask = (&raw mut driven.mask) as usize;
        trace(GETSIGMASK, tid, MASK_BYTES, mask)?;
        driven.set_mask(ENTIRE)?;
        Ok(driven)
    }

    fn set_mask(&self, mask: u64) -> Result<(), Errno> {
        let at = (&raw const mask) as usize;
        trace(SETSIGMASK, self.tid, MASK_BYTES, at).map(|_| ())
    }

    fn set(&self, registers: &libc::user_regs_struct) -> Result<(), Errno> {
        let at = core::ptr::from_ref(registers) as usize;
        trace(libc::PTRACE_SETREGS as usize, self.tid, 0, at).map(|_| ())
    }

    /// Runs to the next stop of a system call, or its being another program.
    fn run(&mut self) -> Result<(), Errno> {
        loop {
            trace(libc::PTRACE_SYSCALL as usize, self.tid, 0, 0)?;
            match wait() {
                Stop::Syscall => return Ok(()),
                Stop::Executed => {
                    self.executed = true;
                    // Whichever thread executes goes on as the first one.
                    self.tid = subject::pid();
                    return Ok(());
                }
                // Put off until the thread is let go.
                Stop::Signal(signal) => self.signal = signal,
                Stop::Event => {}
                Stop::Gone => {
                    self.gone = true;
                    return Err(Errno::ESRCH);
                }
            }
        }
    }

    fn call(&mut self, call: &Call) -> Result<isize, Errno> {
        let mut registers = self.registers;
        registers.rip -= SYSCALL_BYTES;
        registers.orig_rax = u64::MAX;
        registers.rax = call.nr as u64;
        let [a, b, c, d, e, f] = call.args.map(|argument| argument as u64);
        (registers.rdi, registers.rsi, registers.rdx) = (a, b, c);
        (registers.r10, registers.r8, registers.r9) = (d, e, f);
        self.set(&registers)?;
        self.run()?;
        self.run()?;
        if self.executed {
            return Ok(0);
        }
        let at = (&raw mut registers) as usize;
        trace(libc::PTRACE_GETREGS as usize, self.tid, 0, at)?;
        Ok(registers.rax as isize)
    }

    fn map(&mut self, bytes: usize) -> Result<usize, Errno> {
        let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
        let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
        let said = self.call(&Call {
            nr: libc::SYS_mmap as usize,
            args: [0, bytes, protection, flags, usize::MAX, 0],
        })?;
        let address = check(said).map_err(Errno)?;
        self.lent.push((address, bytes));
        Ok(address)
    }

    /// Lets the thread go on, behind its call, for which the kernel said `said`.
    fn release(mut self, said: isize) {
        if !self.executed && !self.gone {
            for (address, bytes) in core::mem::take(&mut self.lent) {
                let _ = self.call(&Call {
                    nr: libc::SYS_munmap as usize,
                    args: [address, bytes, 0, 0, 0, 0],
                });
            }
            let mut registers = self.registers;
            registers.rax = said as u64;
            registers.orig_rax = u64::MAX;
            let _ = self.set(&registers);
        }
        let _ = self.set_mask(self.mask);
        twin::set_driving(0);
        let _ = trace(
            libc::PTRACE_DETACH as usize,
            self.tid,
            0,
            self.signal as usize,
        );
    }
}

/// Does something with the thread that made the call, seizing it if it is not yet.
fn with<T>(act: impl FnOnce(&mut Driven) -> Result<T, Errno>) -> Result<T, Errno> {
    let mut driven = DRIVEN.lock();
    if driven.is_none() {
        match Driven::seize() {
            Ok(fresh) => *driven = Some(fresh),
            Err(errno) => {
                twin::set_driving(0);
                say(
                    Level::Error,
                    format_args!("a program under the supervisor cannot be traced: {errno}"),
                );
                return Err(Errno::EIO);
            }
        }
    }
    match driven.as_mut() {
        Some(driven) if !driven.executed && !driven.gone => act(driven),
        _ => Err(Errno::ESRCH),
    }
}

/// Has the program make the call; the kernel's word for it.
pub fn native(call: &Call) -> isize {
    with(|driven| driven.call(call)).unwrap_or_else(|errno| -errno.0 as isize)
}

/// Puts bytes into the program's memory until its call is over; the address, 0 if it has no room.
pub fn lend(bytes: &[u8]) -> usize {
    let lent = with(|driven| {
        let address = driven.map(bytes.len())?;
        // SAFETY: the slice is valid for its length.
        unsafe { guard::copy_to_user(address as *mut u8, bytes.as_ptr(), bytes.len()) }?;
        Ok(address)
    });
    lent.unwrap_or(0)
}

/// Strings and pointer arrays as they lie in the program's memory: arrays first, then strings.
fn image(base: usize, path: &[u8], lists: [&[Vec<u8>]; 2]) -> (Vec<u8>, usize, [usize; 2]) {
    const WORD: usize = size_of::<usize>();
    let words: usize = lists.iter().map(|list| list.len() + 1).sum();
    let mut arrays = Vec::with_capacity(words * WORD);
    let mut strings = [path, b"\0"].concat();
    let texts = base + words * WORD;
    let mut starts = [0; 2];
    for (start, list) in starts.iter_mut().zip(lists) {
        *start = base + arrays.len();
        for text in list {
            arrays.extend_from_slice(&(texts + strings.len()).to_le_bytes());
            strings.extend_from_slice(text);
            strings.push(0);
        }
        arrays.extend_from_slice(&0usize.to_le_bytes());
    }
    arrays.extend_from_slice(&strings);
    (arrays, texts, starts)
}

/// Has the program execute another one. Comes back only with an error.
pub fn execute(what: Executed<'_>, arguments: Vec<Vec<u8>>, environment: Vec<Vec<u8>>) -> isize {
    let path = match what {
        Executed::Path(path) => path,
        Executed::Memory(_) => b"",
    };
    let lists = [&arguments[..], &environment[..]];
    let bytes = image(0, path, lists).0.len();
    let said = with(|driven| {
        let base = driven.map(bytes)?;
        let (image, path, lists) = image(base, path, lists);
        // SAFETY: the vector is valid for its length.
        unsafe { guard::copy_to_user(base as *mut u8, image.as_ptr(), image.len()) }?;
        driven.call(&what.call(path, lists))
    });
    said.unwrap_or_else(|errno| -errno.0 as isize)
}

/// What the thread has closed is gone when it comes back to its own instructions: it is sent there
/// once, if it is in our hands.
pub fn settle() {
    if is_driving() {
        native(&Call {
            nr: libc::SYS_getpid as usize,
            args: [0; 6],
        });
    }
}

/// Whether the thread is in our hands: its call is answered by letting it go.
pub fn is_driving() -> bool {
    DRIVEN.lock().is_some()
}

/// Lets the thread go, if it is in our hands, with this answer.
pub fn finish(said: isize) {
    if let Some(driven) = DRIVEN.lock().take() {
        driven.release(said);
    }
}

#[cfg(test)]
mod tests {
    use super::image;

    #[test]
    fn arrays_point_at_the_strings_behind_them() {
        let (arguments, environment) = (vec![b"a".to_vec(), b"bc".to_vec()], vec![b"X=1".to_vec()]);
        let (bytes, path, [argv, envp]) = image(0x1000, b"/p", [&arguments, &environment]);
        let word = |at: usize| {
            let bytes = &bytes[at - 0x1000..][..8];
            usize::from_le_bytes(*bytes.first_chunk().expect("eight bytes"))
        };
        let text = |at: usize| bytes[at - 0x1000..].split(|b| *b == 0).next();
        assert_eq!(text(path), Some(&b"/p"[..]));
        assert_eq!(text(word(argv + 8)), Some(&b"bc"[..]));
        assert_eq!((word(argv + 16), word(envp + 8)), (0, 0));
        assert_eq!(text(word(envp)), Some(&b"X=1"[..]));
    }
}
