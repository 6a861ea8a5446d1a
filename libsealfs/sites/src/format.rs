//! The format of a patched-text image: one file per GNU build-id, made by the `sites` crate and
//! mapped by the library. Both compile this very file, so it uses neither crate nor `std`.
//!
//! ```text
//! offset 0              the object's own file, its text patched in place
//! stub_offset           the stubs, whole pages
//! last FOOTER_BYTES     the footer, numbers little-endian in the order of `Footer`
//! ```
//!
//! Everything is relative to the object's load base: the text goes where the object's text is, the
//! stubs to `base + stub_address`, the pointer page right behind the stubs. Jumps between them are
//! relative, so the file holds for every base.
//!
//! What must stay true: a change of what the bytes mean changes `VERSION`; the library refuses a
//! footer whose magic, version, checksum or build-id is not the expected one.

/// Bumped whenever the stubs, the pointer page or the footer change their meaning.
pub const VERSION: u32 = 1;
pub const MAGIC: [u8; 8] = *b"SEALSITE";
pub const PAGE_BYTES: u64 = 4096;
/// The footer takes the last page of the file; the page's rest is zero.
pub const FOOTER_BYTES: usize = 4096;
pub const BUILD_ID_BYTES: usize = 32;
/// Where the stubs lie relative to the object: far enough below to be free in every layout seen,
/// near enough for 32-bit displacements in both directions.
pub const STUB_DISTANCE: i64 = -(1 << 30);
/// The pointer page: first the class of each system call number, one byte each …
pub const CLASS_BYTES: usize = 512;
/// … then the address of the library's entry …
pub const ENTRY_AT: usize = 512;
/// … and of its byte map of descriptors.
pub const FD_MAP_AT: usize = 520;
/// Descriptors that the byte map covers.
pub const FD_MAP_BYTES: u32 = 65536;

/// What an image is about. Addresses are relative to the object's load base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The GNU build-id; `build_id_bytes` of it count.
    pub build_id: [u8; BUILD_ID_BYTES],
    pub build_id_bytes: u32,
    pub text_address: u64,
    pub text_offset: u64,
    /// Whole pages.
    pub text_bytes: u64,
    pub stub_address: i64,
    pub stub_offset: u64,
    /// Whole pages; the pointer page follows behind them.
    pub stub_bytes: u64,
    /// Real `syscall` instructions in the object, …
    pub sites_found: u32,
    /// … those that jump to a stub before the instruction, …
    pub sites_before: u32,
    /// … those whose instruction moved into the stub, and …
    pub sites_carried: u32,
    /// … those left alone.
    pub sites_left: u32,
    /// Checksum of the whole file before the footer.
    pub content_crc: u32,
}

const FIELDS_BYTES: usize = 8 + 4 + BUILD_ID_BYTES + 4 + 6 * 8 + 5 * 4;
/// How much of the footer page carries meaning, its checksum included.
pub const FOOTER_USED: usize = FIELDS_BYTES + 4;

struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut value = [0; N];
        value.copy_from_slice(&self.bytes[self.at..self.at + N]);
        self.at += N;
        value
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

impl Footer {
    /// The footer as it stands in the file.
    pub fn encode(&self) -> [u8; FOOTER_USED] {
        let mut bytes = [0; FOOTER_USED];
        let mut to = Writer {
            bytes: &mut bytes,
            at: 0,
        };
        to.put(&MAGIC);
        to.put(&VERSION.to_le_bytes());
        to.put(&self.build_id);
        to.put(&self.build_id_bytes.to_le_bytes());
        to.put(&self.text_address.to_le_bytes());
        to.put(&self.text_offset.to_le_bytes());
        to.put(&self.text_bytes.to_le_bytes());
        to.put(&self.stub_address.to_le_bytes());
        to.put(&self.stub_offset.to_le_bytes());
        to.put(&self.stub_bytes.to_le_bytes());
        to.put(&self.sites_found.to_le_bytes());
        to.put(&self.sites_before.to_le_bytes());
        to.put(&self.sites_carried.to_le_bytes());
        to.put(&self.sites_left.to_le_bytes());
        to.put(&self.content_crc.to_le_bytes());
        let crc = crc32c(0, &bytes[..FIELDS_BYTES]);
        bytes[FIELDS_BYTES..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a footer; `None` when magic, version, checksum or a length is wrong.
    pub fn decode(bytes: &[u8; FOOTER_USED]) -> Option<Self> {
        let mut from = Reader { bytes, at: 0 };
        if from.take::<8>() != MAGIC || from.u32() != VERSION {
            return None;
        }
        let footer = Self {
            build_id: from.take(),
            build_id_bytes: from.u32(),
            text_address: from.u64(),
            text_offset: from.u64(),
            text_bytes: from.u64(),
            stub_address: from.u64() as i64,
            stub_offset: from.u64(),
            stub_bytes: from.u64(),
            sites_found: from.u32(),
            sites_before: from.u32(),
            sites_carried: from.u32(),
            sites_left: from.u32(),
            content_crc: from.u32(),
        };
        let whole = footer.build_id_bytes as usize <= BUILD_ID_BYTES
            && from.u32() == crc32c(0, &bytes[..FIELDS_BYTES]);
        whole.then_some(footer)
    }

    /// The build-id's bytes.
    pub fn id(&self) -> &[u8] {
        &self.build_id[..self.build_id_bytes as usize]
    }
}

/// Room for the file name of any build-id.
pub const NAME_BYTES: usize = 2 * BUILD_ID_BYTES + 8;

/// The image's file name in the cache directory: the build-id in hex, the format's version, and a
/// NUL behind it. Returns the name's length without the NUL.
pub fn file_name(build_id: &[u8], into: &mut [u8; NAME_BYTES]) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut used = 0;
    for byte in build_id.iter().take(BUILD_ID_BYTES) {
        into[used] = HEX[usize::from(byte >> 4)];
        into[used + 1] = HEX[usize::from(byte & 15)];
        used += 2;
    }
    for byte in *b".v1" {
        into[used] = byte;
        used += 1;
    }
    into[used] = 0;
    used
}

/// CRC-32C (Castagnoli), continued from `crc` (0 to begin with).
pub fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let mut crc = !crc;
    for byte in bytes {
        crc ^= u32::from(*byte);
        crc = TABLE[(crc & 15) as usize] ^ (crc >> 4);
        crc = TABLE[(crc & 15) as usize] ^ (crc >> 4);
    }
    !crc
}

const TABLE: [u32; 16] = {
    let mut table = [0; 16];
    let mut nibble = 0;
    while nibble < 16 {
        let mut word = nibble as u32;
        let mut bit = 0;
        while bit < 4 {
            word = if word & 1 == 1 {
                word >> 1 ^ 0x82f6_3b78
            } else {
                word >> 1
            };
            bit += 1;
        }
        table[nibble] = word;
        nibble += 1;
    }
    table
};

/// Finds the GNU build-id in the bytes of an ELF note segment.
pub fn build_id_of_notes(mut notes: &[u8]) -> Option<&[u8]> {
    const GNU_BUILD_ID: u32 = 3;
    let word = |bytes: &[u8], at: usize| {
        let mut word = [0; 4];
        word.copy_from_slice(&bytes[at..at + 4]);
        u32::from_le_bytes(word)
    };
    while notes.len() >= 12 {
        let (name, description, kind) = (
            word(notes, 0) as usize,
            word(notes, 4) as usize,
            word(notes, 8),
        );
        let begin = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = begin.checked_add(description)?;
        if end > notes.len() {
            return None;
        }
        let fits = (1..=BUILD_ID_BYTES).contains(&description);
        if kind == GNU_BUILD_ID && &notes[12..12 + name.min(4)] == b"GNU\0" && fits {
            return Some(&notes[begin..end]);
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
    None
}
