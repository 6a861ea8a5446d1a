//! The strace oracle: which path-taking system calls of a trace had a path below the mount.
//!
//! The kernel must never see such a path: the library answers it. Exempt are argv and environment of execve, and
//! what only carries a path as data (the target of a symlink, buffers). A trace is the output of `strace -f -o`.

use clap::Args;
use std::io::{self, BufRead, BufReader};
use std::path::{Component, Path, PathBuf};

#[derive(Args)]
pub struct Options {
    /// The mount prefix
    #[arg(long)]
    pub mount: String,
    /// Output of strace
    pub trace: PathBuf,
}

/// How many offending calls are printed.
const SHOWN: usize = 20;

/// Which arguments of a call are paths. A call that is not listed here and that strace's %file class has takes its
/// first quoted argument as path.
const PATHS: &[(&str, &[usize])] = &[
    ("openat", &[1]),
    ("openat2", &[1]),
    ("newfstatat", &[1]),
    ("statx", &[1]),
    ("faccessat", &[1]),
    ("faccessat2", &[1]),
    ("fchmodat", &[1]),
    ("fchmodat2", &[1]),
    ("fchownat", &[1]),
    ("mkdirat", &[1]),
    ("mknodat", &[1]),
    ("unlinkat", &[1]),
    ("readlinkat", &[1]),
    ("utimensat", &[1]),
    ("futimesat", &[1]),
    ("execveat", &[1]),
    ("inotify_add_watch", &[1]),
    ("name_to_handle_at", &[1]),
    ("open_tree", &[1]),
    ("fanotify_mark", &[4]),
    ("rename", &[0, 1]),
    ("link", &[0, 1]),
    ("pivot_root", &[0, 1]),
    ("mount", &[0, 1]),
    ("renameat", &[1, 3]),
    ("renameat2", &[1, 3]),
    ("linkat", &[1, 3]),
    ("symlink", &[1]),
    ("symlinkat", &[2]),
    ("getcwd", &[]),
    ("bind", &[1]),
    ("connect", &[1]),
];

pub fn run(options: &Options) -> io::Result<bool> {
    let mut calls = 0_usize;
    let mut bad = Vec::new();
    for line in BufReader::new(std::fs::File::open(&options.trace)?).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        let Some(call) = Call::parse(&line) else {
            continue;
        };
        calls += 1;
        if call.paths().any(|path| is_below(&path, &options.mount)) {
            bad.push(line);
        }
    }
    for line in bad.iter().take(SHOWN) {
        println!("{line}");
    }
    println!(
        "{calls} calls with a path, {} below {}",
        bad.len(),
        options.mount
    );
    Ok(bad.is_empty() && calls > 0)
}

struct Call<'a> {
    name: &'a str,
    arguments: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// `1234 openat(AT_FDCWD, "x", O_RDONLY) = 3`; a line that resumes a call has its paths in the line before.
    fn parse(line: &'a str) -> Option<Self> {
        let line = line
            .trim_start_matches(|c: char| c.is_ascii_digit())
            .trim_start();
        let (name, rest) = line.split_once('(')?;
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(is_name) {
            return None;
        }
        Some(Self {
            name,
            arguments: split_arguments(rest),
        })
    }

    fn paths(&self) -> impl Iterator<Item = String> {
        let listed = PATHS
            .iter()
            .find(|(name, _)| *name == self.name)
            .map(|(_, places)| *places);
        let places = listed.unwrap_or(&[0]);
        places
            .iter()
            .filter_map(|place| quoted(self.arguments.get(*place)?))
    }
}

/// Splits at the commas outside quotes and brackets; stops at the closing parenthesis.
fn split_arguments(text: &str) -> Vec<&str> {
    let (mut depth, mut in_quotes, mut escaped, mut start) = (0_usize, false, false, 0);
    let mut arguments = Vec::new();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_quotes => escaped = true,
            b'"' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            b'(' | b'[' | b'{' => depth += 1,
            b')' if depth == 0 => {
                arguments.push(text[start..at].trim());
                return arguments;
            }
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                arguments.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    arguments.push(text[start..].trim());
    arguments
}

/// The text between the first pair of quotes.
fn quoted(argument: &str) -> Option<String> {
    let inner = &argument[argument.find('"')? + 1..];
    let mut text = String::new();
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some(text),
            '\\' => text.extend(chars.next()),
            _ => text.push(c),
        }
    }
    None
}

/// Whether an absolute path leads below the mount, whatever dots and slashes it is written with.
fn is_below(path: &str, mount: &str) -> bool {
    if !path.starts_with('/') {
        return false;
    }
    let mut plain = PathBuf::from("/");
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => {
                plain.pop();
            }
            Component::Normal(name) => plain.push(name),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain.starts_with(mount)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offends(line: &str) -> bool {
        Call::parse(line).is_some_and(|call| call.paths().any(|path| is_below(&path, "/sealfs")))
    }

    #[test]
    fn a_path_below_the_mount_is_seen_in_every_spelling() {
        assert!(offends(
            r#"12 openat(AT_FDCWD</home>, "/sealfs/a, b", O_RDONLY) = 3"#
        ));
        assert!(offends(r#"stat("//sealfs/./x", 0x7ffe) = -1 ENOENT"#));
        assert!(offends(
            r#"7 renameat2(3</x>, "a", 4</y>, "/usr/../sealfs", 0 <unfinished ...>"#
        ));
        assert!(offends(
            r#"1 connect(3, {sa_family=AF_UNIX, sun_path="/sealfs/s"}, 110) = 0"#
        ));
    }

    #[test]
    fn data_and_other_paths_are_exempt() {
        assert!(!offends(
            r#"1 execve("/bin/ls", ["ls", "/sealfs/x"], 0x7ffc /* 9 vars */) = 0"#
        ));
        assert!(!offends(r#"1 symlink("/sealfs/x", "/tmp/l") = 0"#));
        assert!(!offends(
            r#"1 readlink("/proc/self/exe", "/sealfs/x", 100) = 9"#
        ));
        assert!(!offends(
            r#"1 openat(AT_FDCWD, "/sealfs-other/x", O_RDONLY) = 3"#
        ));
        assert!(offends(r#"1 execve("/sealfs/x", ["x"], 0x7ffc) = 0"#));
    }
}
