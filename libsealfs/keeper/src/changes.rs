//! Which bytes of a mapped file a program has changed: where they differ from the pristine copy.
//!
//! Only those go back to the servers. Writing whole pages back would put this node's old bytes over
//! what others have written in the same page meanwhile.

use std::ops::Range;

/// Equal bytes between two changed ones that are written with them: fewer, larger writes at the
/// price that a change of another node within these few bytes may be lost.
pub const GAP_BYTES: usize = 16;
/// Bytes compared in one step.
const STEP_BYTES: usize = 64;

/// The ranges in which `now` differs from `before`, in order, no closer to each other than
/// [`GAP_BYTES`]. What `now` has beyond the end of `before` counts as changed.
pub fn changed(now: &[u8], before: &[u8]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let common = now.len().min(before.len());
    let steps = now[..common]
        .chunks(STEP_BYTES)
        .zip(before[..common].chunks(STEP_BYTES));
    for (step, (a, b)) in steps.enumerate() {
        if a == b {
            continue;
        }
        for (i, _) in a.iter().zip(b).enumerate().filter(|(_, (x, y))| x != y) {
            extend(&mut ranges, step * STEP_BYTES + i);
        }
    }
    if now.len() > common {
        extend(&mut ranges, common);
        if let Some(last) = ranges.last_mut() {
            last.end = now.len();
        }
    }
    ranges
}

fn extend(ranges: &mut Vec<Range<usize>>, at: usize) {
    match ranges.last_mut() {
        Some(last) if at <= last.end + GAP_BYTES => last.end = at + 1,
        _ => ranges.push(at..at + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changed_bytes_and_small_gaps_between_them_are_named() {
        let before = vec![0u8; 1000];
        let mut now = before.clone();
        for at in [0, 3, 500, 501, 999] {
            now[at] = 1;
        }
        assert_eq!(changed(&now, &before), [0..4, 500..502, 999..1000]);
        assert!(changed(&before, &before).is_empty());
    }

    #[test]
    fn a_gap_is_bridged_exactly_up_to_its_limit() {
        let before = [0u8; 100];
        let mut now = before;
        now[0] = 1;
        now[GAP_BYTES + 1] = 1;
        let bridged = changed(&now, &before);
        assert_eq!((bridged.len(), bridged[0].end), (1, GAP_BYTES + 2));
        now[GAP_BYTES + 1] = 0;
        now[GAP_BYTES + 2] = 1;
        assert_eq!(changed(&now, &before).len(), 2);
    }

    #[test]
    fn growth_counts_as_change() {
        assert_eq!(changed(&[1, 2, 3], &[1]).first(), Some(&(1..3)));
        assert!(changed(&[1], &[1, 2]).is_empty());
    }
}
