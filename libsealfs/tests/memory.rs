//! The allocator and the lock under threads and forks, compiled into this test as plain modules.
#![allow(unsafe_code, reason = "allocators are called through an unsafe trait")]

#[path = "../src/alloc.rs"]
mod alloc;
#[path = "../src/sync.rs"]
#[allow(dead_code, reason = "the library uses the rest")]
mod sync;
#[path = "../src/sys.rs"]
#[allow(dead_code, reason = "the library uses the rest")]
mod sys;

use alloc::Allocator;
use std::alloc::{GlobalAlloc, Layout};

/// A block filled with a byte of its own.
struct Block {
    at: *mut u8,
    layout: Layout,
    fill: u8,
}

impl Block {
    fn new(size: usize, align: usize, fill: u8) -> Self {
        let layout = Layout::from_size_align(size, align).expect("a valid layout");
        // SAFETY: the size is not zero; the block is this long.
        let at = unsafe {
            let at = Allocator.alloc(layout);
            assert!(!at.is_null());
            at.write_bytes(fill, size);
            at
        };
        assert_eq!(at as usize % align, 0);
        Self { at, layout, fill }
    }

    fn grow(&mut self, size: usize) {
        // SAFETY: the block is live and of this layout.
        self.at = unsafe { Allocator.realloc(self.at, self.layout, size) };
        let kept = size.min(self.layout.size());
        self.layout = Layout::from_size_align(size, self.layout.align()).expect("a valid layout");
        // SAFETY: the block is this long, its first bytes were kept.
        unsafe {
            assert!((0..kept).all(|index| *self.at.add(index) == self.fill));
            self.at.write_bytes(self.fill, size);
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: the block is live, this long, and freed once.
        unsafe {
            assert!((0..self.layout.size()).all(|index| *self.at.add(index) == self.fill));
            Allocator.dealloc(self.at, self.layout);
        }
    }
}

/// A small generator: the same sequence for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % below
    }
}

fn churn(seed: u64, rounds: usize) {
    let mut dice = Dice(seed);
    let mut blocks: Vec<Block> = Vec::new();
    for round in 0..rounds {
        match dice.roll(5) {
            0 | 1 => {
                let up_to = [64, 700, 5000, 60000][dice.roll(4)];
                let size = 1 + dice.roll(up_to);
                let align = 1 << dice.roll(8);
                blocks.push(Block::new(size, align, round as u8));
            }
            2 if !blocks.is_empty() => {
                let chosen = dice.roll(blocks.len());
                let size = 1 + dice.roll(9000);
                blocks[chosen].grow(size);
            }
            _ if !blocks.is_empty() => {
                let chosen = dice.roll(blocks.len());
                drop(blocks.swap_remove(chosen));
            }
            _ => {}
        }
    }
}

#[test]
fn blocks_never_overlap_whatever_threads_do() {
    let threads: Vec<_> = (0..4)
        .map(|seed| std::thread::spawn(move || churn(seed, 20_000)))
        .collect();
    for thread in threads {
        thread.join().expect("no overlap");
    }
}

#[test]
fn large_alignments_are_kept() {
    for align in [8192, 65536, 1 << 20] {
        drop(Block::new(100, align, 7));
        drop(Block::new(3 * align, align, 8));
    }
}

/// What a forked child does must end with `_exit`: the test's own threads are not there.
fn in_child(body: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child calls what is safe after fork and leaves by `_exit`.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::alarm(20);
            libc::_exit(i32::from(!body()));
        }
        let mut status = -1;
        libc::waitpid(child, &raw mut status, 0);
        status
    }
}

#[test]
fn a_child_of_a_busy_process_can_allocate() {
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    churn(seed, 200);
                }
            });
        }
        for _ in 0..100 {
            let block = || {
                drop(Block::new(100, 16, 3));
                true
            };
            assert_eq!(in_child(block), 0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_lock_held_at_fork_is_free_in_the_child_and_held_in_the_parent() {
    static LOCK: sync::Mutex<u32> = sync::Mutex::new(0);
    sync::start();
    let held = LOCK.lock();
    assert_eq!(in_child(|| LOCK.try_lock().is_some()), 0);
    assert!(LOCK.try_lock().is_none());
    drop(held);
    assert!(LOCK.try_lock().is_some());
}

#[test]
fn a_lock_counts_right_under_contention() {
    static COUNT: sync::Mutex<u64> = sync::Mutex::new(0);
    let add = || (0..20_000).for_each(|_| *COUNT.lock() += 1);
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(add))));
    assert_eq!(*COUNT.lock(), 80_000);
}
