//! The keeper under real processes and a cluster that remembers what it was told.

mod departures;
mod errands;
mod files;
mod lives;
mod shadows;

use crate::cluster::{Cluster, Clusters, File, Image, Retold};
use crate::run::{self, Node};
use crate::watch::End;
use rustix::fd::IntoRawFd;
use sealfs_client::Standing;
use sealfs_client::node::arena::ManagerIndex;
use sealfs_client::node::sys::{self, Fd};
use sealfs_client::node::{Arena, OpenedFile, Registration, Runtime, SlotId, SlotInit, processes};
use sealfs_protocol::message::LockMark;
use sealfs_protocol::{ClientId, ClusterId, Errno, InodeId, SessionId, VolumeId};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const URL: &str = "tcp://127.0.0.1:1";
pub const PATIENCE: Duration = Duration::from_secs(20);
const BLOCK_BYTES: u64 = 4096;
const ROLE: &str = "SEALFS_KEEPER_TEST_ROLE";
const DIRECTORY: &str = "SEALFS_KEEPER_TEST_DIR";

/// Waits for a fact.
pub fn until(what: &str, fact: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "never came: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A cluster of files in memory, and everything that it was told.
#[derive(Default)]
pub struct Told {
    pub ended: Mutex<Vec<ClientId>>,
    pub closed: Mutex<Vec<File>>,
    pub doubted: Mutex<Vec<InodeId>>,
    /// Whose record locks went, and where.
    pub unlocked: Mutex<Vec<(ClientId, InodeId)>>,
    pub sessions_ended: Mutex<Vec<SessionId>>,
    pub renewals: Mutex<u32>,
    pub files: Mutex<HashMap<InodeId, Vec<u8>>>,
    /// Bytes that were written, as (offset, length).
    pub writes: Mutex<Vec<(u64, usize)>>,
    /// Descriptions that stand to execute a file.
    pub executed: Mutex<Vec<File>>,
    /// Descriptions as the keeper last listed them.
    pub known: Mutex<Vec<File>>,
    /// What will be said of locks the next time.
    pub judged: Mutex<Vec<(File, Option<LockMark>)>>,
    /// What happens while the servers are told what is open.
    pub meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// A session that the servers have ended.
    pub refused: Mutex<Option<SessionId>>,
    /// Every call fails until it is lifted.
    pub is_away: Mutex<bool>,
    /// Open connections; what is listed counts as made anew.
    pub sockets: Mutex<Vec<i32>>,
    /// How often servers were asked whether they know what is open.
    pub asked: Mutex<u32>,
}

impl Told {
    fn here(&self) -> Result<(), Errno> {
        if *self.is_away.lock().unwrap() {
            Err(Errno::EIO)
        } else {
            Ok(())
        }
    }
}

impl Cluster for Told {
    fn renew(&self, session: SessionId) -> Result<(), Errno> {
        self.here()?;
        if *self.refused.lock().unwrap() == Some(session) {
            return Err(Errno::ESTALE);
        }
        *self.renewals.lock().unwrap() += 1;
        Ok(())
    }
    fn sockets(&self) -> Vec<i32> {
        self.sockets.lock().unwrap().clone()
    }
    fn end_session(&self, session: SessionId) -> Result<(), Errno> {
        self.sessions_ended.lock().unwrap().push(session);
        Ok(())
    }
    fn end_client(&self, client: ClientId) -> Result<(), Errno> {
        self.here()?;
        self.ended.lock().unwrap().push(client);
        Ok(())
    }
    fn drop_record_locks(&self, of: Image, ino: InodeId) -> Result<(), Errno> {
        self.here()?;
        self.unlocked.lock().unwrap().push((of.client, ino));
        Ok(())
    }
    fn close(&self, file: File) -> Result<(), Errno> {
        self.here()?;
        self.closed.lock().unwrap().push(file);
        Ok(())
    }
    fn doubt(&self, ino: InodeId) -> Result<(), Errno> {
        self.here()?;
        self.doubted.lock().unwrap().push(ino);
        Ok(())
    }
    fn give_back(&self, _: File) {}
    fn reassert(&self, file: File, executes: bool) -> Result<(), Errno> {
        self.here()?;
        if executes {
            self.executed.lock().unwrap().push(file);
        }
        Ok(())
    }
    fn keep_known(
        &self,
        _: SessionId,
        open: &dyn Fn() -> Vec<Standing>,
        told: &mut Retold,
    ) -> Result<(), Errno> {
        *self.asked.lock().unwrap() += 1;
        self.here()?;
        let files = open().into_iter().map(|s| File {
            ino: s.file.ino,
            open: s.file.open,
        });
        told.open = files.collect();
        (*self.known.lock().unwrap()).clone_from(&told.open);
        told.judged.append(&mut self.judged.lock().unwrap());
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        Ok(())
    }
    fn size(&self, file: File) -> Result<u64, Errno> {
        let files = self.files.lock().unwrap();
        files
            .get(&file.ino)
            .map(|b| b.len() as u64)
            .ok_or(Errno::ESTALE)
    }
    /// Blocks of zeros are holes; beyond what is stored there is none either.
    fn seek(&self, file: File, offset: u64, data: bool) -> Result<u64, Errno> {
        let size = self.size(file)?;
        let files = self.files.lock().unwrap();
        let bytes = &files[&file.ino];
        let is_data = |at: &u64| {
            let block = (at / BLOCK_BYTES * BLOCK_BYTES) as usize;
            let end = (block + BLOCK_BYTES as usize).min(bytes.len());
            bytes[block..end].iter().any(|b| *b != 0)
        };
        let next = (offset..size).find(|at| is_data(at) == data);
        next.or((!data && offset < size).then_some(size))
            .ok_or(Errno::ENXIO)
    }
    fn read(&self, file: File, offset: u64, into: &mut [u8]) -> Result<usize, Errno> {
        let files = self.files.lock().unwrap();
        let bytes = &files[&file.ino][offset as usize..];
        let n = bytes.len().min(into.len());
        into[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }
    fn write(&self, file: File, offset: u64, bytes: &[u8]) -> Result<usize, Errno> {
        self.here()?;
        self.writes.lock().unwrap().push((offset, bytes.len()));
        let mut files = self.files.lock().unwrap();
        let at = offset as usize;
        files.get_mut(&file.ino).unwrap()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

pub struct One(pub Arc<Told>);

impl Clusters for One {
    fn get(&self, _: ManagerIndex, _: Option<VolumeId>) -> Result<Arc<dyn Cluster>, Errno> {
        Ok(Arc::clone(&self.0) as Arc<dyn Cluster>)
    }
    fn begin_again(&self) {}
    fn end(&self) {}
}

/// A node with a keeper in a thread of this test.
pub struct Kept {
    pub path: PathBuf,
    pub node: Arc<Node>,
    pub told: Arc<Told>,
    signal: Fd,
    thread: Option<std::thread::JoinHandle<Result<End, String>>>,
}

impl Kept {
    pub fn start(idle: Duration) -> Kept {
        let name = format!("sealfs-keep-{:x}", sys::random_u128().unwrap() as u64);
        let path = PathBuf::from("/dev/shm").join(name);
        let runtime = runtime_at(&path);
        let arena = Arena::attach(&runtime).unwrap();
        let node = Arc::new(Node::new(runtime, arena));
        let told = Arc::new(Told::default());
        let (signals, signal) = rustix::pipe::pipe().unwrap();
        let (signals, signal) = (
            Fd::new(signals.into_raw_fd()),
            Fd::new(signal.into_raw_fd()),
        );
        let clusters: Arc<dyn Clusters> = Arc::new(One(Arc::clone(&told)));
        let of_thread = Arc::clone(&node);
        let thread = std::thread::spawn(move || run::keep(&of_thread, &clusters, &signals, idle));
        let kept = Kept {
            path,
            node,
            told,
            signal,
            thread: Some(thread),
        };
        until("the keeper is there", || {
            kept.path.join("keeper.sock").exists()
        });
        kept
    }

    /// How it ended by itself.
    pub fn end(&mut self) -> End {
        self.thread.take().unwrap().join().unwrap().unwrap()
    }

    /// A signal to end, and how it ended.
    pub fn stop(&mut self) -> End {
        self.signal();
        self.end()
    }

    pub fn signal(&self) {
        sys::write_all(self.signal.raw(), b"x").unwrap();
    }

    /// A process that has registered and opened `count` files.
    pub fn actor(&self, count: usize) -> Actor {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "tests::actor", "--nocapture", "--test-threads=1"])
            .env(ROLE, count.to_string())
            .env(DIRECTORY, &self.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("@ready") {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "the actor ended");
        }
        Actor {
            child,
            _output: output,
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if self.thread.is_some() && !std::thread::panicking() {
            self.stop();
        }
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

pub struct Actor {
    child: Child,
    /// Open until the end: it may still write.
    _output: BufReader<std::process::ChildStdout>,
}

impl Actor {
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn leave(&mut self) {
        writeln!(self.child.stdin.as_mut().unwrap(), "leave").unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn runtime_at(path: &Path) -> Runtime {
    Runtime::open(Some(path.as_os_str().as_encoded_bytes())).unwrap()
}

/// Where the roles are played; without a role it is an empty test.
#[test]
fn actor() {
    let Ok(count) = std::env::var(ROLE) else {
        return;
    };
    let runtime = runtime_at(Path::new(&std::env::var(DIRECTORY).unwrap()));
    let (arena, me) = processes::join(&runtime, URL).unwrap();
    sealfs_client::node::keeper_link::announce(&runtime, &me, None).unwrap();
    for ino in 0..count.parse().unwrap() {
        open_slot(&runtime, &arena, &me, ino + 1);
    }
    println!("@ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

pub fn open_slot(runtime: &Runtime, arena: &Arena, me: &Registration, ino: u64) -> SlotId {
    let init = SlotInit {
        cluster: ClusterId(7),
        manager: ManagerIndex(0),
        volume: VolumeId(3),
        mount: 0,
        open: arena.mint_open(),
        flags: 2,
    };
    let id = arena.allocate(runtime, me.index, &init).unwrap();
    let file = OpenedFile {
        ino: InodeId(ino),
        kind: 0o100_000,
        parent: InodeId(1),
        name: b"",
    };
    arena.publish(id, &file).unwrap();
    id
}
