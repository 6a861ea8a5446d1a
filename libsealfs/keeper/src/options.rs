//! The keeper's command line, as the library writes it.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// How long a keeper stays when nobody is left, unless told otherwise.
pub const IDLE: Duration = Duration::from_secs(10);

const USAGE: &str = "usage: sealfs-keeper [--runtime-dir DIR | --default-dir DIR] [--lock-fd N] \
                     [--idle-ms N]; the library starts it by itself";

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// The runtime directory; `None`: found as the library finds it.
    pub directory: Option<Vec<u8>>,
    /// The directory is the one that the library finds by itself.
    pub is_default: bool,
    /// The locked lock file, inherited from the starter.
    pub lock_fd: Option<i32>,
    pub idle: Duration,
}

impl Options {
    pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Options, String> {
        let mut options = Options {
            directory: None,
            is_default: true,
            lock_fd: None,
            idle: IDLE,
        };
        let mut args = args;
        while let Some(arg) = args.next() {
            let value = args.next().ok_or(USAGE)?;
            match arg.to_str() {
                Some(kind @ ("--runtime-dir" | "--default-dir")) => {
                    options.is_default = kind == "--default-dir";
                    options.directory = Some(value.into_vec());
                }
                Some("--lock-fd") => options.lock_fd = Some(number(&value)?),
                Some("--idle-ms") => options.idle = Duration::from_millis(number(&value)?),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}

fn number<T: std::str::FromStr>(value: &std::ffi::OsStr) -> Result<T, String> {
    value
        .to_str()
        .and_then(|v| v.parse().ok())
        .ok_or_else(|| USAGE.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_line_is_understood_and_anything_else_refused() {
        let parse = |line: &str| Options::parse(line.split_whitespace().map(OsString::from));
        let options = parse("--default-dir /dev/shm/sealfs-0 --lock-fd 3").unwrap();
        assert_eq!(
            (options.lock_fd, options.is_default, options.idle),
            (Some(3), true, IDLE)
        );
        assert!(!parse("--runtime-dir /x").unwrap().is_default);
        for wrong in ["--lock-fd", "--lock-fd x", "--what 1", "dir"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
