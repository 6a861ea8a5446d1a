//! Every byte once, each partition asked once, and no piece beyond its chunk.

use super::*;
use sealfs_protocol::attr::Layout;
use sealfs_protocol::{ClusterId, InodeId, OpenId, TruncateGeneration};
use sealfs_transport::memory::total;

const FILE: FileRef = FileRef {
    ino: InodeId(1 << 48 | 5),
    open: OpenId(1),
};

fn info() -> FileInfo {
    FileInfo {
        layout: Layout {
            chunk_size_log2: 16,
            width: 4,
        },
        generation: TruncateGeneration(0),
        wide: false,
        size_bytes: 0,
    }
}

#[test]
fn one_request_for_each_partition_covers_every_byte_once() {
    let data: Vec<u8> = vec![0; 600_000];
    let sources = [IoVec::new(&data[..70_001]), IoVec::new(&data[70_001..])];
    let window = Window {
        file: FILE,
        offset: 30_000,
        content: Content::Memory(&sources, 100),
        len: 500_000,
    };
    let ring = Ring::empty(ClusterId(1), 4096);
    let pieces = cut(window, info(), &ring);
    let list = batches(window, info(), &pieces, Extra::default(), 4096);
    assert!(list.len() <= 5, "four layout slots and chunk 0");
    let written: usize = list.iter().map(|b| total(&b.payload)).sum();
    assert_eq!(written, 500_000);
    let mut seen: Vec<usize> = list
        .iter()
        .flat_map(|b| b.roles.iter().flatten().copied())
        .collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..pieces.len()).collect::<Vec<_>>());
}

#[test]
fn together_means_width_first_then_data_then_size() {
    let data = vec![0u8; 100_000];
    let sources = [IoVec::new(&data)];
    let window = Window {
        file: FILE,
        offset: 0,
        content: Content::Memory(&sources, 0),
        len: 100_000,
    };
    let extra = Extra {
        widen: true,
        publish: Some(100_000),
        together: true,
    };
    let pieces = cut(window, info(), &Ring::empty(ClusterId(1), 4096));
    let list = batches(window, info(), &pieces, extra, 4096);
    assert_eq!(list.len(), 1);
    assert_eq!(list[0].roles, [None, Some(0), Some(1), None]);
}

/// A copy between files of different chunk sizes.
fn copied(offset: u64) -> Window<'static> {
    let layout = Layout {
        chunk_size_log2: 17,
        width: 3,
    };
    let copied = Copied {
        file: FileRef {
            ino: InodeId(2 << 48 | 9),
            open: OpenId(2),
        },
        layout,
        generation: TruncateGeneration(4),
        offset,
        atime: true,
    };
    Window {
        file: FILE,
        offset: 30_000,
        content: Content::File(copied),
        len: 300_000,
    }
}

#[test]
fn each_piece_of_a_copy_lies_in_one_chunk_of_either_file() {
    let window = copied(100_001);
    let pieces = cut(window, info(), &Ring::empty(ClusterId(1), 4096));
    let list = batches(window, info(), &pieces, Extra::default(), 4096);
    let mut covered: Vec<(u64, u64)> = Vec::new();
    for (_, op) in list.iter().flat_map(|batch| &batch.ops) {
        let Op::Copy {
            chunk,
            offset_bytes,
            len_bytes,
            source,
            ..
        } = op
        else {
            panic!("not a copy: {op:?}");
        };
        assert!(offset_bytes + len_bytes <= 1 << 16);
        assert!(source.offset_bytes + len_bytes <= 1 << 17);
        let to = chunk * (1 << 16) + u64::from(*offset_bytes);
        let from = source.chunk * (1 << 17) + u64::from(source.offset_bytes);
        assert_eq!(to - 30_000, from - 100_001);
        covered.push((to, to + u64::from(*len_bytes)));
    }
    covered.sort_unstable();
    assert_eq!((covered[0].0, covered.last().unwrap().1), (30_000, 330_000));
    assert!(covered.windows(2).all(|pair| pair[0].1 == pair[1].0));
}

#[test]
fn what_a_source_lost_meanwhile_is_not_copied() {
    let window = copied(0);
    let mut pieces = cut(window, info(), &Ring::empty(ClusterId(1), 4096));
    pieces[0].fate = Fate::Landed;
    let whole = pieces[1].span.len_bytes as usize;
    let reach = pieces[1].at as u64 + 10;
    shorten(&mut pieces, reach);
    assert!(whole > 10);
    assert_eq!((pieces[1].span.len_bytes, pieces[1].fate), (10, Fate::Open));
    assert_eq!(pieces[0].fate, Fate::Landed);
    assert!(pieces[2..].iter().all(|p| p.fate == Fate::Beyond));
}
