//! Lines on standard error, written by one raw `write` each, so that saying something never comes
//! back to us as a call of the program. Formatting goes into a buffer on the stack: no allocation.
//!
//! # Safety
//! The one unsafe call writes from our own buffer.

use crate::{subject, sys};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// A line longer than this is cut.
const LINE_BYTES: usize = 512;

/// How much is said. The order is the one of `SEALFS_LOG`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Off = 0,
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Error as u8);

/// Takes the level from the text of `SEALFS_LOG`; unknown words change nothing.
pub fn set_level(word: &[u8]) {
    let level = match word {
        b"off" => Level::Off,
        b"error" => Level::Error,
        b"warn" => Level::Warn,
        b"info" => Level::Info,
        b"debug" => Level::Debug,
        _ => return,
    };
    LEVEL.store(level as u8, Relaxed);
}

struct Line {
    bytes: [u8; LINE_BYTES],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_BYTES - 1 - self.used;
        let taken = text.len().min(room);
        self.bytes[self.used..self.used + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.used += taken;
        if taken < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

/// Says one line, `sealfs: …`, if the level asks for it.
pub fn say(level: Level, text: fmt::Arguments<'_>) {
    if level as u8 > LEVEL.load(Relaxed) {
        return;
    }
    let mut line = Line {
        bytes: [0; LINE_BYTES],
        used: 0,
    };
    // A line that does not fit is cut: the error only tells so.
    let _ = write!(line, "sealfs: {text}");
    line.bytes[line.used] = b'\n';
    // SAFETY: the buffer is ours and that long.
    let _ = unsafe {
        sys::syscall3(
            libc::SYS_write as usize,
            subject::standard_error(),
            line.bytes.as_ptr() as usize,
            line.used + 1,
        )
    };
}
