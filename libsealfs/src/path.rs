//! Paths as text: the mount prefix, the names under `/proc` and `/dev` that stand for descriptors,
//! and the pieces of a path walk. Nothing here asks the kernel or a server.
//!
//! What must stay true: `below` answers only for paths that reach the mount by their text alone; a
//! `..` before the mount point could pass through a symbolic link and is left to the walk.

/// Takes the first component off `path`: the component, and what follows its slashes.
pub fn split_first(path: &[u8]) -> (&[u8], &[u8]) {
    let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
    let path = &path[start..];
    let end = path.iter().position(|b| *b == b'/').unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    let skip = rest.iter().position(|b| *b != b'/').unwrap_or(rest.len());
    (name, &rest[skip..])
}

/// As [`split_first`], but the rest keeps one leading slash where the component was followed by
/// nothing but slashes, so that "a/" still says that `a` must be a directory.
fn rest_of(path: &[u8], name_len: usize) -> &[u8] {
    let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
    &path[start + name_len..]
}

/// The part of the absolute `path` below `mount`, without leading slashes; empty for the mount
/// point itself.
pub fn below<'a>(mount: &[u8], path: &'a [u8]) -> Option<&'a [u8]> {
    if path.first() != Some(&b'/') || mount.is_empty() {
        return None;
    }
    let mut mount = mount;
    let mut path = path;
    loop {
        let (want, mount_rest) = split_first(mount);
        if want.is_empty() {
            let start = path.iter().position(|b| *b != b'/').unwrap_or(path.len());
            return Some(&path[start..]);
        }
        let (name, rest) = split_first(path);
        if name == b"." {
            path = rest;
            continue;
        }
        if name != want {
            return None;
        }
        path = rest_of(path, name.len());
        mount = mount_rest;
    }
}

/// True if `directory` is a proper ancestor of `mount`; both are absolute and free of `.`, `..`.
pub fn is_above(mount: &[u8], directory: &[u8]) -> bool {
    if directory == b"/" || directory.is_empty() {
        return true;
    }
    mount.len() > directory.len() && mount.starts_with(directory) && mount[directory.len()] == b'/'
}

/// The mount prefix in its normal form: absolute, single slashes, none at the end. `None` if it is
/// not absolute, is the root, or has `.` or `..` in it.
pub fn normal_mount(text: &[u8]) -> Option<Vec<u8>> {
    if text.first() != Some(&b'/') {
        return None;
    }
    let mut normal = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let (name, next) = split_first(rest);
        if name.is_empty() {
            break;
        }
        if name == b"." || name == b".." {
            return None;
        }
        normal.push(b'/');
        normal.extend_from_slice(name);
        rest = next;
    }
    (!normal.is_empty()).then_some(normal)
}

/// `directory` and `name` as one path.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if directory.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// The last component and what stands before it; `None` for a path of slashes only.
pub fn split_last(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = path.iter().rposition(|b| *b != b'/')? + 1;
    let start = path[..end]
        .iter()
        .rposition(|b| *b == b'/')
        .map_or(0, |at| at + 1);
    Some((&path[..start], &path[start..end]))
}

/// Something of this process that a path under `/proc` or `/dev` stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    Descriptor(u32),
    WorkingDirectory,
    Executable,
    /// The directory that lists the descriptors.
    Descriptors,
}

/// Recognises `/proc/self/…`, `/proc/thread-self/…`, `/proc/PID/…` and `/dev/…`: what it stands
/// for, and the rest of the path behind it (with its leading slash, if any).
pub fn magic(path: &[u8], pid: u32) -> Option<(Magic, &[u8])> {
    if path.first() != Some(&b'/') {
        return None;
    }
    let (top, rest) = split_first(path);
    match top {
        b"proc" => magic_proc(rest, pid),
        b"dev" => {
            let (name, after) = next(rest);
            match name {
                b"stdin" => Some((Magic::Descriptor(0), after)),
                b"stdout" => Some((Magic::Descriptor(1), after)),
                b"stderr" => Some((Magic::Descriptor(2), after)),
                b"fd" => magic_descriptor(after),
                _ => None,
            }
        }
        _ => None,
    }
}

fn magic_proc(path: &[u8], pid: u32) -> Option<(Magic, &[u8])> {
    let (who, mut rest) = next(path);
    let me = who == b"self" || who == b"thread-self" || number(who) == Some(pid);
    if !me {
        return None;
    }
    let (mut what, mut after) = next(rest);
    if what == b"task" && who != b"thread-self" {
        rest = next(after).1;
        (what, after) = next(rest);
    }
    match what {
        b"fd" => magic_descriptor(after),
        b"cwd" => Some((Magic::WorkingDirectory, after)),
        b"exe" => Some((Magic::Executable, after)),
        _ => None,
    }
}

fn magic_descriptor(path: &[u8]) -> Option<(Magic, &[u8])> {
    let (name, after) = next(path);
    if name.is_empty() || name == b"." {
        return Some((Magic::Descriptors, after));
    }
    number(name).map(|fd| (Magic::Descriptor(fd), after))
}

/// As [`split_first`], but the rest keeps its leading slashes.
fn next(path: &[u8]) -> (&[u8], &[u8]) {
    let (name, _) = split_first(path);
    (name, rest_of(path, name.len()))
}

/// A decimal number without sign or leading zeros, as `/proc` writes them.
pub fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || text.len() > 10 || (text[0] == b'0' && text.len() > 1) {
        return None;
    }
    text.iter().try_fold(0u32, |sum, digit| {
        let digit = digit.checked_sub(b'0').filter(|d| *d < 10)?;
        sum.checked_mul(10)?.checked_add(u32::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_is_matched_by_components_not_by_text() {
        assert_eq!(below(b"/sealfs", b"/sealfs"), Some(&b""[..]));
        assert_eq!(below(b"/sealfs", b"//./sealfs//a/b/"), Some(&b"a/b/"[..]));
        assert_eq!(below(b"/sealfs", b"/sealfsx"), None);
        assert_eq!(below(b"/sealfs", b"sealfs"), None);
        assert_eq!(below(b"/sealfs", b"/tmp/../sealfs"), None);
        assert_eq!(below(b"/a/b", b"/a/./b/../c"), Some(&b"../c"[..]));
        assert_eq!(below(b"/a/b", b"/a"), None);
    }

    #[test]
    fn a_mount_prefix_has_one_normal_form() {
        assert_eq!(normal_mount(b"//sealfs/").as_deref(), Some(&b"/sealfs"[..]));
        assert_eq!(normal_mount(b"/a//b").as_deref(), Some(&b"/a/b"[..]));
        for bad in [&b""[..], b"/", b"sealfs", b"/a/../b", b"/./a"] {
            assert_eq!(normal_mount(bad), None);
        }
    }

    #[test]
    fn ancestors_of_the_mount_are_whole_components() {
        assert!(is_above(b"/a/b", b"/") && is_above(b"/a/b", b"/a"));
        assert!(!is_above(b"/a/b", b"/a/b") && !is_above(b"/ab/c", b"/a"));
    }

    #[test]
    fn magic_names_of_this_process_are_recognised() {
        let of = |path: &'static [u8]| magic(path, 77);
        assert_eq!(
            of(b"/proc/self/fd/3"),
            Some((Magic::Descriptor(3), &b""[..]))
        );
        assert_eq!(
            of(b"/proc/77/fd/3/x"),
            Some((Magic::Descriptor(3), &b"/x"[..]))
        );
        assert_eq!(
            of(b"/proc/self/task/78/fd/0"),
            Some((Magic::Descriptor(0), &b""[..]))
        );
        assert_eq!(of(b"/dev/stdin"), Some((Magic::Descriptor(0), &b""[..])));
        assert_eq!(of(b"/dev/fd/12"), Some((Magic::Descriptor(12), &b""[..])));
        assert_eq!(
            of(b"/proc/self/cwd/a"),
            Some((Magic::WorkingDirectory, &b"/a"[..]))
        );
        assert_eq!(of(b"/proc/self/fd/"), Some((Magic::Descriptors, &b""[..])));
        for other in [
            &b"/proc/78/fd/3"[..],
            b"/proc/self/fd/03",
            b"/proc/self/fd/x",
            b"/dev/null",
        ] {
            assert_eq!(magic(other, 77), None);
        }
    }

    #[test]
    fn the_last_name_is_found_behind_slashes() {
        assert_eq!(split_last(b"a/b//"), Some((&b"a/"[..], &b"b"[..])));
        assert_eq!(split_last(b"b"), Some((&b""[..], &b"b"[..])));
        assert_eq!(split_last(b"//"), None);
    }
}
