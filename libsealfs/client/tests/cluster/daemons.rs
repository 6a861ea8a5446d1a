//! A manager and servers as processes of their own: this test binary, started again with a role.

use sealfs_client::{Client, Config, Identity};
use sealfs_protocol::manager::{Durability, ManagerReply, ManagerRequest, Volume};
use sealfs_protocol::message::Credentials;
use sealfs_protocol::{VolumeId, attr::Layout};
use sealfs_transport::rpc;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROLE: &str = "SEALFS_TEST_ROLE";
const DIR: &str = "SEALFS_TEST_DIR";
const MANAGER: &str = "SEALFS_TEST_MANAGER";
const LISTEN: &str = "SEALFS_TEST_LISTEN";
/// Longest wait for a daemon to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// The part of the binary that is a daemon; returns at once when it is not asked to be one.
pub fn play_role() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let listen = std::env::var(LISTEN).unwrap();
    if role == "manager" {
        let flags = sealfs_manager::config::Flags {
            listen: Some(listen),
            state_dir: Some(dir.join("state")),
            ready_file: Some(dir.join("ready")),
            ..Default::default()
        };
        sealfs_manager::daemon::run(flags).unwrap();
        return;
    }
    let config = sealfs_server::config::Config {
        name: role,
        listen: listen.parse().unwrap(),
        manager: std::env::var(MANAGER).unwrap().parse().unwrap(),
        meta_dir: dir.join("meta"),
        data: dir.join("data"),
        log: None,
        size_bytes: 512 << 20,
        memory_mib: 128,
        weight: 1,
        insecure_listen: false,
        ready_file: Some(dir.join("ready")),
    };
    sealfs_server::runtime::run(&config).unwrap();
}

struct Daemon {
    child: Child,
    role: String,
    dir: PathBuf,
    url: String,
}

pub struct Cluster {
    manager: Daemon,
    servers: Vec<Daemon>,
    _dir: tempfile::TempDir,
}

fn spawn(role: &str, dir: &Path, listen: &str, manager: &str) -> Daemon {
    std::fs::create_dir_all(dir).unwrap();
    let _ = std::fs::remove_file(dir.join("ready"));
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon", "--nocapture"])
        .env(ROLE, role)
        .env(DIR, dir)
        .env(LISTEN, listen)
        .env(MANAGER, manager)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    Daemon {
        child,
        role: role.into(),
        dir: dir.into(),
        url: String::new(),
    }
}

impl Daemon {
    fn wait(&mut self) {
        let start = Instant::now();
        loop {
            if let Ok(url) = std::fs::read_to_string(self.dir.join("ready"))
                && !url.is_empty()
            {
                self.url = url.trim().into();
                return;
            }
            let ended = self.child.try_wait().unwrap();
            let log = || std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            assert!(ended.is_none(), "{} ended: {}", self.role, log());
            assert!(
                start.elapsed() < PATIENCE,
                "{} is not ready: {}",
                self.role,
                log()
            );
            std::thread::yield_now();
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Cluster {
    pub fn start(servers: usize) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let any = "tcp://127.0.0.1:0";
        let mut manager = spawn("manager", &dir.path().join("manager"), any, "");
        manager.wait();
        let mut list: Vec<Daemon> = (0..servers)
            .map(|i| {
                let role = format!("server-{i}");
                spawn(&role, &dir.path().join(&role), any, &manager.url)
            })
            .collect();
        for server in &mut list {
            server.wait();
        }
        let cluster = Cluster {
            manager,
            servers: list,
            _dir: dir,
        };
        let volume = Volume {
            id: VolumeId(0),
            name: "main".into(),
            durability: Durability::Fsync,
            layout: Layout::DEFAULT,
            root_uid: 0,
            root_gid: 0,
            root_mode: 0o777,
            quota_bytes: 0,
            quota_inodes: 0,
            read_only: false,
        };
        let made = cluster.ask(&ManagerRequest::CreateVolume { volume });
        assert!(matches!(made, ManagerReply::Volume(_)), "{made:?}");
        cluster
    }

    fn ask(&self, request: &ManagerRequest) -> ManagerReply {
        rpc::manager(&self.manager.url.parse().unwrap(), request, 10_000).unwrap()
    }

    /// A client with an identity of its own.
    pub fn client(&self) -> Client {
        self.client_with(|_| ())
    }

    pub fn client_with(&self, change: impl FnOnce(&mut Config)) -> Client {
        let mut config = Config::new("main", b"/sealfs");
        config.manager = Some(self.manager.url.clone());
        change(&mut config);
        let identity = Identity::random(std::process::id(), Credentials::default());
        Client::connect(config, identity).unwrap()
    }

    /// SIGKILL, and the same server again at the same address.
    pub fn kill_and_restart(&mut self, server: usize) {
        let old = &mut self.servers[server];
        old.kill();
        let mut new = spawn(&old.role, &old.dir, &old.url, &self.manager.url);
        new.wait();
        self.servers[server] = new;
    }

    pub fn kill_manager(&mut self) {
        self.manager.kill();
    }
}
