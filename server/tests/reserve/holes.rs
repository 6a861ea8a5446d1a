//! Reserved space holds no bytes: past the end of a file, and in its holes.

use super::*;

#[test]
fn what_is_kept_past_the_end_survives_a_kill_and_goes_with_a_truncation() {
    for shards in [1, 3] {
        let mut fs = Fs::new(shards, 6);
        let file = fs.create("f");
        let before = fs.used();
        assert_eq!(fs.write(file.ino, 0, &[1; 5000]), None);
        let small = fs.used();
        fs.allocate(file.ino, KEEP_SIZE, 100, MIB).unwrap();
        let attr = fs.stat(file.ino);
        assert_eq!(
            (attr.size_bytes, attr.blocks_512 * 512),
            (5000, MIB + BLOCK)
        );
        for shard in 0..fs.cluster.shards() {
            fs.cluster.kill(shard);
            fs.cluster.start(shard);
        }
        let attr = fs.stat(file.ino);
        assert_eq!(
            (attr.size_bytes, attr.blocks_512 * 512),
            (5000, MIB + BLOCK)
        );
        // The file grows into it, by hand and by writing, and keeps it.
        fs.truncate(file.ino, 70_000);
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, MIB + BLOCK);
        assert_eq!(fs.read(file.ino, CHUNK, 4464), [0; 4464]);
        fs.truncate(file.ino, 5000);
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, 2 * BLOCK);
        // A truncation to the same size lets it go.
        fs.allocate(file.ino, KEEP_SIZE, 0, MIB).unwrap();
        fs.truncate(file.ino, 5000);
        assert_eq!(fs.stat(file.ino).blocks_512 * 512, 2 * BLOCK);
        fs.cluster.pass(5_000_000_000);
        assert_eq!(fs.used(), small);
        fs.allocate(file.ino, KEEP_SIZE, 0, MIB).unwrap();
        fs.unlink("f");
        fs.cluster.pass(5_000_000_000);
        assert_eq!(fs.used(), before);
    }
}

#[test]
fn holes_are_where_nothing_was_written() {
    let mut fs = Fs::new(1, 7);
    let file = fs.create("f");
    fs.allocate(file.ino, 0, 0, CHUNK).unwrap();
    assert_eq!(fs.write(file.ino, 8192, &[1; 4096]), None);
    let seek = |fs: &mut Fs, from, data| {
        let attr = fs.stat(file.ino);
        let op = Op::Seek {
            ino: file.ino,
            from,
            until: CHUNK,
            data,
            layout: attr.layout,
            generation: attr.generation,
        };
        match fs.client.call(&mut fs.cluster, op).reply {
            OpReply::Sought { position, .. } => position,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seek(&mut fs, 0, true), 8192);
    assert_eq!(seek(&mut fs, 8192, false), 12288);
    fs.allocate(file.ino, ZERO_RANGE, 8192, 4096).unwrap();
    assert_eq!(seek(&mut fs, 0, true), CHUNK);
    assert_eq!(fs.stat(file.ino).blocks_512 * 512, CHUNK);
    fs.allocate(file.ino, PUNCH_HOLE, 4096, 8192).unwrap();
    assert_eq!(fs.stat(file.ino).blocks_512 * 512, CHUNK - 8192);
}
