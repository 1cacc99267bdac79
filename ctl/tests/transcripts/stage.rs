//! A directory with a configuration, disks and a run directory, the program, and a stand-in for
//! the daemon that speaks its frames.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rbd_protocol::control::frame::{HEADER_BYTES, body_length, decode, encode};
use rbd_protocol::control::{
    ConnectionStatus, DeviceStatus, PeerDeviceStatus, Reply, Request, ResourceStatus, TwoPrimaries,
};
use rbd_protocol::ids::{GenerationId, NodeId, VolumeNumber};
use rbd_protocol::policy::{ResyncConflict, SplitPolicies};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState, Role};
use tempfile::TempDir;

/// A node of its own in a directory of its own.
pub(crate) struct Stage {
    directory: TempDir,
}

/// What the program did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Answers requests in a thread until dropped.
pub(crate) struct StandIn {
    socket: PathBuf,
    stop: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Request>>>,
    thread: Option<JoinHandle<()>>,
}

/// A program that does not end by itself; stopped when dropped.
pub(crate) struct Running(Child);

impl Stage {
    /// Resources r0 (volume 0) and r1 (volumes 0 and 1) on node alpha, with disks of 16 MiB.
    pub(crate) fn new() -> Self {
        let stage = Self {
            directory: TempDir::new().unwrap(),
        };
        std::fs::create_dir(stage.path("run")).unwrap();
        for disk in ["r0", "r1-0", "r1-1"] {
            let file = std::fs::File::create(stage.path(disk)).unwrap();
            file.set_len(16 << 20).unwrap();
        }
        let at = |name: &str| stage.path(name).display().to_string();
        let text = format!(
            "resource r0 {{
                volume 0 {{ device /dev/drbd1 minor 1; disk {}; meta-disk internal; }}
                on alpha {{ node-id 0; address 127.0.0.1:7001; }}
                on beta {{ node-id 1; address 127.0.0.1:7002; }}
            }}
            resource r1 {{
                net {{ shared-secret \"very-secret\"; }}
                volume 0 {{ device /dev/drbd2 minor 2; disk {}; meta-disk {}; }}
                volume 1 {{ device /dev/drbd3 minor 3; disk {}; meta-disk {}[1]; }}
                on alpha {{ node-id 0; address 127.0.0.1:7003; }}
                on beta {{ node-id 1; address 127.0.0.1:7004; }}
            }}
            resource elsewhere {{
                volume 0 {{ device /dev/drbd4 minor 4; disk /dev/null; meta-disk internal; }}
                on beta {{ node-id 0; address 127.0.0.1:7005; }}
                on gamma {{ node-id 1; address 127.0.0.1:7006; }}
            }}\n",
            at("r0"),
            at("r1-0"),
            at("meta"),
            at("r1-1"),
            at("shared-meta"),
        );
        stage.configure(&text);
        stage
    }

    /// Replaces the configuration.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.path("rbd.conf"), text).unwrap();
    }

    /// A path in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program on this stage, not yet started; standard input is empty.
    pub(crate) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbdadm"));
        command
            .env_remove("NO_COLOR")
            .env("RBD_CONFIG", self.path("rbd.conf"))
            .env("RBD_NODE", "alpha")
            .env("RBD_RUN_DIR", self.path("run"))
            .args(words.split_whitespace())
            .stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, words: &str) -> Outcome {
        outcome(self.command(words).output().unwrap())
    }

    /// Starts a stand-in for the daemon.
    pub(crate) fn daemon(&self, answer: impl FnMut(&Request) -> Reply + Send + 'static) -> StandIn {
        let mut answer = answer;
        self.peer(move |stream, asked| {
            let Some(request) = receive(stream) else {
                return;
            };
            let reply = answer(&request);
            asked.lock().unwrap().push(request);
            let frame = encode(&reply).unwrap();
            // A client that does not wait for its answer is the test's business.
            drop(stream.write_all(&frame));
        })
    }

    /// Starts something that serves each connection as it likes.
    pub(crate) fn peer(
        &self,
        mut serve: impl FnMut(&mut UnixStream, &Mutex<Vec<Request>>) + Send + 'static,
    ) -> StandIn {
        let socket = self.path("run").join("rbdd.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (stop_it, record) = (Arc::clone(&stop), Arc::clone(&asked));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop_it.load(Ordering::SeqCst) {
                    return;
                }
                serve(&mut stream.unwrap(), &record);
            }
        });
        StandIn {
            socket,
            stop,
            asked,
            thread: Some(thread),
        }
    }
}

impl Running {
    /// Starts the program and gives its output to read from.
    pub(crate) fn start(command: &mut Command) -> (Self, ChildStdout) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        (Self(child), output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl StandIn {
    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(UnixStream::connect(&self.socket));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        drop(std::fs::remove_file(&self.socket));
    }
}

impl Outcome {
    /// Asserts the exit code, showing everything when it is another.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

pub(crate) fn outcome(output: Output) -> Outcome {
    Outcome {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn receive(stream: &mut UnixStream) -> Option<Request> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).ok()?;
    let mut body = vec![0; body_length(&header).unwrap()];
    stream.read_exact(&mut body).ok()?;
    Some(decode(&body).unwrap())
}

/// A healthy resource of one volume, Secondary here, Primary on beta.
pub(crate) fn healthy(name: &str) -> ResourceStatus {
    ResourceStatus {
        suspended: rbd_protocol::control::Suspended::default(),
        name: name.to_owned(),
        node_id: NodeId(0),
        role: Role::Secondary,
        tenure: 9,
        devices: vec![DeviceStatus {
            volume: VolumeNumber(0),
            minor: Some(1),
            disk_state: DiskState::UpToDate,
            disk_note: String::new(),
            backing_disk: Some("/dev/sda".to_owned()),
            open_count: 0,
            size_bytes: 1 << 20,
            read_bytes: 0,
            written_bytes: 0,
            intent_writes: 0,
            bitmap_writes: 0,
            upper_pending: 0,
            lower_pending: 0,
            hot_regions: 0,
            current_generation: GenerationId(0xF00D),
            write_cache: None,
        }],
        connections: vec![ConnectionStatus {
            peer_node_id: NodeId(1),
            name: "beta".to_owned(),
            connection_state: ConnectionState::Connected,
            note: String::new(),
            is_refused: false,
            since_ms: 1000,
            peer_role: Role::Primary,
            application_in_flight_bytes: 0,
            resync_in_flight_bytes: 0,
            local_address: "127.0.0.1:7001".to_owned(),
            peer_address: "127.0.0.1:7002".to_owned(),
            peer_devices: vec![PeerDeviceStatus {
                volume: VolumeNumber(0),
                replication_state: ReplicationState::Established,
                peer_disk_state: DiskState::UpToDate,
                received_bytes: 0,
                sent_bytes: 0,
                out_of_sync_bytes: 0,
                pending: 0,
                unacknowledged: 0,
                bitmap_generation: GenerationId::NONE,
                resync: None,
                resync_suspended: rbd_protocol::control::Pauses::default(),
                verify: None,
            }],
            refused: None,
            tentative: None,
            peer_tenure: 0,
            split: SplitPolicies::default(),
            resync_conflict: ResyncConflict::default(),
            two_primaries: TwoPrimaries::default(),
        }],
    }
}

/// Answers a status request from what is up.
pub(crate) fn status_of(up: &[ResourceStatus], request: &Request) -> Reply {
    let Request::Status { resource } = request else {
        return Reply::Done;
    };
    let wanted = |one: &&ResourceStatus| resource.as_ref().is_none_or(|name| *name == one.name);
    Reply::Status(up.iter().filter(wanted).cloned().collect())
}

/// Whether the file holds only zeroes.
pub(crate) fn is_blank(path: &Path) -> bool {
    std::fs::read(path).unwrap().iter().all(|byte| *byte == 0)
}
