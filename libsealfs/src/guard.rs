//! The program's memory, touched so that a bad pointer is `EFAULT` and not a crash.
//!
//! Every byte that comes from or goes to a pointer of the program moves through the routines in
//! this file. While our SIGSEGV/SIGBUS handler stands (`patch::sigaction` puts it there and keeps
//! the program from noticing) they copy plainly, and a fault inside them is answered by going on
//! at their way out ([`fixup`]). While it does not stand (the program ignores SIGSEGV), the kernel
//! copies for us (`process_vm_readv` on ourselves).
//!
//! # Safety
//! The routines take any address. Callers vouch for their own side of a copy only.

use crate::patch::{class::SECCOMPED, stack};
use crate::sys;
pub use crate::values::{read_user, write_user};
use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// The pointer does not name memory that can be used so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Efault;

/// User addresses end here; what lies above is the kernel's.
const USER_END: usize = 0x7fff_ffff_f000;

/// True while faults inside the routines are caught.
pub static CATCHING: AtomicBool = AtomicBool::new(false);

/// Tells whether our fault handler stands.
pub fn set_catching(catching: bool) {
    CATCHING.store(catching, Relaxed);
}

/// True while faults inside the routines are caught, in the call that is being dispatched.
fn catching() -> bool {
    CATCHING.load(Relaxed) && !stack::faults_kill()
}

global_asm!(
    ".text",
    ".p2align 4",
    ".hidden sealfs_guard_copy",
    ".globl sealfs_guard_copy",
    ".type sealfs_guard_copy,@function",
    // (rdi to, rsi from, rdx bytes) -> rax: bytes not copied
    "sealfs_guard_copy:",
    ".cfi_startproc",
    "mov rcx, rdx",
    ".hidden sealfs_guard_copy_begin",
    ".globl sealfs_guard_copy_begin",
    "sealfs_guard_copy_begin:",
    "rep movsb",
    ".hidden sealfs_guard_copy_end",
    ".globl sealfs_guard_copy_end",
    "sealfs_guard_copy_end:",
    "mov rax, rcx",
    "ret",
    ".cfi_endproc",
    ".size sealfs_guard_copy, .-sealfs_guard_copy",
    ".p2align 4",
    ".hidden sealfs_guard_string",
    ".globl sealfs_guard_string",
    ".type sealfs_guard_string,@function",
    // (rdi to, rsi from, rdx room) -> rax: length without NUL, room if no NUL came, -1 on a fault
    "sealfs_guard_string:",
    ".cfi_startproc",
    "xor eax, eax",
    ".hidden sealfs_guard_string_begin",
    ".globl sealfs_guard_string_begin",
    "sealfs_guard_string_begin:",
    "2:",
    "cmp rax, rdx",
    "je 3f",
    "mov cl, byte ptr [rsi + rax]",
    "mov byte ptr [rdi + rax], cl",
    "test cl, cl",
    "je 3f",
    "inc rax",
    "jmp 2b",
    "3:",
    "ret",
    ".hidden sealfs_guard_string_end",
    ".globl sealfs_guard_string_end",
    "sealfs_guard_string_end:",
    "mov rax, -1",
    "ret",
    ".cfi_endproc",
    ".size sealfs_guard_string, .-sealfs_guard_string",
);

unsafe extern "C" {
    fn sealfs_guard_copy(to: *mut u8, from: *const u8, bytes: usize) -> usize;
    fn sealfs_guard_copy_begin();
    fn sealfs_guard_copy_end();
    fn sealfs_guard_string(to: *mut u8, from: *const u8, room: usize) -> usize;
    fn sealfs_guard_string_begin();
    fn sealfs_guard_string_end();
}

/// Where to go on when the instruction at `at` faulted, if it is one of the routines'.
pub fn fixup(at: usize) -> Option<usize> {
    let routines: [(unsafe extern "C" fn(), unsafe extern "C" fn()); 2] = [
        (sealfs_guard_copy_begin, sealfs_guard_copy_end),
        (sealfs_guard_string_begin, sealfs_guard_string_end),
    ];
    routines
        .iter()
        .find(|(begin, end)| (*begin as usize..*end as usize).contains(&at))
        .map(|(_, end)| *end as usize)
}

fn in_user_space(address: usize, bytes: usize) -> bool {
    address
        .checked_add(bytes)
        .is_some_and(|end| end <= USER_END)
}

fn copy(to: *mut u8, from: *const u8, bytes: usize, into_program: bool) -> Result<(), Efault> {
    if bytes == 0 {
        return Ok(());
    }
    if catching() || SECCOMPED.load(Relaxed) {
        // SAFETY: the caller vouches for its own side; faults on the other are caught. Under
        // seccomp without a handler there is no better way that would not be punished.
        let left = unsafe { sealfs_guard_copy(to, from, bytes) };
        return if left == 0 { Ok(()) } else { Err(Efault) };
    }
    let (local, remote, nr) = if into_program {
        (from as usize, to as usize, libc::SYS_process_vm_writev)
    } else {
        (to as usize, from as usize, libc::SYS_process_vm_readv)
    };
    let local = libc::iovec {
        iov_base: local as *mut _,
        iov_len: bytes,
    };
    let remote = libc::iovec {
        iov_base: remote as *mut _,
        iov_len: bytes,
    };
    let me = sys::gettid() as usize;
    // SAFETY: one element each; the kernel checks the remote side.
    let moved = unsafe {
        sys::syscall6(
            nr as usize,
            me,
            (&raw const local) as usize,
            1,
            (&raw const remote) as usize,
            1,
            0,
        )
    };
    if moved == bytes as isize {
        Ok(())
    } else {
        Err(Efault)
    }
}

/// Copies `bytes` from the program's address `from`.
///
/// # Safety
/// `to` must be valid for that many bytes. `from` may be anything.
pub unsafe fn copy_from_user(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Efault> {
    if !in_user_space(from as usize, bytes) {
        return Err(Efault);
    }
    copy(to, from, bytes, false)
}

/// Copies `bytes` to the program's address `to`. On a fault some of them may have arrived.
///
/// # Safety
/// `from` must be valid for that many bytes. `to` may be anything that is not Rust's to protect.
pub unsafe fn copy_to_user(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Efault> {
    if !in_user_space(to as usize, bytes) {
        return Err(Efault);
    }
    copy(to, from, bytes, true)
}

/// Why a string could not be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StringError {
    Fault,
    /// No NUL within the room.
    TooLong,
}

/// Copies the C string at the program's address `from` into `to` and returns it without its NUL.
/// A string that does not fit with its NUL is `TooLong`.
pub fn strncpy_from_user(to: &mut [u8], from: *const u8) -> Result<&[u8], StringError> {
    let room = to.len();
    let length = if catching() || SECCOMPED.load(Relaxed) {
        if !in_user_space(from as usize, 1) {
            return Err(StringError::Fault);
        }
        // SAFETY: `to` has that room; faults on the other side are caught.
        unsafe { sealfs_guard_string(to.as_mut_ptr(), from, room) }
    } else {
        string_by_pages(to, from)?
    };
    match length {
        usize::MAX => Err(StringError::Fault),
        length if length >= room => Err(StringError::TooLong),
        length => Ok(&to[..length]),
    }
}

/// As the assembly routine, page by page, so that a string that ends before a hole is read.
fn string_by_pages(to: &mut [u8], from: *const u8) -> Result<usize, StringError> {
    const PAGE_BYTES: usize = 4096;
    let mut done = 0;
    while done < to.len() {
        let at = (from as usize).wrapping_add(done);
        let bytes = (PAGE_BYTES - at % PAGE_BYTES).min(to.len() - done);
        let piece = &mut to[done..done + bytes];
        // SAFETY: the piece has that room.
        unsafe { copy_from_user(piece.as_mut_ptr(), at as *const u8, bytes) }
            .map_err(|Efault| StringError::Fault)?;
        if let Some(end) = piece.iter().position(|byte| *byte == 0) {
            return Ok(done + end);
        }
        done += bytes;
    }
    Ok(done)
}

/// A range of the program's memory that lies in user space, for handing to the kernel as it is:
/// the kernel itself answers `EFAULT` if parts of it are not there.
#[derive(Clone, Copy, Debug)]
pub struct UserRange {
    address: usize,
    bytes: usize,
}

impl UserRange {
    pub fn new(address: *const u8, bytes: usize) -> Result<Self, Efault> {
        let address = address as usize;
        if in_user_space(address, bytes) {
            Ok(Self { address, bytes })
        } else {
            Err(Efault)
        }
    }

    pub fn address(self) -> *mut u8 {
        self.address as *mut u8
    }

    pub fn len(self) -> usize {
        self.bytes
    }
}

/// As [`copy_to_user`], to where data for the program is made, which is its memory itself.
///
/// # Safety
/// As there.
pub unsafe fn fill(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), Efault> {
    // SAFETY: the caller vouches for its side.
    unsafe { copy_to_user(to, from, bytes) }
}

/// Where the bytes of a transfer lie between the program and us: in its own memory, which the
/// kernel is handed as it is.
pub struct Stage;

#[allow(
    clippy::unused_self,
    clippy::unnecessary_wraps,
    reason = "the memory of another process has to be copied"
)]
impl Stage {
    /// The buffers are the program's.
    pub fn of_program() -> Stage {
        Stage
    }

    /// The buffers are our own.
    pub fn own() -> Stage {
        Stage
    }

    pub fn fetch(&mut self, _list: &mut Vec<(usize, usize)>) -> Result<(), Efault> {
        Ok(())
    }

    pub fn prepare(&mut self, _list: &mut Vec<(usize, usize)>) {}

    pub fn deliver(&self, _list: &[(usize, usize)], _count: usize) -> Result<(), Efault> {
        Ok(())
    }
}
