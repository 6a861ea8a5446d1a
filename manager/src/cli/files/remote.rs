//! One volume, as the file verbs use it: paths from the root, failures as one line.

use crate::cli::Fail;
use crate::cli::cluster::ManagerArg;
use crate::cli::node::NodePlace;
use crate::cli::run::choose_volume;
use sealfs_client::{At, Client, Config, DirEntry, Failure, FileRef, Identity, IoVec, IoVecMut};
use sealfs_protocol::attr::{Attr, SetAttr};
use sealfs_protocol::limits::SESSION_LEASE_MS;
use sealfs_protocol::message::Credentials;
use sealfs_protocol::{Errno, OpenId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes handed to the client at once: several chunks, so that servers work side by side.
pub const BUFFER_BYTES: usize = 8 << 20;
/// How often the session is renewed; a third of its lease.
const RENEWAL_INTERVAL: Duration = Duration::from_millis(SESSION_LEASE_MS as u64 / 3);
const O_RDONLY: u32 = 0;
const O_WRONLY: u32 = 1;
const O_CREAT: u32 = 0o100;
const O_TRUNC: u32 = 0o1000;

#[derive(Clone)]
pub struct Remote {
    client: Client,
    opens: Arc<AtomicU64>,
    /// As shown in messages: `main:/`.
    root: String,
    renewed: Arc<Mutex<Instant>>,
}

impl Remote {
    pub fn connect(
        manager: &ManagerArg,
        volume: Option<String>,
        mount: &str,
    ) -> Result<Remote, Fail> {
        let url = manager.url()?.to_string();
        let state = match manager.state() {
            Ok(state) => state,
            Err(fail) => NodePlace::find()?.last_state(&url).ok_or(fail)?,
        };
        let volume = choose_volume(&state, volume)?;
        let credentials = Credentials {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            groups: rustix::process::getgroups()
                .map_err(|e| format!("getgroups: {e}"))?
                .iter()
                .map(|g| g.as_raw())
                .collect(),
        };
        let mut config = Config::new(&volume, mount.trim_end_matches('/').as_bytes());
        config.manager = Some(url);
        config.cluster_state = Some(state);
        let identity = Identity::random(std::process::id(), credentials);
        let client = Client::connect(config, identity).map_err(|e| e.to_string())?;
        Ok(Remote {
            client,
            opens: Arc::new(AtomicU64::new(1)),
            root: format!("{volume}:/"),
            renewed: Arc::new(Mutex::new(Instant::now())),
        })
    }

    /// The path as shown in messages.
    pub fn show(&self, path: &[u8]) -> String {
        format!("{}{}", self.root, String::from_utf8_lossy(path))
    }

    /// No keeper watches this command, so it renews its own session now and then.
    fn keep_session(&self) {
        let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        if renewed.elapsed() >= RENEWAL_INTERVAL {
            // If it fails, so will what follows, and that tells.
            let _ = self.client.renew_session(self.client.identity().session);
            *renewed = Instant::now();
        }
    }

    fn at<'a>(&self, path: &'a [u8]) -> At<'a> {
        self.keep_session();
        At {
            base: self.client.root(),
            path,
        }
    }

    fn fail(&self, path: &[u8], failure: &Failure) -> Fail {
        match failure {
            Failure::Errno(errno) => self.fail_errno(path, *errno),
            Failure::Outside(target) => {
                let target = String::from_utf8_lossy(target).into_owned();
                format!("{}: leads out of the volume, to {target}", self.show(path)).into()
            }
        }
    }

    fn fail_errno(&self, path: &[u8], errno: Errno) -> Fail {
        format!("{}: {}", self.show(path), errno.text()).into()
    }

    pub fn stat(&self, path: &[u8], follow: bool) -> Result<Attr, Fail> {
        self.try_stat(path, follow)?
            .ok_or_else(|| self.fail_errno(path, Errno::ENOENT))
    }

    /// `None` if there is no such file.
    pub fn try_stat(&self, path: &[u8], follow: bool) -> Result<Option<Attr>, Fail> {
        match self.client.stat(self.at(path), follow) {
            Ok(attr) => Ok(Some(attr)),
            Err(Failure::Errno(Errno::ENOENT)) => Ok(None),
            Err(failure) => Err(self.fail(path, &failure)),
        }
    }

    /// All entries of a directory by name, with their attributes.
    pub fn read_dir(&self, path: &[u8]) -> Result<Vec<(DirEntry, Attr)>, Fail> {
        let dir = self.stat(path, true)?;
        let listed = self.client.entries(dir.ino);
        let mut entries = Vec::new();
        for mut entry in listed.map_err(|e| self.fail_errno(path, e))? {
            let attr = match entry.attr.take() {
                Some(attr) => Some(attr),
                None => self.try_stat(&join(path, &entry.name), false)?,
            };
            // One that was removed meanwhile is no entry any more.
            if let Some(attr) = attr {
                entries.push((entry, attr));
            }
        }
        entries.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        Ok(entries)
    }

    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, Fail> {
        self.client
            .readlink(self.at(path))
            .map_err(|e| self.fail(path, &e))
    }

    pub fn make_dir(&self, path: &[u8], mode: u32) -> Result<(), Fail> {
        let made = self.client.mkdir(self.at(path), mode);
        made.map(|_| ()).map_err(|e| self.fail(path, &e))
    }

    pub fn symlink(&self, path: &[u8], target: &[u8]) -> Result<(), Fail> {
        let made = self.client.symlink(self.at(path), target);
        made.map(|_| ()).map_err(|e| self.fail(path, &e))
    }

    pub fn unlink(&self, path: &[u8]) -> Result<(), Fail> {
        self.client
            .unlink(self.at(path))
            .map_err(|e| self.fail(path, &e))
    }

    pub fn remove_dir(&self, path: &[u8]) -> Result<(), Fail> {
        self.client
            .rmdir(self.at(path))
            .map_err(|e| self.fail(path, &e))
    }

    pub fn set_attr(&self, path: &[u8], set: &SetAttr) -> Result<(), Fail> {
        let done = self.client.setattr(self.at(path), false, set);
        done.map(|_| ()).map_err(|e| self.fail(path, &e))
    }

    pub fn open_read(&self, path: &[u8]) -> Result<RemoteFile, Fail> {
        self.open(path, O_RDONLY, 0)
    }

    /// Makes or empties a file.
    pub fn create(&self, path: &[u8], mode: u32) -> Result<RemoteFile, Fail> {
        self.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode)
    }

    fn open(&self, path: &[u8], flags: u32, mode: u32) -> Result<RemoteFile, Fail> {
        let open = OpenId(self.opens.fetch_add(1, Ordering::Relaxed));
        let opened = self
            .client
            .open(self.at(path), flags, mode, open)
            .map_err(|e| self.fail(path, &e))?;
        Ok(RemoteFile {
            remote: self.clone(),
            file: FileRef {
                ino: opened.attr.ino,
                open,
            },
            path: path.to_vec(),
            offset: 0,
        })
    }

    /// Tells the servers that this client has ended.
    pub fn end(&self) {
        self.client.end();
    }
}

/// A path one level deeper.
pub fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if !path.is_empty() && path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// An open file, read or written from its start to its end.
pub struct RemoteFile {
    remote: Remote,
    file: FileRef,
    path: Vec<u8>,
    offset: u64,
}

impl RemoteFile {
    /// Reads on; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Fail> {
        self.remote.keep_session();
        let done = self
            .remote
            .client
            .read(self.file, self.offset, &mut [IoVecMut::new(buffer)])
            .map_err(|e| self.remote.fail_errno(&self.path, e))?;
        self.offset += done as u64;
        Ok(done)
    }

    pub fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Fail> {
        while !bytes.is_empty() {
            self.remote.keep_session();
            let done = self
                .remote
                .client
                .write(self.file, self.offset, &[IoVec::new(bytes)])
                .map_err(|e| self.remote.fail_errno(&self.path, e))?;
            if done == 0 {
                return Err(self.remote.fail_errno(&self.path, Errno::EIO));
            }
            self.offset += done as u64;
            bytes = &bytes[done..];
        }
        Ok(())
    }
}

impl Drop for RemoteFile {
    fn drop(&mut self) {
        self.remote.client.close(self.file);
    }
}
