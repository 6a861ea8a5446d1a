//! The mount prefix: a path that only sealfs answers for.

use super::Fail;

/// Checks a prefix and returns it without a trailing slash.
pub fn check(prefix: &str) -> Result<String, Fail> {
    let bad = |why: &str| -> Fail { format!("mount {prefix}: {why}").into() };
    let trimmed = prefix.trim_end_matches('/');
    if !trimmed.starts_with('/') {
        return Err(bad("use an absolute path other than /, such as /sealfs"));
    }
    if trimmed
        .split('/')
        .skip(1)
        .any(|part| matches!(part, "" | "." | ".."))
    {
        return Err(bad("use a path without empty parts, `.` and `..`"));
    }
    let is_plain = |c: char| c.is_ascii_graphic() && !matches!(c, '\'' | '"' | '$' | '`' | '\\');
    if !trimmed.chars().all(is_plain) {
        return Err(bad(
            "use a path without blanks, quotes, `$` and backslashes",
        ));
    }
    // Asked by a raw system call: a covered shell's libc would answer for the mount.
    if rustix::fs::lstat(trimmed).is_ok() {
        return Err(bad(
            "exists already, and sealfs would hide it: choose a path that does not exist",
        ));
    }
    Ok(trimmed.to_owned())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn only_a_path_that_does_not_exist_can_be_a_mount() {
        assert_eq!(check("/no-such-mount/").unwrap(), "/no-such-mount");
        for bad in ["/", "relative", "/tmp", "/a b", "/a/../b", "/a//b", "/it's"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
