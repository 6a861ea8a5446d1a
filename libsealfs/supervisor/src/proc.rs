//! What `/proc` says about a process or thread.
//!
//! # Safety
//! The one unsafe call hands over a C string.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;

/// `/proc/N/status` (proc(5)).
pub struct Status(String);

impl Status {
    pub fn of(task: u32) -> Option<Status> {
        let bytes = fs::read(format!("/proc/{task}/status")).ok()?;
        Some(Status(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn field(&self, name: &str) -> &str {
        let line = |line: &&str| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(':'))
        };
        let found = self.0.lines().find(line);
        found.map_or("", |line| line[name.len() + 1..].trim())
    }

    fn numbers(&self, name: &str) -> Vec<u32> {
        let words = self.field(name).split_ascii_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    }

    /// A set of signals.
    pub fn mask(&self, name: &str) -> u64 {
        u64::from_str_radix(self.field(name), 16).unwrap_or(0)
    }

    /// The process that the thread belongs to.
    pub fn process(&self) -> Option<u32> {
        self.field("Tgid").parse().ok()
    }

    pub fn umask(&self) -> Option<u32> {
        u32::from_str_radix(self.field("Umask"), 8).ok()
    }

    /// Real, effective, saved and file system user.
    pub fn users(&self) -> [u32; 4] {
        four(&self.numbers("Uid"))
    }

    pub fn file_groups(&self) -> [u32; 4] {
        four(&self.numbers("Gid"))
    }

    pub fn groups(&self) -> Vec<u32> {
        self.numbers("Groups")
    }
}

fn four(numbers: &[u32]) -> [u32; 4] {
    let mut four = [u32::MAX; 4];
    for (to, from) in four.iter_mut().zip(numbers) {
        *to = *from;
    }
    four
}

/// The name under which tools show the calling process.
pub fn set_name(name: &core::ffi::CStr) {
    let (nr, what) = (libc::SYS_prctl as usize, libc::PR_SET_NAME as usize);
    // SAFETY: a C string.
    let _ = unsafe { crate::sys::syscall3(nr, what, name.as_ptr() as usize, 0) };
}

/// Type and permissions of what descriptor `fd` is open on; `None` if it is not open.
pub fn descriptor_mode(task: u32, fd: u32) -> Option<u32> {
    Some(fs::metadata(format!("/proc/{task}/fd/{fd}")).ok()?.mode())
}

/// Whether exec closes descriptor `fd`.
pub fn closes_at_exec(process: u32, fd: u32) -> bool {
    let about = fs::read_to_string(format!("/proc/{process}/fdinfo/{fd}")).unwrap_or_default();
    let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
    flags.is_some_and(|flags| flags & libc::O_CLOEXEC as u32 != 0)
}

/// Device, inode and mode of the same.
pub fn descriptor_facts(task: u32, fd: u32) -> Option<(u64, u64, u32)> {
    let facts = fs::metadata(format!("/proc/{task}/fd/{fd}")).ok()?;
    Some((facts.dev(), facts.ino(), facts.mode()))
}

/// The numbers that are open in a process.
pub fn descriptors(process: u32) -> Vec<u32> {
    let Ok(list) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return Vec::new();
    };
    let names = list.filter_map(|entry| Some(entry.ok()?.file_name().into_vec()));
    names
        .filter_map(|name| crate::path::number(&name))
        .collect()
}

/// Whether thread `tid` belongs to `process`.
pub fn is_thread(process: u32, tid: u32) -> bool {
    fs::exists(format!("/proc/{process}/task/{tid}")).unwrap_or(false)
}
