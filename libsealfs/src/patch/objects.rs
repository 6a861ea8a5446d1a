//! Finds libc and ld.so among the loaded objects: where they are, what build-id they carry, and
//! where their text lies.
//!
//! # Safety
//! ld.so describes mapped objects; their notes and program headers are read where they lie.

use super::format;
use core::ffi::{CStr, c_int, c_void};

/// Objects that hold system calls of the C library.
const NAMES: [&[u8]; 2] = [b"libc.so.6", b"ld-linux-x86-64.so.2"];
/// Before glibc 2.34 threads had a library of their own, with sites that are not covered.
const OLD_THREADS: &[u8] = b"libpthread.so.0";
/// Since 2.34 it is an empty shell of less text than this.
const SHELL_BYTES: usize = 0x2000;

/// One loaded object.
#[derive(Clone, Copy)]
pub struct Object {
    pub base: usize,
    pub build_id: [u8; format::BUILD_ID_BYTES],
    pub build_id_bytes: usize,
    pub text_address: u64,
    pub text_bytes: u64,
}

/// The objects to patch, in the order of [`NAMES`].
#[derive(Default)]
pub struct Found {
    pub objects: [Option<Object>; NAMES.len()],
    /// A libpthread with code in it is loaded.
    pub old_threads: bool,
}

/// Looks through the loaded objects.
pub fn find() -> Found {
    let mut found = Found::default();
    // SAFETY: the callback gets back the very pointer given here.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut found).cast()) };
    found
}

unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _bytes: usize,
    found: *mut c_void,
) -> c_int {
    // SAFETY: ld.so passes a filled structure, and our own pointer.
    let (info, found) = unsafe { (&*info, &mut *found.cast::<Found>()) };
    if info.dlpi_name.is_null() {
        return 0;
    }
    // SAFETY: names are C strings.
    let path = unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes();
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    if name == OLD_THREADS {
        found.old_threads = text_of(info).is_some_and(|text| text.1 as usize > SHELL_BYTES);
    }
    if let Some(index) = NAMES.iter().position(|wanted| *wanted == name) {
        found.objects[index] = describe(info);
    }
    0
}

fn headers(info: &libc::dl_phdr_info) -> &[libc::Elf64_Phdr] {
    // SAFETY: ld.so gives the table and its length.
    unsafe { core::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) }
}

/// Address and length of the one executable segment.
fn text_of(info: &libc::dl_phdr_info) -> Option<(u64, u64)> {
    let mut texts = headers(info)
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0);
    let text = texts.next()?;
    texts
        .next()
        .is_none()
        .then_some((text.p_vaddr, text.p_memsz))
}

fn describe(info: &libc::dl_phdr_info) -> Option<Object> {
    let (text_address, text_bytes) = text_of(info)?;
    let id = headers(info)
        .iter()
        .filter(|header| header.p_type == libc::PT_NOTE)
        .find_map(|note| {
            let at = (info.dlpi_addr as usize).wrapping_add(note.p_vaddr as usize) as *const u8;
            // SAFETY: note segments of loaded objects lie in their read-only mapping.
            let bytes = unsafe { core::slice::from_raw_parts(at, note.p_memsz as usize) };
            format::build_id_of_notes(bytes)
        })?;
    let mut object = Object {
        base: info.dlpi_addr as usize,
        build_id: [0; format::BUILD_ID_BYTES],
        build_id_bytes: id.len(),
        text_address,
        text_bytes,
    };
    object.build_id[..id.len()].copy_from_slice(id);
    Some(object)
}
