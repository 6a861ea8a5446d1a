//! Where a site is cut. The five bytes of a jump must come from whole instructions of which only
//! the first may be a jump target.
//!
//! Preferred: the instructions right *before* the `syscall`, which stays where it is, so that
//! cancellation, unwinders and debuggers find a native call at the address they expect. Where that
//! is impossible the `syscall` itself and its neighbours move into the stub.

use crate::scan::{Scan, movable};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use std::ops::Range;

/// Bytes of a near jump.
pub const JUMP_BYTES: u64 = 5;
const RT_SIGRETURN: u64 = 15;

/// How one site is dealt with. Ranges are indices into `Scan::code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// These instructions move; the `syscall` stays.
    Before {
        moved: Range<usize>,
    },
    /// These move, and the `syscall` among them.
    Carried {
        moved: Range<usize>,
    },
    Left(Why),
}

/// Why a site is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Unwinders recognise `rt_sigreturn` by its bytes.
    SignalReturn,
    /// Jump targets or immovable instructions on both sides.
    NoRoom,
}

impl Why {
    /// In words, for people.
    pub fn text(self) -> &'static str {
        match self {
            Self::SignalReturn => "return from a signal handler",
            Self::NoRoom => "no room for a jump",
        }
    }
}

/// Decides the site of the `syscall` at index `site`. Nothing before `free_from` may be touched:
/// it belongs to the window of the site before.
pub fn plan(scan: &Scan, site: usize, free_from: u64) -> Plan {
    let code = &scan.code;
    if site > 0 && is_signal_return(&code[site - 1]) {
        return Plan::Left(Why::SignalReturn);
    }
    let end = code[site].ip();
    let mut first = site;
    while end - code[first].ip() < JUMP_BYTES
        && first > 0
        && !scan.targets.contains(&code[first].ip())
        && code[first - 1].next_ip() == code[first].ip()
        && code[first - 1].ip() >= free_from
        && movable(&code[first - 1])
    {
        first -= 1;
    }
    if end - code[first].ip() >= JUMP_BYTES {
        return Plan::Before { moved: first..site };
    }
    let mut behind = site + 1;
    while code[behind - 1].next_ip() - code[first].ip() < JUMP_BYTES {
        let Some(next) = code.get(behind) else {
            return Plan::Left(Why::NoRoom);
        };
        let contiguous = next.ip() == code[behind - 1].next_ip();
        if !contiguous || scan.targets.contains(&next.ip()) || !movable(next) {
            return Plan::Left(Why::NoRoom);
        }
        behind += 1;
    }
    Plan::Carried {
        moved: first..behind,
    }
}

/// `mov eax, 15` or `mov rax, 15`, as the return trampoline has it.
fn is_signal_return(before: &Instruction) -> bool {
    before.mnemonic() == Mnemonic::Mov
        && matches!(before.op0_register(), Register::EAX | Register::RAX)
        && matches!(
            before.op1_kind(),
            OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64
        )
        && before.immediate(1) == RT_SIGRETURN
}
