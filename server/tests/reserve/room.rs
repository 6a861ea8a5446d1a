//! Room that is promised is there, and what was refused or killed takes none.

use super::*;

#[test]
fn what_is_reserved_is_written_and_overwritten_on_a_full_device() {
    for (shards, durability) in [
        (1, Durability::Fsync),
        (3, Durability::Fsync),
        (3, Durability::Memory),
    ] {
        let mut fs = Fs::with(shards, 3, durability);
        let file = fs.create("f");
        let attr = fs.allocate(file.ino, 0, 0, 4 * MIB).unwrap();
        assert_eq!((attr.size_bytes, attr.blocks_512 * 512), (4 * MIB, 4 * MIB));
        fs.fill();
        let full = fs.used();
        for round in 1..6u8 {
            for chunk in 0..4 * MIB / CHUNK {
                let bytes = vec![round; CHUNK as usize];
                assert_eq!(fs.write(file.ino, chunk * CHUNK, &bytes), None, "{shards}");
            }
        }
        assert_eq!(
            fs.read(file.ino, 3 * MIB, CHUNK as u32),
            vec![5; CHUNK as usize]
        );
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, 4 * MIB);
        fs.cluster.pass(5_000_000_000);
        assert_eq!(fs.used(), full);
        // Cutting and zeroing go on as well.
        fs.allocate(file.ino, ZERO_RANGE, 10, 4 * MIB - 20).unwrap();
        assert_eq!(fs.read(file.ino, MIB, 4096), [0; 4096]);
        assert_eq!(fs.read(file.ino, 0, 16)[8..12], [5, 5, 0, 0]);
        fs.truncate(file.ino, 2 * MIB + 77);
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, 2 * MIB + BLOCK);
    }
}

#[test]
fn a_call_that_does_not_fit_leaves_nothing() {
    for shards in [1, 3] {
        let mut fs = Fs::new(shards, 4);
        let file = fs.create("f");
        assert_eq!(fs.write(file.ino, 3 * CHUNK + 4096, &[1; 9000]), None);
        let before = (fs.used(), fs.stat(file.ino).blocks_512);
        // What is yet to be discarded holds nobody up.
        let large = fs.create("large").ino;
        fs.allocate(large, 0, 0, 8 * MIB).unwrap();
        fs.unlink("large");
        fs.cluster.pass(10_000_000_000);
        let (entries, begun) = (fs.log_entries(), fs.cluster.now().mono_ns);
        let tera = 1 << 40;
        assert_eq!(fs.allocate(file.ino, 0, 0, tera), Err(Errno::ENOSPC));
        assert!(fs.log_entries() - entries < 20, "{shards}");
        assert!(fs.cluster.now().mono_ns - begun < 100_000_000, "{shards}");
        for len in [80 * MIB, 60 * MIB, 24 * MIB * u64::from(shards)] {
            assert_eq!(fs.allocate(file.ino, 0, 8000, len), Err(Errno::ENOSPC));
        }
        fs.cluster.pass(5_000_000_000);
        assert_eq!((fs.used(), fs.stat(file.ino).blocks_512), before);
        assert_eq!(fs.stat(file.ino).size_bytes, 0);
        assert_eq!(fs.read(file.ino, 3 * CHUNK + 4096, 9000), [1; 9000]);
        fs.allocate(file.ino, 0, 0, 8 * MIB).unwrap();
    }
}

#[test]
fn one_full_shard_refuses_for_all() {
    let mut fs = Fs::new(3, 5);
    // A file that lies on one shard fills it.
    let partitions = fs.cluster.ring().partitions();
    let mut hog = None;
    for i in 0..2000 {
        let attr = fs.create(&format!("hog{i}"));
        let owner = |slot| {
            let place = layout_slot_partition(attr.ino, slot, partitions);
            fs.cluster.owner(place)
        };
        if (1..4).all(|slot| owner(slot) == owner(0)) {
            hog = Some(attr.ino);
            break;
        }
    }
    let hog = hog.expect("some file lies on one shard");
    let mut len = 16 * MIB;
    while len >= CHUNK {
        let from = fs.stat(hog).size_bytes;
        if fs.allocate(hog, 0, from, len).is_err() {
            len /= 2;
        }
    }
    let file = fs.create("f");
    let before = fs.used();
    assert_eq!(fs.allocate(file.ino, 0, 0, 6 * MIB), Err(Errno::ENOSPC));
    fs.cluster.pass(5_000_000_000);
    assert_eq!(fs.used(), before);
    assert_eq!(fs.stat(file.ino).blocks_512, 0);
    assert_eq!(fs.stat(file.ino).size_bytes, 0);
}

/// Calls of all kinds with a shard killed at any moment: in the end the records agree, every call
/// that succeeded has its space, and a removed file leaves nothing.
#[test]
fn kills_at_any_moment_leak_nothing() {
    for seed in 0..40 {
        let mut fs = Fs::new(3, seed);
        let mut random = Random::new(seed);
        let empty = fs.used();
        let file = fs.create("f");
        for _ in 0..12 {
            let mode = [0, KEEP_SIZE, ZERO_RANGE, PUNCH_HOLE][random.below(4) as usize];
            let offset = random.below(20) * 10_000;
            let len = match random.below(4) {
                0 => 90 * MIB,
                1 => 30_000,
                2 => 55 * MIB,
                _ => MIB,
            };
            let op = allocate(file.ino, mode, offset, len);
            fs.client.begin(&mut fs.cluster, op, &[]);
            let mut outcome = None;
            for _ in 0..random.below(60) {
                outcome = fs.client.poll(&mut fs.cluster);
                if outcome.is_some() {
                    break;
                }
                fs.cluster.advance();
            }
            if outcome.is_none() {
                let victim = random.below(3) as usize;
                fs.cluster.kill(victim);
                fs.cluster.start(victim);
            }
            let outcome = outcome.unwrap_or_else(|| fs.client.finish(&mut fs.cluster));
            match outcome.reply {
                OpReply::Attr(_) if mode != PUNCH_HOLE => {
                    let chunks = offset.div_ceil(CHUNK)..(offset + len) / CHUNK;
                    let whole = chunks.end.saturating_sub(chunks.start) * CHUNK;
                    assert!(fs.stat(file.ino).blocks_512 * 512 >= whole, "seed {seed}");
                }
                OpReply::Attr(_) | OpReply::Errno(Errno::ENOSPC) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
        }
        fs.unlink("f");
        fs.cluster.pass(30_000_000_000);
        assert_eq!(fs.used(), empty, "seed {seed}");
    }
}
