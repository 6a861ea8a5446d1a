//! Whether a program can be covered by a preloaded library at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What is read of a program: its header and program headers, in bytes.
const HEAD_BYTES: u64 = 16 << 10;
const PT_INTERP: u32 = 3;

/// Why `command` will not see the mount; `None` if nothing speaks against it, or it cannot be told.
pub fn obstacle(command: &OsStr) -> Option<String> {
    let path = find(command)?;
    let mut head = Vec::new();
    File::open(&path)
        .ok()?
        .take(HEAD_BYTES)
        .read_to_end(&mut head)
        .ok()?;
    let why = examine(&head)?;
    Some(format!(
        "{}: {why}: it will not see the mount",
        path.display()
    ))
}

/// The file that execvp(3) would take.
fn find(command: &OsStr) -> Option<PathBuf> {
    if command.as_bytes().contains(&b'/') {
        return Some(command.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(command))
        .find(|file| {
            rustix::fs::access(file.as_os_str().as_bytes(), rustix::fs::Access::EXEC_OK).is_ok()
        })
}

/// Looks at an ELF program (System V ABI, "Object Files"); scripts and others pass.
fn examine(head: &[u8]) -> Option<&'static str> {
    if head.get(..4)? != b"\x7fELF" {
        return None;
    }
    if *head.get(4)? != 2 {
        return Some("a 32-bit program");
    }
    let offset = usize::try_from(number(head, 32, 8)?).ok()?;
    let size = number(head, 54, 2)? as usize;
    let count = number(head, 56, 2)? as usize;
    for i in 0..count {
        let at = offset.checked_add(i.checked_mul(size)?)?;
        if number(head, at, 4)? as u32 == PT_INTERP {
            let from = usize::try_from(number(head, at + 8, 8)?).ok()?;
            let len = usize::try_from(number(head, at + 32, 8)?).ok()?;
            let interpreter = head.get(from..from.checked_add(len)?)?;
            let name = Path::new(OsStr::from_bytes(interpreter)).file_name()?;
            let is_musl = name.as_bytes().starts_with(b"ld-musl");
            return is_musl.then_some("a program for musl");
        }
    }
    Some("statically linked")
}

/// A little-endian number of `len` bytes.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<u64> {
    let mut eight = [0; 8];
    eight[..len].copy_from_slice(bytes.get(at..at.checked_add(len)?)?);
    Some(u64::from_le_bytes(eight))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A 64-bit ELF header with one program header of `kind` and an interpreter behind it.
    fn elf(kind: u32, interpreter: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64 + 56];
        bytes[..5].copy_from_slice(b"\x7fELF\x02");
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64..68].copy_from_slice(&kind.to_le_bytes());
        bytes[72] = 120;
        bytes[96] = interpreter.len() as u8;
        bytes.extend_from_slice(interpreter);
        bytes
    }

    #[test]
    fn programs_that_no_library_can_cover_are_recognised() {
        assert_eq!(
            examine(&elf(PT_INTERP, b"/lib64/ld-linux-x86-64.so.2\0")),
            None
        );
        assert!(examine(&elf(PT_INTERP, b"/lib/ld-musl-x86_64.so.1\0")).is_some());
        assert!(examine(&elf(1, b"")).is_some());
        assert_eq!(examine(b"#!/bin/sh\n"), None);
        assert_eq!(obstacle(OsStr::new("sh")), None);
    }

    #[test]
    fn a_damaged_program_is_no_reason_to_panic() {
        let whole = elf(PT_INTERP, b"/lib64/ld-linux-x86-64.so.2\0");
        for len in 0..whole.len() {
            examine(&whole[..len]);
        }
    }
}
