//! The seccomp filter of programs under the supervisor: which calls stop and ask.
//!
//! It is made from the library's one table of calls: those that it may answer ask, less those that
//! matter only to a library in the process itself, and less the forms of a call that can be told from
//! its arguments to be the kernel's. Everything else runs as without a filter; the kernel remembers
//! that of a number for which the filter looks at nothing else.
//!
//! What must stay true: a call that can name the mount, by a path or a descriptor, asks.
//!
//! # Safety
//! The kernel reads the program and its header while the call lasts.

use crate::interpose::CLASSES;
use crate::sys::{self, check};
use sealfs_protocol::Errno;

/// Calls of the table that ask nobody: they tell a library about its own process.
const OF_NO_CONCERN: &[i64] = &[
    libc::SYS_sigaltstack,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_setrlimit,
    libc::SYS_prlimit64,
];

const ARCHITECTURE: u32 = 0xc000_003e;
/// Numbers from here on are those of the x32 ABI.
const X32: u32 = 0x4000_0000;
/// `struct seccomp_data`
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const ARGUMENTS_AT: u32 = 16;

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_ASK: u32 = 0x7fc0_0000;
const RET_ERRNO: u32 = 0x0005_0000;

const LOAD: u16 = 0x20;
const RETURN: u16 = 0x06;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_FROM: u16 = 0x35;
const JUMP_ANY: u16 = 0x45;

const SET_MODE_FILTER: usize = 1;
const NEW_LISTENER: usize = 1 << 3;
const WAIT_KILLABLE: usize = 1 << 5;

/// `struct sock_filter`
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u16,
    yes: u8,
    no: u8,
    k: u32,
}

const fn step(code: u16, k: u32) -> Instruction {
    jump(code, k, 0, 0)
}

const fn jump(code: u16, k: u32, yes: u8, no: u8) -> Instruction {
    Instruction { code, yes, no, k }
}

/// What becomes of a call by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Allow,
    Ask,
    /// As by a kernel without it.
    Missing,
    /// Allowed if the low half of an argument has one of these bits.
    UnlessBits(u32, u32),
    /// Allowed if the argument is zero.
    UnlessZero(u32),
    /// Asks if the first argument is this number, and the second is not zero.
    IfFirst(u32),
}

fn verdict(number: i64) -> Verdict {
    match number {
        // Its requests would pass us by.
        libc::SYS_io_uring_setup => Verdict::Missing,
        libc::SYS_mmap => Verdict::UnlessBits(3, libc::MAP_ANONYMOUS as u32),
        libc::SYS_clone => Verdict::UnlessBits(0, libc::CLONE_THREAD as u32),
        libc::SYS_sendto => Verdict::UnlessZero(4),
        // `restart` says why.
        libc::SYS_rt_sigaction => Verdict::IfFirst(libc::SIGCHLD as u32),
        _ if OF_NO_CONCERN.contains(&number) => Verdict::Allow,
        _ if CLASSES.iter().any(|(known, _)| *known == number) => Verdict::Ask,
        _ => Verdict::Allow,
    }
}

impl Verdict {
    fn instructions(self) -> Vec<Instruction> {
        let low = |argument: u32| step(LOAD, ARGUMENTS_AT + 8 * argument);
        let high = |argument: u32| step(LOAD, ARGUMENTS_AT + 8 * argument + 4);
        let allow = step(RETURN, RET_ALLOW);
        let ask = step(RETURN, RET_ASK);
        match self {
            Verdict::Allow => vec![allow],
            Verdict::Ask => vec![ask],
            Verdict::Missing => vec![step(RETURN, RET_ERRNO | libc::ENOSYS as u32)],
            Verdict::UnlessBits(argument, bits) => {
                vec![low(argument), jump(JUMP_ANY, bits, 0, 1), allow, ask]
            }
            Verdict::IfFirst(number) => {
                let mut all = vec![low(0), jump(JUMP_EQUAL, number, 1, 0), allow];
                all.extend(Verdict::UnlessZero(1).instructions());
                all
            }
            Verdict::UnlessZero(argument) => vec![
                low(argument),
                jump(JUMP_EQUAL, 0, 0, 3),
                high(argument),
                jump(JUMP_EQUAL, 0, 0, 1),
                allow,
                ask,
            ],
        }
    }
}

/// A decision tree over runs of numbers, which begin at the number that stands with each.
fn tree(runs: &[(u32, Verdict)]) -> Vec<Instruction> {
    if let [(_, verdict)] = runs {
        return verdict.instructions();
    }
    let (below, above) = runs.split_at(runs.len() / 2);
    let (left, right) = (tree(below), tree(above));
    let reached = u8::try_from(left.len()).is_ok();
    debug_assert!(reached, "a jump of BPF reaches 255 instructions");
    let mut all = vec![jump(JUMP_FROM, above[0].0, left.len() as u8, 0)];
    all.extend(left);
    all.extend(right);
    all
}

fn program() -> Vec<Instruction> {
    let mut runs: Vec<(u32, Verdict)> = Vec::new();
    for number in 0..512u32 {
        let verdict = verdict(i64::from(number));
        if runs.last().is_none_or(|(_, last)| *last != verdict) {
            runs.push((number, verdict));
        }
    }
    let allow = step(RETURN, RET_ALLOW);
    let mut all = vec![
        step(LOAD, ARCHITECTURE_AT),
        jump(JUMP_EQUAL, ARCHITECTURE, 1, 0),
        allow,
        step(LOAD, NUMBER_AT),
        jump(JUMP_FROM, X32, 0, 1),
        step(RETURN, RET_ERRNO | libc::ENOSYS as u32),
    ];
    all.extend(tree(&runs));
    all
}

/// Puts the filter on the calling process, for good; its listener.
pub fn install() -> Result<i32, Errno> {
    #[repr(C)]
    struct Program {
        len: u16,
        first: *const Instruction,
    }
    let instructions = program();
    let header = Program {
        len: instructions.len() as u16,
        first: instructions.as_ptr(),
    };
    let at = (&raw const header) as usize;
    let flags = NEW_LISTENER | WAIT_KILLABLE;
    let nr = libc::SYS_seccomp as usize;
    // SAFETY: the header and the instructions live until the call is over.
    let said = unsafe { sys::syscall3(nr, SET_MODE_FILTER, flags, at) };
    check(said).map(|fd| fd as i32).map_err(Errno)
}

const NO_RIGHTS: &str = "seccomp is not allowed here (the container's own filter?)";

/// Puts the filter on this process, or says why not. Who is not root has to give up first what
/// setuid programs below would get.
pub fn put_on() -> Result<i32, String> {
    available()?;
    let said = match install() {
        Err(Errno::EACCES) => {
            let (nr, what) = (libc::SYS_prctl as usize, libc::PR_SET_NO_NEW_PRIVS as usize);
            // SAFETY: numbers.
            let _ = unsafe { sys::syscall6(nr, what, 1, 0, 0, 0, 0) };
            install()
        }
        said => said,
    };
    said.map_err(|errno| match errno {
        Errno::EBUSY => "another supervisor answers for this process already".to_owned(),
        Errno::EPERM | Errno::ENOSYS => NO_RIGHTS.to_owned(),
        errno => format!("the kernel refuses the seccomp filter: {errno}"),
    })
}

/// Whether the kernel has what is needed, and lets us; if not, why.
pub fn available() -> Result<(), String> {
    let flags = NEW_LISTENER | WAIT_KILLABLE;
    // SAFETY: no filter is handed over: the kernel looks at the flags first, then says EFAULT.
    let said = unsafe { sys::syscall3(libc::SYS_seccomp as usize, SET_MODE_FILTER, flags, 0) };
    match check(said).map_err(Errno) {
        Err(Errno::EFAULT) => {}
        Err(Errno::EINVAL) => {
            return Err(
                "the kernel is too old: seccomp user notification that waits through \
                        signals came with Linux 5.19"
                    .to_owned(),
            );
        }
        _ => return Err(NO_RIGHTS.to_owned()),
    }
    let scope = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    let restricted = !matches!(scope.trim(), "" | "0");
    if restricted && !may_trace_anybody() {
        return Err(
            "processes may not look into each other: set kernel.yama.ptrace_scope to 0".to_owned(),
        );
    }
    Ok(())
}

fn may_trace_anybody() -> bool {
    const CAP_SYS_PTRACE: u64 = 1 << 19;
    let status = crate::proc::Status::of(sys::getpid() as u32);
    status.is_some_and(|status| status.mask("CapEff") & CAP_SYS_PTRACE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the filter as the kernel does.
    fn judge(number: i64, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend_from_slice(&(number as u32).to_le_bytes());
        data.extend_from_slice(&ARCHITECTURE.to_le_bytes());
        data.extend_from_slice(&0u64.to_le_bytes());
        for argument in arguments {
            data.extend_from_slice(&argument.to_le_bytes());
        }
        let (program, mut at, mut word) = (program(), 0, 0u32);
        loop {
            let Instruction { code, yes, no, k } = program[at];
            at += 1;
            let holds = match code {
                LOAD => {
                    let bytes = data[k as usize..].first_chunk().expect("a word");
                    word = u32::from_le_bytes(*bytes);
                    continue;
                }
                RETURN => return k,
                JUMP_EQUAL => word == k,
                JUMP_FROM => word >= k,
                _ => word & k != 0,
            };
            at += usize::from(if holds { yes } else { no });
        }
    }

    #[test]
    fn every_call_that_may_be_ours_asks_and_no_other() {
        for number in 0..512 {
            let concerns = CLASSES.iter().any(|(known, _)| *known == number)
                && !OF_NO_CONCERN.contains(&number)
                && number != libc::SYS_io_uring_setup;
            let asks = judge(number, [0, 0, 0, 0, 1, 0]) == RET_ASK;
            assert_eq!(asks, concerns, "call {number}");
        }
    }

    #[test]
    fn what_arguments_show_to_be_the_kernels_does_not_ask() {
        let anonymous = [0, 0, 0, libc::MAP_ANONYMOUS as u64, 7, 0];
        assert_eq!(judge(libc::SYS_mmap, anonymous), RET_ALLOW);
        let thread = [libc::CLONE_THREAD as u64, 0, 0, 0, 0, 0];
        assert_eq!(judge(libc::SYS_clone, thread), RET_ALLOW);
        let action =
            |signal: i32, at: u64| judge(libc::SYS_rt_sigaction, [signal as u64, at, 0, 8, 0, 0]);
        assert_eq!(action(libc::SIGCHLD, 0x1000), RET_ASK);
        assert_eq!(action(libc::SIGCHLD, 0), RET_ALLOW);
        assert_eq!(action(libc::SIGINT, 0x1000), RET_ALLOW);
        assert_eq!(judge(libc::SYS_sendto, [0; 6]), RET_ALLOW);
        assert_eq!(judge(libc::SYS_sendto, [0, 0, 0, 0, 1 << 40, 0]), RET_ASK);
        let missing = RET_ERRNO | libc::ENOSYS as u32;
        assert_eq!(judge(libc::SYS_io_uring_setup, [0; 6]), missing);
    }
}
