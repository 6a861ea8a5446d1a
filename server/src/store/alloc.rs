//! The allocator: which blocks of a data region are in use, as this run of the shard sees it.
//!
//! One bit per block, in groups of 32 MiB. Small, medium and large requests fill groups of their
//! own, each from a cursor on, so that small files do not cut up the space for large ones. What
//! must stay true: a freed block stays marked until its freeing can no longer be undone by a power
//! cut (`release_through`), since an older state of the log may still name it. What goes to disk
//! are the bitmaps that follow from the log (meta/overlay.rs); this one also knows the blocks
//! written for changes that are not logged yet, and those waiting to be released, or discarded
//! before they are.

use super::extent::DeviceExtent;
use super::release::Pending;

/// Blocks of one group; its bitmap is a value of 1 KiB in the index.
pub const GROUP_BLOCKS: u32 = 8192;
pub const GROUP_BITMAP_BYTES: usize = GROUP_BLOCKS as usize / 8;
const GROUP_WORDS: usize = GROUP_BLOCKS as usize / 64;

const CLASSES: usize = 3;
/// Requests below 64 KiB are small, below 1 MiB medium.
const SMALL_BLOCKS: u32 = 16;
const MEDIUM_BLOCKS: u32 = 256;
/// Groups looked through for one contiguous run before a request is cut in half.
const GROUPS_TRIED: usize = 1024;
/// Group of no class yet.
const UNCLASSED: u8 = u8::MAX;

pub struct Allocator {
    words: Vec<u64>,
    free_in_group: Vec<u16>,
    class_of_group: Vec<u8>,
    cursors: [u64; CLASSES],
    pub(super) free: u64,
    pub(super) pending: Pending,
    pub(super) blocks: u64,
}

impl Allocator {
    /// All of `blocks` free. With `discards`, what is freed goes through `take_discards` first.
    pub fn new(blocks: u64, discards: bool) -> Allocator {
        let groups = blocks.div_ceil(u64::from(GROUP_BLOCKS)) as usize;
        let mut alloc = Allocator {
            words: vec![0; groups * GROUP_WORDS],
            free_in_group: vec![GROUP_BLOCKS as u16; groups],
            class_of_group: vec![UNCLASSED; groups],
            cursors: [0; CLASSES],
            free: groups as u64 * u64::from(GROUP_BLOCKS),
            pending: Pending::new(discards),
            blocks,
        };
        // The last group may be cut short by the end of the region.
        let beyond = alloc.free - blocks;
        if beyond > 0 {
            alloc.mark(DeviceExtent {
                block: blocks,
                blocks: beyond as u32,
            });
        }
        // Classes begin in places of their own.
        alloc.cursors = [0, 1, 2].map(|c| (groups as u64 * c / 3) * u64::from(GROUP_BLOCKS));
        alloc
    }

    pub fn free_blocks(&self) -> u64 {
        self.free
    }

    /// Finds `blocks` free blocks, at `goal` if they are free there, contiguous if that can be
    /// had, and marks them. False, with nothing marked, if there are not as many.
    pub fn allocate(
        &mut self,
        blocks: u32,
        goal: Option<u64>,
        out: &mut Vec<DeviceExtent>,
    ) -> bool {
        if u64::from(blocks) > self.free {
            return false;
        }
        let class = match blocks {
            0..SMALL_BLOCKS => 0,
            SMALL_BLOCKS..MEDIUM_BLOCKS => 1,
            _ => 2,
        };
        if let Some(block) = goal
            && self.run_at(block, blocks) == blocks
        {
            self.take(class, DeviceExtent { block, blocks }, out);
            return true;
        }
        let mut left = blocks;
        let mut want = blocks.min(GROUP_BLOCKS);
        while left > 0 {
            want = want.min(left);
            if let Some(block) = self.find(class, want) {
                let extent = DeviceExtent {
                    block,
                    blocks: want,
                };
                self.take(class, extent, out);
                left -= want;
            } else {
                assert!(want > 1, "free counts disagree with the bitmap");
                want /= 2;
            }
        }
        true
    }

    fn take(&mut self, class: usize, extent: DeviceExtent, out: &mut Vec<DeviceExtent>) {
        self.mark(extent);
        let group = (extent.block / u64::from(GROUP_BLOCKS)) as usize;
        if self.class_of_group[group] == UNCLASSED {
            self.class_of_group[group] = class as u8;
        }
        self.cursors[class] = extent.block + u64::from(extent.blocks);
        out.push(extent);
    }

    /// Where a run of `blocks` is free: after the class's cursor, in a group of its class or an
    /// empty one, then in any group.
    fn find(&self, class: usize, blocks: u32) -> Option<u64> {
        let groups = self.free_in_group.len();
        let cursor = self.cursors[class].min(self.words.len() as u64 * 64 - 1);
        let home = (cursor / u64::from(GROUP_BLOCKS)) as usize;
        let mine = |g: usize| {
            let owner = self.class_of_group[g];
            owner == class as u8 || owner == UNCLASSED
        };
        // Where the last one was found, even in a group of another class: when there was nothing
        // better then, there is not now.
        if let Some(block) = self.find_run(home, cursor, blocks) {
            return Some(block);
        }
        // A single block must be found wherever it is: then every group is looked at.
        let tries = if blocks == 1 { groups } else { GROUPS_TRIED };
        let around = || (1..=groups).map(|i| (home + i) % groups);
        let own = around().take(GROUPS_TRIED).filter(|&g| mine(g));
        let any = around().take(tries);
        own.chain(any)
            .filter(|&g| u32::from(self.free_in_group[g]) >= blocks)
            .find_map(|g| self.find_run(g, g as u64 * u64::from(GROUP_BLOCKS), blocks))
    }

    /// The first free run of `blocks` in a group from block `from` on.
    fn find_run(&self, group: usize, from: u64, blocks: u32) -> Option<u64> {
        let until = (group as u64 + 1) * u64::from(GROUP_BLOCKS);
        let (mut at, mut run) = (from, 0);
        while at < until {
            let bit = (at % 64) as u32;
            let word = self.words[(at / 64) as usize] >> bit;
            let zeros = word.trailing_zeros().min(64 - bit);
            run += zeros;
            at += u64::from(zeros);
            if run >= blocks {
                return Some(at - u64::from(run));
            }
            if zeros < 64 - bit {
                run = 0;
                at += u64::from((word >> zeros).trailing_ones());
            }
        }
        None
    }

    /// How many of the `blocks` from `block` on are free, up to the first used one.
    fn run_at(&self, block: u64, blocks: u32) -> u32 {
        let mut run = 0;
        while run < blocks {
            let at = block + u64::from(run);
            let Some(word) = self.words.get((at / 64) as usize) else {
                break;
            };
            let bit = (at % 64) as u32;
            let zeros = (word >> bit).trailing_zeros().min(64 - bit);
            run += zeros;
            if zeros < 64 - bit {
                break;
            }
        }
        run.min(blocks)
    }

    /// Calls `change(word, mask)` for the words that hold `extent`, group counts following.
    fn update(&mut self, extent: DeviceExtent, set: bool) {
        let mut at = extent.block;
        let until = extent.block + u64::from(extent.blocks);
        while at < until {
            let bit = at % 64;
            let bits = (64 - bit).min(until - at);
            let mask = (u64::MAX >> (64 - bits)) << bit;
            let word = &mut self.words[(at / 64) as usize];
            let before = word.count_ones();
            *word = if set { *word | mask } else { *word & !mask };
            let after = word.count_ones();
            let group = (at / u64::from(GROUP_BLOCKS)) as usize;
            self.free_in_group[group] =
                (u32::from(self.free_in_group[group]) + before - after) as u16;
            self.free = self.free + u64::from(before) - u64::from(after);
            if self.free_in_group[group] == GROUP_BLOCKS as u16 {
                self.class_of_group[group] = UNCLASSED;
            }
            at += bits;
        }
    }

    /// Marks blocks as used; marking them again changes nothing.
    pub fn mark(&mut self, extent: DeviceExtent) {
        self.update(extent, true);
    }

    /// Makes blocks free at once: of a change that was given up, or while the log is replayed.
    pub fn release(&mut self, extent: DeviceExtent) {
        self.update(extent, false);
    }

    /// Takes over a group's bitmap from the index.
    pub fn load_group(&mut self, group: u32, bitmap: &[u8]) -> bool {
        let first = group as usize * GROUP_WORDS;
        if bitmap.len() != GROUP_BITMAP_BYTES || first >= self.words.len() {
            return false;
        }
        for (i, bytes) in bitmap.chunks_exact(8).enumerate() {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            let word = u64::from_le_bytes(word);
            let old = self.words[first + i];
            // Blocks beyond the region's end stay marked.
            self.words[first + i] |= word;
            let more = (old | word).count_ones() - old.count_ones();
            self.free_in_group[group as usize] -= more as u16;
            self.free -= u64::from(more);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(alloc: &mut Allocator, blocks: u32) -> DeviceExtent {
        let mut out = Vec::new();
        assert!(alloc.allocate(blocks, None, &mut out));
        assert_eq!(out.len(), 1, "not contiguous: {out:?}");
        out[0]
    }

    #[test]
    fn every_block_is_handed_out_once_and_then_none() {
        let mut alloc = Allocator::new(20_001, false);
        let mut seen = vec![false; 20_001];
        let mut out = Vec::new();
        for blocks in [1, 300, 17, 1, 5000] {
            assert!(alloc.allocate(blocks, None, &mut out));
        }
        while alloc.allocate(1, None, &mut out) {}
        for e in out {
            for b in e.block..e.block + u64::from(e.blocks) {
                assert!(!std::mem::replace(&mut seen[b as usize], true));
            }
        }
        assert!(seen.into_iter().all(|s| s));
        assert_eq!(alloc.free_blocks(), 0);
    }

    #[test]
    fn a_freed_extent_is_reused_only_after_its_barrier() {
        let mut alloc = Allocator::new(64, false);
        let extent = one(&mut alloc, 64);
        alloc.free_at(7, extent, false);
        assert!(!alloc.allocate(1, None, &mut Vec::new()));
        alloc.release_through(6);
        assert!(!alloc.allocate(1, None, &mut Vec::new()));
        alloc.release_through(7);
        assert_eq!(one(&mut alloc, 64), extent);
    }

    #[test]
    fn large_runs_are_discarded_before_they_are_free() {
        let mut alloc = Allocator::new(1000, true);
        let (large, small) = (one(&mut alloc, 100), one(&mut alloc, 1));
        alloc.free_at(1, large, false);
        alloc.free_at(1, small, false);
        alloc.release_through(1);
        assert_eq!(alloc.pending_blocks(), 100);
        let runs = alloc.take_discards();
        assert_eq!(runs, [large]);
        alloc.discarded(&runs);
        assert_eq!((alloc.free_blocks(), alloc.pending_blocks()), (1000, 0));
    }

    #[test]
    fn a_request_larger_than_any_run_comes_in_pieces() {
        let mut alloc = Allocator::new(1000, false);
        let all = one(&mut alloc, 1000);
        for i in (0..1000).step_by(2) {
            alloc.release(DeviceExtent {
                block: all.block + i,
                blocks: 1,
            });
        }
        let mut out = Vec::new();
        assert!(alloc.allocate(500, None, &mut out));
        assert_eq!(out.len(), 500);
        assert!(!alloc.allocate(1, None, &mut out));
    }

    #[test]
    fn a_goal_keeps_a_file_contiguous_even_between_groups() {
        let mut alloc = Allocator::new(40_000, false);
        let mut out = Vec::new();
        let mut goal = Some(8000);
        for _ in 0..400 {
            out.clear();
            assert!(alloc.allocate(1, goal, &mut out));
            assert_eq!(Some(out[0].block), goal);
            goal = Some(out[0].block + 1);
        }
    }

    #[test]
    fn small_and_large_requests_stay_apart() {
        let mut alloc = Allocator::new(100 * u64::from(GROUP_BLOCKS), false);
        for _ in 0..100 {
            let small = one(&mut alloc, 1).block / u64::from(GROUP_BLOCKS);
            let large = one(&mut alloc, 256).block / u64::from(GROUP_BLOCKS);
            assert_ne!(small, large);
        }
    }

    #[test]
    fn bitmaps_of_the_index_are_taken_over() {
        let mut alloc = Allocator::new(20_000, false);
        let mut bitmap = vec![0; GROUP_BITMAP_BYTES];
        bitmap[0] = 0b101;
        assert!(alloc.load_group(1, &bitmap));
        assert_eq!(alloc.free_blocks(), 19_998);
        assert_eq!(alloc.run_at(8192, 1), 0);
        assert_eq!(alloc.run_at(8193, 8), 1);
        assert!(!alloc.load_group(3, &bitmap));
        assert!(!alloc.load_group(0, &bitmap[1..]));
    }
}
