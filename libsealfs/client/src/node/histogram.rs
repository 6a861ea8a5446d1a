//! Times as a log-linear histogram, after HdrHistogram (Gil Tene, hdrhistogram.org): sixteen buckets of
//! one width for each doubling, so that a bucket is at most a sixteenth of its times wide, and its
//! middle at most 3.2 % off any of them.
//!
//! What must stay true: every time has one bucket, and buckets follow each other without gaps.

/// Buckets for each doubling, as a power of two.
const FINE_BITS: u32 = 4;
const FINE: usize = 1 << FINE_BITS;
/// Longer times count as the longest: 2^40 ns, 18 minutes.
const TIME_BITS: u32 = 40;
pub const BUCKETS: usize = (TIME_BITS - FINE_BITS + 1) as usize * FINE;

/// The bucket of a time in ns. The first sixteen hold one each.
pub fn bucket_of(ns: u64) -> usize {
    let ns = ns.min((1 << TIME_BITS) - 1);
    if ns < FINE as u64 {
        return ns as usize;
    }
    let doubling = ns.ilog2() - FINE_BITS;
    let fine = (ns >> doubling) as usize - FINE;
    (doubling as usize + 1) * FINE + fine
}

/// The time in the middle of a bucket, in ns.
pub fn middle_of(bucket: usize) -> u64 {
    if bucket < FINE {
        return bucket as u64;
    }
    let doubling = bucket / FINE - 1;
    let lowest = ((FINE + bucket % FINE) as u64) << doubling;
    lowest + (1 << doubling >> 1)
}

/// The time within which `percent` of all counted ones are, in ns; 0 where none was.
pub fn percentile(counts: &[u64], percent: u64) -> u64 {
    let total: u64 = counts.iter().sum();
    let rank = (total * percent).div_ceil(100).max(1);
    let mut passed = 0;
    for (bucket, count) in counts.iter().enumerate() {
        passed += count;
        if passed >= rank {
            return middle_of(bucket);
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::{BUCKETS, bucket_of, middle_of, percentile};

    #[test]
    fn buckets_follow_each_other_and_their_middles_are_near() {
        let mut last = 0;
        for ns in (0..100_000).chain((17..40).map(|bits| 1 << bits)) {
            let bucket = bucket_of(ns);
            let step = if ns < 100_000 { 1 } else { BUCKETS };
            assert!((last..=last + step).contains(&bucket), "{ns} ns");
            last = bucket;
            let off = middle_of(bucket).abs_diff(ns);
            assert!(off * 1000 <= ns * 32, "{ns} ns: {off} off");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut counts = vec![0; BUCKETS];
        assert_eq!(percentile(&counts, 50), 0);
        for ns in 1..=1000 {
            counts[bucket_of(ns)] += 1;
        }
        for (percent, ns) in [(1, 10), (50, 500), (99, 990), (100, 1000)] {
            let said = percentile(&counts, percent);
            assert!(said.abs_diff(ns) * 1000 <= ns * 32, "p{percent}: {said}");
        }
    }
}
