//! Entries of a directory as bytes, in the form of `struct linux_dirent64` (getdents64(2)).
//!
//! A server writes a page in this form and a preloaded library hands it on as it is, so an entry is
//! formed once on its whole way. Pages that the kernel wrote have the same form. What must stay
//! true: reading takes any bytes and yields only whole records.
//!
//! | offset | bytes | field |
//! | --- | --- | --- |
//! | 0 | 8 | inode number |
//! | 8 | 8 | position behind this entry |
//! | 16 | 2 | length of the record, a multiple of 8 |
//! | 18 | 1 | type: bits 12..16 of `st_mode` |
//! | 19 | | name, ended by NUL, padded with NULs |

/// Bytes of a record before the name.
pub const HEAD_BYTES: usize = 19;
/// Records begin at multiples of this many bytes.
pub const ALIGN_BYTES: usize = 8;

/// The position behind the last entry of a directory.
pub const END: u64 = i64::MAX as u64;

/// Positions behind `.` and `..`, which are the library's to emit; entry n lies behind n + 2.
pub const DOT_POSITIONS: u64 = 2;
/// Entry numbers of part p of a split directory begin with p, those of its first, unsplit, life
/// with 0.
pub const PART_SHIFT: u32 = 40;

/// The part of a directory that records from `position` on are in; 0: where its inode is.
pub const fn part_of(position: u64) -> usize {
    (position.saturating_sub(DOT_POSITIONS) >> PART_SHIFT) as usize
}

/// One record of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Dirent<'a> {
    pub ino: u64,
    /// Position behind this entry.
    pub position: u64,
    /// File type as in `st_mode` (S_IFMT bits).
    pub kind: u32,
    pub name: &'a [u8],
    /// The whole record.
    pub bytes: &'a [u8],
}

/// What a record with a name of `name_bytes` takes.
pub const fn record_bytes(name_bytes: usize) -> usize {
    (HEAD_BYTES + name_bytes + 1).next_multiple_of(ALIGN_BYTES)
}

/// Appends a record.
pub fn push(page: &mut Vec<u8>, ino: u64, position: u64, kind: u32, name: &[u8]) {
    let len = record_bytes(name.len());
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(&ino.to_le_bytes());
    head[8..16].copy_from_slice(&position.to_le_bytes());
    head[16..18].copy_from_slice(&(len as u16).to_le_bytes());
    head[18] = (kind >> 12) as u8;
    page.reserve(len);
    page.extend_from_slice(&head);
    page.extend_from_slice(name);
    page.extend_from_slice(&[0; ALIGN_BYTES][..len - HEAD_BYTES - name.len()]);
}

/// Changes the position in a record.
pub fn set_position(record: &mut [u8], position: u64) {
    if let Some(field) = record.get_mut(8..16) {
        field.copy_from_slice(&position.to_le_bytes());
    }
}

/// The records of a page; ends at the first that is none.
pub fn records(page: &[u8]) -> impl Iterator<Item = Dirent<'_>> {
    let mut rest = page;
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_le_bytes(*rest.get(16..18)?.first_chunk()?));
        let bytes = rest.get(..len).filter(|b| b.len() > HEAD_BYTES)?;
        rest = &rest[len..];
        let name = &bytes[HEAD_BYTES..];
        let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
        Some(Dirent {
            ino: u64::from_le_bytes(*bytes.first_chunk()?),
            position: u64::from_le_bytes(*bytes[8..].first_chunk()?),
            kind: u32::from(bytes[18]) << 12,
            name: &name[..end],
            bytes,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<u8> {
        let mut page = Vec::new();
        push(&mut page, 7, 3, 0o040_000, b"directory");
        push(&mut page, 8, 4, 0o100_000, b"f");
        page
    }

    #[test]
    fn records_read_back_as_they_were_written() {
        let page = page();
        let all: Vec<_> = records(&page).collect();
        assert_eq!(page.len(), record_bytes(9) + record_bytes(1));
        assert_eq!(
            (all[0].ino, all[0].position, all[0].kind, all[0].name),
            (7, 3, 0o040_000, &b"directory"[..])
        );
        assert_eq!((all[1].ino, all[1].name), (8, &b"f"[..]));
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_position_can_be_changed() {
        let mut page = page();
        set_position(&mut page[record_bytes(9)..], END);
        let positions: Vec<_> = records(&page).map(|r| r.position).collect();
        assert_eq!(positions, [3, END]);
    }

    #[test]
    fn cut_and_wild_bytes_yield_whole_records_only() {
        let page = page();
        for len in 0..page.len() {
            assert!(records(&page[..len]).count() <= 1);
        }
        assert_eq!(records(&[0xff; 64]).count(), 0);
        assert_eq!(records(&[0; 64]).count(), 0);
    }
}
