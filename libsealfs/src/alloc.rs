//! The library's allocator: size classes over mmap, without libc and without a lock.
//!
//! Each class is a stack of free blocks whose head is a pointer and a tag, exchanged together
//! (`cmpxchg16b`), so a block that came back between the look and the swap is noticed. Memory of
//! the classes is never unmapped, so looking at a block that somebody else just took is harmless.
//! That makes it safe in a signal handler that interrupted it, and in the child of a fork that
//! happened in the middle of it: there is no state in which it is held.
//!
//! # Safety
//! Every block is aligned to 16 bytes at least, so its first word is a `u64`. Blocks come from anonymous memory that belongs to nobody else; a free block's first word is the
//! link to the next.

#![allow(
    clippy::cast_ptr_alignment,
    reason = "every block is aligned to 16 bytes at least"
)]

use crate::sys;
use core::alloc::{GlobalAlloc, Layout};
use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr;

/// Block sizes. Powers of two are aligned to themselves, up to a page.
const CLASSES: [usize; 22] = [
    16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192,
    12288, 16384, 24576, 32768,
];
const PAGE_BYTES: usize = 4096;
/// One refill of a class takes this much, or one block if that is more.
const REFILL_BYTES: usize = 4096;
/// What is asked of the kernel at a time.
const REGION_BYTES: usize = 1 << 20;

/// Two words that change together.
#[repr(C, align(16))]
struct Pair(UnsafeCell<[u64; 2]>);

// SAFETY: only touched by `load` (whose torn reads fail the exchange) and `exchange`.
unsafe impl Sync for Pair {}

impl Pair {
    const fn new() -> Self {
        Self(UnsafeCell::new([0, 0]))
    }

    /// Both words; they may be of different moments, in which case an exchange against them fails.
    fn load(&self) -> [u64; 2] {
        let words = self.0.get().cast::<u64>();
        // SAFETY: the pair is valid for reads; volatile because others write it.
        unsafe { [ptr::read_volatile(words), ptr::read_volatile(words.add(1))] }
    }

    /// Replaces `old` by `new` if nobody changed it meanwhile.
    fn exchange(&self, old: [u64; 2], new: [u64; 2]) -> bool {
        let done: u64;
        // SAFETY: the address is 16-byte aligned; rbx, which the compiler keeps for itself, is
        // handed back. Every operand has its register by name: one that the compiler chose might
        // be rbx, and be lost with it.
        unsafe {
            asm!(
                "xchg rsi, rbx",
                "lock cmpxchg16b xmmword ptr [rdi]",
                "sete al",
                "mov rbx, rsi",
                inout("rsi") new[0] => _,
                in("rdi") self.0.get(),
                inout("rax") old[0] => done,
                inout("rdx") old[1] => _,
                in("rcx") new[1],
                options(nostack)
            );
        }
        done as u8 != 0
    }
}

static FREE: [Pair; CLASSES.len()] = [const { Pair::new() }; CLASSES.len()];
/// Where the current region goes on, and where it ends.
static REGION: Pair = Pair::new();

fn class_of(layout: Layout) -> Option<usize> {
    let mut size = layout.size().max(1);
    if layout.align() > CLASSES[0] {
        if layout.align() > PAGE_BYTES {
            return None;
        }
        size = size.max(layout.align()).next_power_of_two();
    }
    let class = CLASSES.partition_point(|class| *class < size);
    (class < CLASSES.len()).then_some(class)
}

fn pop(class: usize) -> *mut u8 {
    loop {
        let head = FREE[class].load();
        let block = head[0] as *mut u64;
        if block.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: class memory stays mapped; if the block was taken meanwhile the tag differs.
        let next = unsafe { ptr::read_volatile(block) };
        if FREE[class].exchange(head, [next, head[1].wrapping_add(1)]) {
            return block.cast();
        }
    }
}

/// # Safety
/// `first` … `last` are blocks of this class linked through their first words, owned by the caller.
unsafe fn push(class: usize, first: *mut u8, last: *mut u8) {
    loop {
        let head = FREE[class].load();
        // SAFETY: `last` is the caller's until the exchange.
        unsafe { ptr::write_volatile(last.cast::<u64>(), head[0]) };
        if FREE[class].exchange(head, [first as u64, head[1].wrapping_add(1)]) {
            return;
        }
    }
}

/// Memory from the kernel, or null.
fn map(bytes: usize) -> *mut u8 {
    let protection = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let flags = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
    // SAFETY: a fresh anonymous mapping.
    let address = unsafe {
        sys::syscall6(
            libc::SYS_mmap as usize,
            0,
            bytes,
            protection,
            flags,
            usize::MAX,
            0,
        )
    };
    sys::check(address).map_or(ptr::null_mut(), |address| address as *mut u8)
}

/// # Safety
/// The range was mapped by `map` and nobody uses it any more.
unsafe fn unmap(address: usize, bytes: usize) {
    if bytes > 0 {
        // SAFETY: the caller vouches for the range.
        let _ = unsafe { sys::syscall3(libc::SYS_munmap as usize, address, bytes, 0) };
    }
}

/// Takes `bytes` (a multiple of a page) off the region, mapping a new one when it is used up.
fn carve(bytes: usize) -> *mut u8 {
    loop {
        let region = REGION.load();
        let [next, end] = region;
        if end.saturating_sub(next) >= bytes as u64 && next != 0 {
            if REGION.exchange(region, [next + bytes as u64, end]) {
                return next as *mut u8;
            }
            continue;
        }
        let fresh = map(REGION_BYTES);
        if fresh.is_null() {
            return fresh;
        }
        let start = fresh as u64;
        if REGION.exchange(region, [start + bytes as u64, start + REGION_BYTES as u64]) {
            return fresh;
        }
        // SAFETY: nobody has seen this region.
        unsafe { unmap(fresh as usize, REGION_BYTES) };
    }
}

/// Fills a class that ran empty and keeps one block for the caller.
fn refill(class: usize) -> *mut u8 {
    let size = CLASSES[class];
    let bytes = size.max(REFILL_BYTES).next_multiple_of(PAGE_BYTES);
    let run = carve(bytes);
    let count = bytes / size;
    if run.is_null() || count == 1 {
        return run;
    }
    for index in 1..count - 1 {
        // SAFETY: blocks 1 … count-1 lie inside the run, which is ours.
        unsafe {
            let block = run.add(index * size);
            ptr::write_volatile(block.cast::<u64>(), block.add(size) as u64);
        }
    }
    // SAFETY: as above; the last block's link is written by `push`.
    unsafe { push(class, run.add(size), run.add((count - 1) * size)) };
    run
}

fn large(layout: Layout) -> *mut u8 {
    let bytes = layout.size().next_multiple_of(PAGE_BYTES);
    if layout.align() <= PAGE_BYTES {
        return map(bytes);
    }
    let slack = bytes + layout.align();
    let address = map(slack) as usize;
    if address == 0 {
        return ptr::null_mut();
    }
    let aligned = address.next_multiple_of(layout.align());
    // SAFETY: both ends lie in the mapping just made, outside of what is handed out.
    unsafe {
        unmap(address, aligned - address);
        unmap(aligned + bytes, address + slack - aligned - bytes);
    }
    aligned as *mut u8
}

/// The allocator of everything linked into the library.
pub struct Allocator;

// SAFETY: blocks are disjoint, large enough and aligned as asked; see the module header.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else {
            return large(layout);
        };
        let block = pop(class);
        if block.is_null() {
            refill(class)
        } else {
            block
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class_of(layout) {
            // SAFETY: the block came from this class and is the caller's to give.
            Some(class) => unsafe { push(class, block, block) },
            // SAFETY: it came from `large` with this size.
            None => unsafe {
                unmap(block as usize, layout.size().next_multiple_of(PAGE_BYTES));
            },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the alignment is unchanged and was valid; the caller vouches for the size.
        let wanted = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if class_of(layout).is_some() && class_of(layout) == class_of(wanted) {
            return block;
        }
        // SAFETY: as in the default implementation of the trait.
        unsafe {
            let fresh = self.alloc(wanted);
            if !fresh.is_null() {
                ptr::copy_nonoverlapping(block, fresh, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            fresh
        }
    }
}
