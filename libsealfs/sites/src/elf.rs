//! As much of ELF as is needed: segments, sections, notes, the table of function starts, and the
//! code addresses that relocations and dynamic symbols name. x86-64 little-endian only.
//!
//! What must stay true: a file from outside is parsed into types once, and no length or offset in
//! it is believed before it is checked.

use crate::{SitesError, format};

const EM_X86_64: u16 = 62;
const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PT_GNU_EH_FRAME: u32 = 0x6474_e550;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const SHT_PROGBITS: u32 = 1;
const SHT_RELA: u32 = 4;
const SHT_DYNSYM: u32 = 11;
const SHT_SYMTAB: u32 = 2;
const SHT_RELR: u32 = 19;
const SHF_EXECINSTR: u64 = 4;
const RELATIVE: u32 = 8;
const IRELATIVE: u32 = 37;

/// A program header.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub kind: u32,
    pub flags: u32,
    pub offset: u64,
    pub address: u64,
    pub file_bytes: u64,
    pub memory_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Section {
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    bytes: u64,
}

/// A parsed object file.
pub struct Elf<'a> {
    bytes: &'a [u8],
    pub segments: Vec<Segment>,
    sections: Vec<Section>,
}

fn wrong(why: &str) -> SitesError {
    SitesError::NotElf(why.to_owned())
}

impl<'a> Elf<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SitesError> {
        let mut elf = Self {
            bytes,
            segments: Vec::new(),
            sections: Vec::new(),
        };
        if bytes.get(..6) != Some(b"\x7fELF\x02\x01") {
            return Err(wrong("not a 64-bit little-endian ELF file"));
        }
        if elf.u16(18)? != EM_X86_64 {
            return Err(SitesError::Machine);
        }
        if !matches!(elf.u16(16)?, ET_DYN | ET_EXEC) {
            return Err(wrong("neither a shared object nor an executable"));
        }
        let (at, size, count) = (
            elf.u64(32)?,
            u64::from(elf.u16(54)?),
            u64::from(elf.u16(56)?),
        );
        for index in 0..count {
            let segment = elf.segment(table_entry(at, size, index)?)?;
            elf.segments.push(segment);
        }
        let (at, size, count) = (
            elf.u64(40)?,
            u64::from(elf.u16(58)?),
            u64::from(elf.u16(60)?),
        );
        for index in 0..count {
            let section = elf.section(table_entry(at, size, index)?)?;
            elf.sections.push(section);
        }
        Ok(elf)
    }

    fn array<const N: usize>(&self, at: u64) -> Result<[u8; N], SitesError> {
        let at = usize::try_from(at).map_err(|_| wrong("an offset is out of range"))?;
        at.checked_add(N)
            .and_then(|end| self.bytes.get(at..end))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| wrong("the file is cut short"))
    }

    fn u16(&self, at: u64) -> Result<u16, SitesError> {
        self.array(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: u64) -> Result<u32, SitesError> {
        self.array(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: u64) -> Result<u64, SitesError> {
        self.array(at).map(u64::from_le_bytes)
    }

    fn segment(&self, at: u64) -> Result<Segment, SitesError> {
        Ok(Segment {
            kind: self.u32(at)?,
            flags: self.u32(at + 4)?,
            offset: self.u64(at + 8)?,
            address: self.u64(at + 16)?,
            file_bytes: self.u64(at + 32)?,
            memory_bytes: self.u64(at + 40)?,
        })
    }

    fn section(&self, at: u64) -> Result<Section, SitesError> {
        Ok(Section {
            kind: self.u32(at + 4)?,
            flags: self.u64(at + 8)?,
            address: self.u64(at + 16)?,
            offset: self.u64(at + 24)?,
            bytes: self.u64(at + 32)?,
        })
    }

    /// The bytes of the file, whole.
    pub fn file(&self) -> &'a [u8] {
        self.bytes
    }

    /// The GNU build-id.
    pub fn build_id(&self) -> Option<&'a [u8]> {
        self.segments
            .iter()
            .filter(|segment| segment.kind == PT_NOTE)
            .filter_map(|segment| self.slice(segment.offset, segment.file_bytes))
            .find_map(format::build_id_of_notes)
    }

    fn slice(&self, offset: u64, bytes: u64) -> Option<&'a [u8]> {
        let begin = usize::try_from(offset).ok()?;
        let end = begin.checked_add(usize::try_from(bytes).ok()?)?;
        self.bytes.get(begin..end)
    }

    /// The executable segment; an object with several, or with a writable one, is not patched.
    pub fn text(&self) -> Result<Segment, SitesError> {
        let mut texts = self
            .segments
            .iter()
            .filter(|s| s.kind == PT_LOAD && s.flags & PF_X != 0);
        let (Some(text), None) = (texts.next(), texts.next()) else {
            return Err(wrong("not exactly one executable segment"));
        };
        let page = format::PAGE_BYTES;
        if text.flags & PF_W != 0 || text.address % page != 0 || text.offset % page != 0 {
            return Err(wrong(
                "the executable segment is writable or not on a page border",
            ));
        }
        if self.slice(text.offset, text.file_bytes).is_none() || text.file_bytes == 0 {
            return Err(wrong("the executable segment lies outside of the file"));
        }
        Ok(*text)
    }

    /// Bytes at a virtual address, to the end of what the file holds of its segment.
    pub fn at(&self, address: u64) -> Option<&'a [u8]> {
        let segment = self.segments.iter().find(|s| {
            s.kind == PT_LOAD && address >= s.address && address - s.address < s.file_bytes
        })?;
        let into = address - segment.address;
        self.slice(segment.offset.checked_add(into)?, segment.file_bytes - into)
    }

    /// Ranges of machine code, from the section headers, or the whole segment without them.
    pub fn code_ranges(&self, text: &Segment) -> Vec<(u64, u64)> {
        let end = text.address + text.file_bytes;
        let mut ranges: Vec<_> = self
            .sections
            .iter()
            .filter(|s| s.kind == SHT_PROGBITS && s.flags & SHF_EXECINSTR != 0)
            .map(|s| (s.address, s.address.saturating_add(s.bytes)))
            .filter(|(from, to)| *from >= text.address && *to <= end && from < to)
            .collect();
        if ranges.is_empty() {
            ranges.push((text.address, end));
        }
        ranges.sort_unstable();
        ranges
    }

    /// Starts of functions, from the search table of `.eh_frame_hdr`; empty when it is in a form
    /// that compilers do not write.
    pub fn function_starts(&self) -> Vec<u64> {
        let Some(segment) = self.segments.iter().find(|s| s.kind == PT_GNU_EH_FRAME) else {
            return Vec::new();
        };
        let Some(table) = self.slice(segment.offset, segment.file_bytes) else {
            return Vec::new();
        };
        // Version 1; frame pointer relative to itself; count plain; table relative to the header.
        if table.len() < 12 || table[0] != 1 || table[2] != 0x03 || table[3] != 0x3b {
            return Vec::new();
        }
        let count = u32::from_le_bytes([table[8], table[9], table[10], table[11]]) as usize;
        table[12..]
            .chunks_exact(8)
            .take(count)
            .map(|entry| i32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]))
            .map(|relative| segment.address.wrapping_add_signed(i64::from(relative)))
            .collect()
    }

    /// Addresses that symbols and relocations name: where control may arrive from anywhere.
    pub fn named_addresses(&self) -> Vec<u64> {
        let mut named = Vec::new();
        for section in &self.sections {
            let Some(bytes) = self.slice(section.offset, section.bytes) else {
                continue;
            };
            match section.kind {
                SHT_DYNSYM | SHT_SYMTAB => {
                    named.extend(bytes.chunks_exact(24).map(|symbol| word(symbol, 8)));
                }
                SHT_RELA => named.extend(
                    bytes
                        .chunks_exact(24)
                        .filter(|rela| matches!(word(rela, 8) as u32, RELATIVE | IRELATIVE))
                        .map(|rela| word(rela, 16)),
                ),
                SHT_RELR => self.relr(bytes, &mut named),
                _ => {}
            }
        }
        named
    }

    /// Packed relative relocations: an address, then bitmaps of the words behind it.
    fn relr(&self, bytes: &[u8], named: &mut Vec<u64>) {
        let mut next = 0u64;
        let mut name = |place: u64| {
            if let Some(value) = self.at(place).filter(|bytes| bytes.len() >= 8) {
                named.push(word(value, 0));
            }
        };
        for entry in bytes.chunks_exact(8) {
            let entry = word(entry, 0);
            if entry & 1 == 0 {
                name(entry);
                next = entry.wrapping_add(8);
            } else {
                (0..63)
                    .filter(|bit| entry >> (bit + 1) & 1 == 1)
                    .for_each(|bit| name(next.wrapping_add(8 * bit)));
                next = next.wrapping_add(8 * 63);
            }
        }
    }
}

fn table_entry(at: u64, size: u64, index: u64) -> Result<u64, SitesError> {
    let entry = size
        .checked_mul(index)
        .and_then(|skip| at.checked_add(skip));
    // Headers are read in fields of up to 64 bytes; none may wrap around.
    entry
        .filter(|entry| *entry < u64::MAX - 64)
        .ok_or_else(|| wrong("a table is out of range"))
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
