//! The limit is exact: never passed, and nothing refused that has room, whatever is killed.

use super::*;

/// One step of [`exact`]: which it was, how it ended, and whether there seemed to be room for it.
fn step_on(
    fs: &mut Fs,
    random: &mut Random,
    files: &mut Vec<(String, InodeId, u64)>,
    (step, used): (u32, Totals),
) -> (u64, Option<Errno>, bool) {
    let room = |blocks: u64, inodes: u64| {
        let bytes = used.bytes + blocks * BLOCK <= 200 * BLOCK || blocks == 0;
        bytes && (used.inodes + inodes <= 60 || inodes == 0)
    };
    let path = format!("{}{step}", ["", "d1/", "d2/"][random.below(3) as usize]);
    let what = random.below(10);
    let (result, fits) = match what {
        0..=2 => match fs.create(&path) {
            Ok(ino) => {
                files.push((path, ino, 0));
                (None, room(0, 1))
            }
            Err(Errno::ENOENT) => (None, true),
            Err(errno) => (Some(errno), room(0, 1)),
        },
        3 => {
            let dir = format!("d{}", 1 + random.below(40));
            match fs.make_dir(&dir) {
                Some(Errno::EEXIST) => (None, true),
                result => {
                    // A participant applies a moment after the answer.
                    fs.cluster.pass(100_000_000);
                    (result, room(1, 1))
                }
            }
        }
        4..=7 if !files.is_empty() => {
            let at = random.below(files.len() as u64) as usize;
            let blocks = 1 + random.below(30);
            let result = fs.append(files[at].1, blocks);
            if result.is_none() {
                files[at].2 += blocks;
            }
            (result, room(blocks, 0))
        }
        8 if !files.is_empty() => {
            let at = random.below(files.len() as u64) as usize;
            let cut = files[at].2 / 2;
            files[at].2 = cut;
            assert_eq!(fs.truncate(files[at].1, cut * BLOCK), None);
            (None, true)
        }
        _ if !files.is_empty() => {
            let at = random.below(files.len() as u64) as usize;
            let (path, _, _) = files.swap_remove(at);
            assert_eq!(fs.unlink(&path), None);
            // Its chunks elsewhere go a moment later; what is refused meanwhile is right.
            fs.cluster.pass(100_000_000);
            (None, true)
        }
        _ => (None, true),
    };
    (what, result, fits)
}

/// One client does one thing after the other: it never gets past the limit, and is refused only if
/// there is no room on any shard.
fn exact(seed: u64, kills: bool) {
    let mut fs = Fs::new(3, seed, 200 * BLOCK, 60);
    let mut random = Random::new(seed);
    let mut files: Vec<(String, InodeId, u64)> = Vec::new();
    let mut refused = 0;
    for step in 0..500 {
        let used = fs.used();
        let (what, result, fits) = step_on(&mut fs, &mut random, &mut files, (step, used));
        // It may fit although there seems to be no room: a failed append leaves blocks behind the
        // end, which the next one fills.
        assert!(
            result.is_none() || result == EDQUOT && !fits,
            "step {step} of seed {seed}, operation {what}: {result:?}, {used:?}"
        );
        refused += usize::from(result.is_some());
        if kills && random.one_in(30) {
            let victim = random.below(3) as usize;
            fs.cluster.kill(victim);
            fs.cluster.start(victim);
        }
    }
    assert!(refused > 10, "the limits were hardly met: {refused}");
}

#[test]
fn over_three_shards_the_limit_is_exact() {
    for seed in 0..6 {
        exact(seed, false);
    }
}

#[test]
fn restarts_neither_lose_nor_double_what_was_allowed() {
    for seed in 100..104 {
        exact(seed, true);
    }
}
