//! `SEALFS_TRACE=FILE`: every call of ours as one line of a Chrome trace, the JSON array of complete events
//! ("Trace Event Format", Google, 2016) that chrome://tracing and Perfetto open.
//!
//! All processes append to one file, one write(2) for each event, so that lines never mix and a process that
//! is killed loses the call that it was in. The array is never closed, which the format allows for that very
//! reason. The file is opened for each event: a descriptor that stayed open could turn into one of the
//! program's in a child that shares our memory.
//!
//! What must stay true: the file begins with `[` before anybody appends; nothing is allocated or locked for
//! an event; what cannot be written is left out, and no signal comes of it.
//!
//! # Safety
//! The path is a leaked box.

use crate::guard::{self, StringError};
use crate::interpose::name_of;
use crate::kernel::{self, AT_FDCWD, CPath};
use crate::observe::{Begun, Ended, is_error};
use crate::patch::class::Class;
use crate::{path, subject};
use core::fmt::{self, Write};
use core::sync::atomic::{
    AtomicPtr,
    Ordering::{Acquire, Release},
};
use sealfs_protocol::Errno;

/// As much of a path is shown, in bytes.
const PATH_SHOWN_BYTES: usize = 1024;
/// Two paths of which every byte is escaped (`\u0000`), and the rest.
const LINE_BYTES: usize = 2 * 6 * PATH_SHOWN_BYTES + 1024;
const MODE: u32 = 0o666;

static FILE: AtomicPtr<CPath> = AtomicPtr::new(core::ptr::null_mut());

/// From now on events go to the file `path`; or why they cannot.
pub fn start(path: &[u8], mount: &[u8]) -> Result<(), &'static str> {
    if path.first() != Some(&b'/') {
        return Err("nothing is traced: give an absolute path");
    }
    if path::below(mount, path).is_some() {
        return Err("nothing is traced: the file cannot lie in the mount that it is about");
    }
    let path = CPath::new(path);
    begin_file(&path).map_err(|errno| match errno {
        Errno::EINVAL => "nothing is traced: it is not a regular file",
        Errno::ENOENT => "nothing is traced: its directory does not exist",
        Errno::EACCES | Errno::EPERM | Errno::EROFS => {
            "nothing is traced: it may not be written; name a file in a directory of yours"
        }
        _ => "nothing is traced: it cannot be written",
    })?;
    FILE.store(Box::into_raw(Box::new(path)), Release);
    Ok(())
}

/// Makes the file if there is none, and has it begin as an array does, whoever comes first.
fn begin_file(path: &CPath) -> Result<(), Errno> {
    let file = open(path, libc::O_CREAT)?;
    let begun = kernel::fstat(file as usize).and_then(|stat| {
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno::EINVAL);
        }
        kernel::flock(file, libc::LOCK_EX)?;
        match kernel::fstat(file as usize)?.st_size {
            0 => kernel::write(file, b"[\n").map(|_| ()),
            _ => Ok(()),
        }
    });
    kernel::close(file);
    begun
}

fn open(path: &CPath, how: i32) -> Result<u32, Errno> {
    let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CLOEXEC | libc::O_NOCTTY;
    kernel::open_at(AT_FDCWD, path, flags | libc::O_NONBLOCK | how, MODE)
}

/// Writes down a call.
pub fn write(begun: &Begun, ended: &Ended) {
    // SAFETY: null or a leaked box.
    let Some(path) = (unsafe { FILE.load(Acquire).as_ref() }) else {
        return;
    };
    let mut line = Line {
        bytes: [0; LINE_BYTES],
        used: 0,
    };
    // Beyond a limit of the program's the kernel would send it SIGXFSZ.
    let limited = kernel::limit(libc::RLIMIT_FSIZE).is_ok_and(|(soft, _)| soft != u64::MAX);
    if limited || line.event(begun, ended).is_err() {
        return;
    }
    if let Ok(file) = open(path, 0) {
        let _ = kernel::write(file, &line.bytes[..line.used]);
        kernel::close(file);
    }
}

/// Which arguments say what a call is about.
#[derive(Default)]
struct About {
    descriptor: Option<usize>,
    path: Option<usize>,
    to: Option<usize>,
}

fn about(number: usize, class: Class) -> About {
    let of = |descriptor, path, to| About {
        descriptor,
        path,
        to,
    };
    match class {
        Class::Fd | Class::Close => of(Some(0), None, None),
        Class::TwoFds => of(Some(0), None, None),
        Class::Map => of(Some(4), None, None),
        Class::Path => of(None, Some(0), None),
        Class::AtPath => of(Some(0), Some(1), None),
        _ => match number as i64 {
            libc::SYS_rename | libc::SYS_link => of(None, Some(0), Some(1)),
            libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => {
                of(Some(0), Some(1), Some(3))
            }
            libc::SYS_symlink => of(None, Some(1), Some(0)),
            libc::SYS_symlinkat => of(Some(1), Some(2), Some(0)),
            libc::SYS_openat2 => of(Some(0), Some(1), None),
            libc::SYS_chdir => of(None, Some(0), None),
            libc::SYS_fchdir | libc::SYS_splice | libc::SYS_copy_file_range => {
                of(Some(0), None, None)
            }
            _ => About::default(),
        },
    }
}

/// An event as it is written.
struct Line {
    bytes: [u8; LINE_BYTES],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.used..self.used + text.len());
        room.ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.used += text.len();
        Ok(())
    }
}

impl Line {
    fn event(&mut self, begun: &Begun, ended: &Ended) -> fmt::Result {
        let number = begun.call.nr;
        let (pid, tid) = (subject::real_pid(), subject::tid());
        let from_ns = begun.at_ns.unwrap_or(0);
        write!(
            self,
            "{{\"name\":\"{}\",\"cat\":\"sealfs\",\"ph\":\"X\"",
            name_of(number)
        )?;
        write!(self, ",\"pid\":{pid},\"tid\":{tid}")?;
        self.microseconds("ts", from_ns)?;
        self.microseconds("dur", ended.took_ns)?;
        // The answer comes first, so that no comma is one too many.
        if let Some(bytes) = ended.bytes {
            write!(self, ",\"args\":{{\"bytes\":{bytes}")?;
        } else if is_error(ended.value) {
            let errno = Errno(-ended.value as i32);
            write!(self, ",\"args\":{{\"errno\":\"{}\"", errno.name())?;
        } else {
            write!(self, ",\"args\":{{\"result\":{}", ended.value)?;
        }
        let about = about(number, begun.class);
        if let Some(at) = about.descriptor
            && begun.call.args[at] as i32 != AT_FDCWD
        {
            write!(self, ",\"fd\":{}", begun.call.args[at] as i32)?;
        }
        for (key, at) in [("path", about.path), ("to", about.to)] {
            if let Some(at) = at {
                self.path(key, begun.call.args[at])?;
            }
        }
        if ended.requests > 0 {
            write!(self, ",\"requests\":{}", ended.requests)?;
        }
        self.write_str("}},\n")
    }

    fn microseconds(&mut self, key: &str, ns: u64) -> fmt::Result {
        write!(self, ",\"{key}\":{}.{:03}", ns / 1000, ns % 1000)
    }

    /// A path of the program's; nothing where it is empty or cannot be read.
    fn path(&mut self, key: &str, pointer: usize) -> fmt::Result {
        let mut room = [0; PATH_SHOWN_BYTES];
        let length = match guard::strncpy_from_user(&mut room, pointer as *const u8) {
            Ok(text) => text.len(),
            Err(StringError::TooLong) => PATH_SHOWN_BYTES,
            Err(StringError::Fault) => 0,
        };
        if length == 0 {
            return Ok(());
        }
        write!(self, ",\"{key}\":\"")?;
        self.escaped(&room[..length])?;
        self.write_str("\"")
    }

    /// Names are bytes, JSON is UTF-8: what is none is shown as Latin-1.
    fn escaped(&mut self, text: &[u8]) -> fmt::Result {
        for part in text.utf8_chunks() {
            for shown in part.valid().chars() {
                match shown {
                    '"' | '\\' => write!(self, "\\{shown}")?,
                    '\0'..=' ' if shown != ' ' => write!(self, "\\u{:04x}", shown as u32)?,
                    _ => self.write_char(shown)?,
                }
            }
            for byte in part.invalid() {
                write!(self, "\\u{byte:04x}")?;
            }
        }
        Ok(())
    }
}
