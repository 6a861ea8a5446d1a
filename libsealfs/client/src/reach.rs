//! Which programs a preloaded library is loaded into, by their first bytes (System V ABI, "Object
//! Files").
//!
//! What must stay true: bytes from a file are believed in nothing; what cannot be told is within
//! reach.

/// What is read of a program: its header, the program headers, the name of its interpreter.
pub const HEAD_BYTES: usize = 4096;
const PT_INTERP: u32 = 3;
const CLASS_64: u8 = 2;

/// Why a library is not loaded into a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    ThirtyTwoBits,
    Musl,
    Static,
}

impl Beyond {
    pub fn text(self) -> &'static str {
        match self {
            Beyond::ThirtyTwoBits => "a 32-bit program",
            Beyond::Musl => "a program for musl",
            Beyond::Static => "statically linked",
        }
    }

    /// Whether a supervisor can answer for it instead.
    pub fn can_be_supervised(self) -> bool {
        self != Beyond::ThirtyTwoBits
    }
}

/// Looks at the first bytes of a program; scripts and others pass.
pub fn beyond(head: &[u8]) -> Option<Beyond> {
    if head.get(..4)? != b"\x7fELF" {
        return None;
    }
    if *head.get(4)? != CLASS_64 {
        return Some(Beyond::ThirtyTwoBits);
    }
    let offset = usize::try_from(number(head, 32, 8)?).ok()?;
    let size = number(head, 54, 2)? as usize;
    let count = number(head, 56, 2)? as usize;
    for i in 0..count {
        let at = offset.checked_add(i.checked_mul(size)?)?;
        if number(head, at, 4)? as u32 == PT_INTERP {
            let from = usize::try_from(number(head, at.checked_add(8)?, 8)?).ok()?;
            let len = usize::try_from(number(head, at.checked_add(32)?, 8)?).ok()?;
            let interpreter = head.get(from..from.checked_add(len)?)?;
            let name = interpreter.rsplit(|b| *b == b'/').next()?;
            return name.starts_with(b"ld-musl").then_some(Beyond::Musl);
        }
    }
    Some(Beyond::Static)
}

/// The interpreter that the first line of a script names.
pub fn interpreter(head: &[u8]) -> Option<&[u8]> {
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let mut words = line.split(|b| matches!(b, b' ' | b'\t' | 0));
    words.find(|word| !word.is_empty())
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
        let glibc = elf(PT_INTERP, b"/lib64/ld-linux-x86-64.so.2\0");
        assert_eq!(beyond(&glibc), None);
        let musl = elf(PT_INTERP, b"/lib/ld-musl-x86_64.so.1\0");
        assert_eq!(beyond(&musl), Some(Beyond::Musl));
        assert_eq!(beyond(&elf(1, b"")), Some(Beyond::Static));
        assert_eq!(beyond(b"#!/bin/sh\n"), None);
    }

    #[test]
    fn a_script_names_its_interpreter() {
        assert_eq!(
            interpreter(b"#! /bin/busybox sh\nx"),
            Some(&b"/bin/busybox"[..])
        );
        assert_eq!(interpreter(b"#!\n"), None);
        assert_eq!(interpreter(b"\x7fELF"), None);
    }

    #[test]
    fn a_damaged_program_is_no_reason_to_panic() {
        let whole = elf(PT_INTERP, b"/lib64/ld-linux-x86-64.so.2\0");
        for len in 0..whole.len() {
            beyond(&whole[..len]);
        }
    }
}
