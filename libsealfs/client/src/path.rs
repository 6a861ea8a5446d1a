//! Paths as bytes: cutting and joining, without asking anybody.

use crate::cache::trim_slashes;

/// A path's last component with what stands before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Split<'a> {
    /// Up to the last component, without it.
    pub parent: &'a [u8],
    /// Without slashes; empty if the path has no component.
    pub name: &'a [u8],
    /// Slashes stand behind it: it must be a directory.
    pub slash: bool,
}

pub(crate) fn split_last(path: &[u8]) -> Split<'_> {
    let end = path
        .iter()
        .rposition(|b| *b != b'/')
        .map_or(0, |last| last + 1);
    let start = path[..end]
        .iter()
        .rposition(|b| *b == b'/')
        .map_or(0, |slash| slash + 1);
    Split {
        parent: &path[..start],
        name: &path[start..end],
        slash: end < path.len() && end > 0,
    }
}

impl Split<'_> {
    /// `.`, `..` or nothing: what no new entry can be called.
    pub fn is_special(&self) -> bool {
        matches!(self.name, b"" | b"." | b"..")
    }

    /// The name with its slash, as a request carries it.
    pub fn wire_name(&self) -> Vec<u8> {
        let mut name = self.name.to_vec();
        if self.slash {
            name.push(b'/');
        }
        name
    }
}

/// `target` in place of a symbolic link that `rest` (starting with a slash, or empty) followed.
pub(crate) fn join_target(target: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(target.len() + rest.len());
    path.extend_from_slice(target);
    path.extend_from_slice(rest);
    path
}

/// What an absolute path names below `mount`, or `None` if it is not below it.
pub(crate) fn below_mount<'a>(path: &'a [u8], mount: &[u8]) -> Option<&'a [u8]> {
    let rest = path.strip_prefix(mount)?;
    (rest.is_empty() || rest[0] == b'/').then_some(rest)
}

/// The path that `..` of the mount's root means, with `rest` (starting with a slash, or empty).
pub(crate) fn above_mount(mount: &[u8], rest: &[u8]) -> Vec<u8> {
    let parent = split_last(mount).parent;
    let parent = trim_slashes(parent);
    let mut path = Vec::with_capacity(parent.len() + rest.len() + 1);
    if !parent.is_empty() {
        path.push(b'/');
        path.extend_from_slice(parent);
    }
    path.extend_from_slice(rest);
    if path.is_empty() {
        path.push(b'/');
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_component_is_cut_off_with_its_slash() {
        let parts = |p: &'static [u8]| {
            let s = split_last(p);
            (s.parent, s.name, s.slash)
        };
        assert_eq!(parts(b"a/b"), (&b"a/"[..], &b"b"[..], false));
        assert_eq!(parts(b"a/b//"), (&b"a/"[..], &b"b"[..], true));
        assert_eq!(parts(b"b"), (&b""[..], &b"b"[..], false));
        assert_eq!(parts(b""), (&b""[..], &b""[..], false));
        assert_eq!(parts(b"//"), (&b""[..], &b""[..], false));
    }

    #[test]
    fn the_mount_ends_at_a_component() {
        assert_eq!(below_mount(b"/sealfs/a", b"/sealfs"), Some(&b"/a"[..]));
        assert_eq!(below_mount(b"/sealfs", b"/sealfs"), Some(&b""[..]));
        assert_eq!(below_mount(b"/sealfsx", b"/sealfs"), None);
    }

    #[test]
    fn above_the_mount_lies_its_parent() {
        assert_eq!(above_mount(b"/sealfs", b"/etc"), b"/etc");
        assert_eq!(above_mount(b"/sealfs", b""), b"/");
        assert_eq!(above_mount(b"/mnt/s", b"/../x"), b"/mnt/../x");
    }
}
