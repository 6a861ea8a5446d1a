//! Either end of a copy: a local tree or a volume, with the few steps a copy needs.

use super::remote::{Remote, RemoteFile, join};
use crate::cli::Fail;
use sealfs_protocol::attr::{Attr, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, SetAttr, SetTime, Time};
use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

pub enum Tree {
    Local,
    Volume(Remote),
}

/// What a copy has to know of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// `st_mode`.
    pub mode: u32,
    pub size_bytes: u64,
    pub atime: Time,
    pub mtime: Time,
    /// Device and inode, to recognise a file that would be copied onto itself.
    pub identity: (u64, u64),
}

impl Meta {
    pub fn is_dir(&self) -> bool {
        self.mode & S_IFMT == S_IFDIR
    }
    pub fn is_symlink(&self) -> bool {
        self.mode & S_IFMT == S_IFLNK
    }
    pub fn is_file(&self) -> bool {
        self.mode & S_IFMT == S_IFREG
    }
}

impl From<&Attr> for Meta {
    fn from(attr: &Attr) -> Meta {
        Meta {
            mode: attr.mode,
            size_bytes: attr.size_bytes,
            atime: attr.atime,
            mtime: attr.mtime,
            identity: (u64::MAX, attr.ino.0),
        }
    }
}

impl From<&Metadata> for Meta {
    fn from(m: &Metadata) -> Meta {
        let time = |seconds, ns: i64| Time {
            seconds,
            nanoseconds: ns as u32,
        };
        Meta {
            mode: m.mode(),
            size_bytes: m.len(),
            atime: time(m.atime(), m.atime_nsec()),
            mtime: time(m.mtime(), m.mtime_nsec()),
            identity: (m.dev(), m.ino()),
        }
    }
}

fn local(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}

fn fail(path: &[u8], error: &std::io::Error) -> Fail {
    let what = match error.raw_os_error() {
        Some(number) => sealfs_protocol::Errno(number).text().to_owned(),
        None => error.to_string(),
    };
    format!("{}: {what}", local(path).display()).into()
}

impl Tree {
    pub fn show(&self, path: &[u8]) -> String {
        match self {
            Tree::Local => local(path).display().to_string(),
            Tree::Volume(remote) => remote.show(path),
        }
    }

    /// `None` if there is no such file.
    pub fn meta(&self, path: &[u8], follow: bool) -> Result<Option<Meta>, Fail> {
        match self {
            Tree::Volume(remote) => Ok(remote.try_stat(path, follow)?.as_ref().map(Meta::from)),
            Tree::Local => {
                let path_of = local(path);
                let found = if follow {
                    fs::metadata(path_of)
                } else {
                    fs::symlink_metadata(path_of)
                };
                match found {
                    Ok(m) => Ok(Some(Meta::from(&m))),
                    Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
                    Err(e) => Err(fail(path, &e)),
                }
            }
        }
    }

    /// Names in a directory, with what is known of them.
    pub fn children(&self, path: &[u8]) -> Result<Vec<(Vec<u8>, Meta)>, Fail> {
        match self {
            Tree::Volume(remote) => Ok(remote
                .read_dir(path)?
                .into_iter()
                .map(|(entry, attr)| (entry.name, Meta::from(&attr)))
                .collect()),
            Tree::Local => {
                let mut found = Vec::new();
                for entry in fs::read_dir(local(path)).map_err(|e| fail(path, &e))? {
                    let name = entry
                        .map_err(|e| fail(path, &e))?
                        .file_name()
                        .as_bytes()
                        .to_vec();
                    if let Some(meta) = self.meta(&join(path, &name), false)? {
                        found.push((name, meta));
                    }
                }
                found.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(found)
            }
        }
    }

    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Fail> {
        match self {
            Tree::Volume(remote) => remote.read_link(path),
            Tree::Local => fs::read_link(local(path))
                .map(|target| target.as_os_str().as_bytes().to_vec())
                .map_err(|e| fail(path, &e)),
        }
    }

    pub fn make_dir(&self, path: &[u8], mode: u32) -> Result<(), Fail> {
        match self {
            Tree::Volume(remote) => remote.make_dir(path, mode & 0o7777),
            Tree::Local => fs::create_dir(local(path)).map_err(|e| fail(path, &e)),
        }
    }

    /// Makes a symbolic link in place of whatever file has the name.
    pub fn symlink(&self, path: &[u8], target: &[u8]) -> Result<(), Fail> {
        let exists = self.meta(path, false)?.is_some();
        match self {
            Tree::Volume(remote) => {
                if exists {
                    remote.unlink(path)?;
                }
                remote.symlink(path, target)
            }
            Tree::Local => {
                let removed = if exists {
                    fs::remove_file(local(path))
                } else {
                    Ok(())
                };
                removed
                    .and_then(|()| std::os::unix::fs::symlink(local(target), local(path)))
                    .map_err(|e| fail(path, &e))
            }
        }
    }

    pub fn reader(&self, path: &[u8]) -> Result<Stream, Fail> {
        match self {
            Tree::Volume(remote) => remote.open_read(path).map(Stream::Volume),
            Tree::Local => {
                let file = File::open(local(path)).map_err(|e| fail(path, &e))?;
                Ok(Stream::Local(file, path.to_vec()))
            }
        }
    }

    pub fn writer(&self, path: &[u8], mode: u32) -> Result<Stream, Fail> {
        match self {
            Tree::Volume(remote) => remote.create(path, mode & 0o7777).map(Stream::Volume),
            Tree::Local => {
                let mut options = OpenOptions::new();
                options
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(mode & 0o7777);
                let file = options.open(local(path)).map_err(|e| fail(path, &e))?;
                Ok(Stream::Local(file, path.to_vec()))
            }
        }
    }

    /// Gives a copy the permissions and times of its original.
    pub fn preserve(&self, path: &[u8], meta: &Meta) -> Result<(), Fail> {
        match self {
            Tree::Volume(remote) => remote.set_attr(
                path,
                &SetAttr {
                    mode: Some(meta.mode & 0o7777),
                    atime: Some(SetTime::At(meta.atime)),
                    mtime: Some(SetTime::At(meta.mtime)),
                    ..SetAttr::default()
                },
            ),
            Tree::Local => {
                let times = FileTimes::new()
                    .set_accessed(system_time(meta.atime))
                    .set_modified(system_time(meta.mtime));
                File::open(local(path))
                    .and_then(|file| {
                        file.set_times(times)?;
                        file.set_permissions(Permissions::from_mode(meta.mode & 0o7777))
                    })
                    .map_err(|e| fail(path, &e))
            }
        }
    }
}

fn system_time(time: Time) -> SystemTime {
    let since = Duration::new(u64::try_from(time.seconds).unwrap_or(0), time.nanoseconds);
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// An open file of either end.
pub enum Stream {
    Local(File, Vec<u8>),
    Volume(RemoteFile),
}

impl Stream {
    /// Reads on; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fail> {
        match self {
            Stream::Volume(file) => file.read(buffer),
            Stream::Local(file, path) => file.read(buffer).map_err(|e| fail(path, &e)),
        }
    }

    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), Fail> {
        match self {
            Stream::Volume(file) => file.write_all(bytes),
            Stream::Local(file, path) => file.write_all(bytes).map_err(|e| fail(path, &e)),
        }
    }
}

/// The process's umask, read without changing it.
pub fn umask() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|text| u32::from_str_radix(text.trim(), 8).ok())
        .unwrap_or(0o022)
}
