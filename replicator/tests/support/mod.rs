//! Real daemons in directories of their own, and a small client that speaks to them.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rbd_protocol::control::{
    MetaDisk, NbdExport, NetOptions, PeerConfig, Reply, Request, ResourceConfig, ResourceOptions,
    ResourceStatus, VolumeConfig, frame,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    Creation, Layout, NodeName, Placement, ResourceName, Superblock, create,
};

/// How long anything may take before a test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// One node: a directory, and a daemon while it runs.
pub(crate) struct Node {
    pub(crate) name: &'static str,
    directory: tempfile::TempDir,
    daemon: Option<Child>,
    /// What starts the daemon, if it is not started as it is.
    prefix: Vec<String>,
}

impl Node {
    /// A node whose daemon answers.
    pub(crate) fn start(name: &'static str) -> Self {
        let mut node = Self::prepare(name);
        node.run();
        node
    }

    /// A node whose daemon is not there yet.
    pub(crate) fn prepare(name: &'static str) -> Self {
        Self {
            name,
            directory: tempfile::tempdir().unwrap(),
            daemon: None,
            prefix: Vec::new(),
        }
    }

    /// Has the daemon started by these words, which come in front of its own.
    pub(crate) fn run_under(&mut self, prefix: &[&str]) {
        self.prefix = prefix.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Starts the daemon and waits until it answers.
    pub(crate) fn run(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path("log"))
            .unwrap();
        self.run_with_log(log);
    }

    /// The same, with its log going there.
    pub(crate) fn run_with_log(&mut self, log: impl Into<Stdio>) {
        let child = self.command().stderr(log).spawn().unwrap();
        self.daemon = Some(child);
        let answers =
            until(|| matches!(self.try_ask(&Request::Daemon), Some(Reply::Daemon { .. })));
        assert!(answers, "no answer; log:\n{}", self.log());
    }

    /// A daemon on this node's directories, not started.
    pub(crate) fn command(&self) -> Command {
        let mut words = self.prefix.clone();
        words.push(env!("CARGO_BIN_EXE_rbdd").to_owned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .args(["--node", self.name])
            .arg("--run-dir")
            .arg(self.run_dir())
            .arg("--state-dir")
            .arg(self.path("state"))
            .env_remove("JOURNAL_STREAM")
            .env_remove("NOTIFY_SOCKET")
            .env("RBD_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.path("run")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.daemon.as_ref().unwrap().id()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Waits until the log contains this.
    pub(crate) fn expect_log(&self, text: &str) {
        let is_there = until(|| self.log().contains(text));
        assert!(is_there, "{text:?} is not in the log:\n{}", self.log());
    }

    pub(crate) fn socket(&self) -> UnixStream {
        UnixStream::connect(self.run_dir().join("rbdd.sock")).unwrap()
    }

    /// One conversation.
    pub(crate) fn ask(&self, request: &Request) -> Reply {
        self.try_ask(request)
            .unwrap_or_else(|| panic!("no reply to {request:?}; log:\n{}", self.log()))
    }

    /// The same, for one who may be turned away.
    pub(crate) fn try_ask(&self, request: &Request) -> Option<Reply> {
        let mut stream = UnixStream::connect(self.run_dir().join("rbdd.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&frame::encode(request).unwrap()).ok()?;
        read_reply(&mut stream)
    }

    /// A request that must be done.
    pub(crate) fn must(&self, request: &Request) {
        let reply = self.ask(request);
        assert!(
            matches!(reply, Reply::Done | Reply::DoneWithNotes(_)),
            "{request:?}: {reply:?}; log:\n{}",
            self.log()
        );
    }

    pub(crate) fn status(&self, resource: &str) -> Option<ResourceStatus> {
        let resource = Some(resource.to_owned());
        match self.ask(&Request::Status { resource }) {
            Reply::Status(mut states) => states.pop(),
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the status fits.
    pub(crate) fn await_status(
        &self,
        resource: &str,
        what: &str,
        fits: impl Fn(&ResourceStatus) -> bool,
    ) {
        let is_so = until(|| self.status(resource).is_some_and(|status| fits(&status)));
        assert!(
            is_so,
            "{} never became {what}: {:#?}\nlog:\n{}",
            self.name,
            self.status(resource),
            self.log()
        );
    }

    /// Ends the daemon with a signal and tells how it ended.
    pub(crate) fn end(&mut self, signal: &str) -> ExitStatus {
        let mut daemon = self.daemon.take().unwrap();
        let pid = daemon.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(sent.success());
        let mut ended = None;
        until(|| {
            ended = daemon.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap_or_else(|| {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
            panic!("{} did not end; log:\n{}", self.name, self.log())
        })
    }

    /// A file with metadata, as `create-md` makes it.
    pub(crate) fn create_disk(&self, config: &ResourceConfig) {
        let path = config.volumes[0].disk.as_deref().unwrap();
        create_disk(Path::new(path), config);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }
}

/// Size of the test disks, metadata included.
pub(crate) const DISK_BYTES: u64 = 16 << 20;

fn create_disk(path: &Path, config: &ResourceConfig) {
    let file = File::create(path).unwrap();
    file.set_len(DISK_BYTES).unwrap();
    let layout = Layout::new(DISK_BYTES, Placement::Internal, 1, None).unwrap();
    let creation = Creation {
        resource: ResourceName::new(&config.name).unwrap(),
        node: NodeName::new(&config.node_name).unwrap(),
        node_id: config.node_id,
        volume: VolumeNumber(0),
        device_id: u64::from(std::process::id()) << 8 | u64::from(config.node_id.0),
        created_at: 0,
    };
    for write in create(&Superblock::new(creation, &layout), &layout) {
        file.write_all_at(&write.block[..], write.offset).unwrap();
    }
}

pub(crate) fn read_reply(stream: &mut UnixStream) -> Option<Reply> {
    let mut header = [0; frame::HEADER_BYTES];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; frame::body_length(&header).unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some(frame::decode(&body).unwrap())
}

/// Asks again and again until it is so or patience ends.
pub(crate) fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

/// A loopback address nobody listens on at the moment.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Resource r0 of one volume between alpha (node 0) and beta (node 1), as `node` sees it.
pub(crate) fn config(node: &Node, addresses: &[String; 2]) -> ResourceConfig {
    let (own, other) = if node.name == "alpha" { (0, 1) } else { (1, 0) };
    ResourceConfig {
        name: "r0".to_owned(),
        defined_at: "r0.res:1".to_owned(),
        config_path: "/dev/null".to_owned(),
        node_name: node.name.to_owned(),
        node_id: node_id(own),
        listen: Some(addresses[own].clone()),
        peers: vec![PeerConfig {
            name: ["alpha", "beta"][other].to_owned(),
            node_id: node_id(other),
            address: addresses[other].clone(),
            net: NetOptions {
                shared_secret: Some("geheim".to_owned()),
                connect_interval_ms: 1000,
                ..NetOptions::default()
            },
        }],
        volumes: vec![VolumeConfig {
            number: VolumeNumber(0),
            device: "/dev/drbd1".to_owned(),
            minor: Some(1),
            disk: Some(node.path("disk").to_str().unwrap().to_owned()),
            meta_disk: MetaDisk::Internal,
            size_limit_bytes: None,
            exports: vec![NbdExport::Unix],
            kernel: rbd_protocol::control::KernelExport::None,
            resync: Vec::new(),
            on_disk_trouble: rbd_protocol::control::DiskTrouble::default(),
            resync_after: None,
        }],
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}

fn node_id(index: usize) -> NodeId {
    NodeId(u8::try_from(index).unwrap())
}
