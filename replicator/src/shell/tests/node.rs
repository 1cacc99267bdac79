//! A node for tests: a resource's thread on a file of its own, and a client for it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rbd_engine::{AttachedDisk, Command, Seed};
use rbd_protocol::control::{
    MetaDisk, NetOptions, PeerConfig, Refusal, ResourceConfig, ResourceOptions, ResourceStatus,
    VolumeConfig,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    Creation, Layout, Name, OpenInputs, Placement, ReadError, Superblock, create, open,
};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot;

use super::super::{ResourceHandle, spawn};
use super::Deadline;
use super::client::{request, session};
use crate::messages::{DiskFiles, FromResource, ToResource};

const VOLUME: VolumeNumber = VolumeNumber(0);
const FILE_BYTES: u64 = 64 << 20;
const NAMES: [&str; 2] = ["alice", "bob"];

pub(super) struct Node {
    pub(super) handle: ResourceHandle,
    pub(super) notices: UnboundedReceiver<(String, FromResource)>,
    id: usize,
    disk: File,
    path: std::path::PathBuf,
}

impl Node {
    /// A node whose disk has fresh metadata and is attached.
    pub(super) fn new(directory: &TempDir, id: usize) -> Self {
        let path = directory.path().join(NAMES[id]);
        let mut options = OpenOptions::new();
        let disk = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        disk.set_len(FILE_BYTES).unwrap();
        create_metadata(&disk, id);
        Self::start(disk, path, id)
    }

    /// The same node after its thread has ended.
    pub(super) fn restart(self) -> Self {
        Self::start(self.disk, self.path, self.id)
    }

    fn start(disk: File, path: std::path::PathBuf, id: usize) -> Self {
        let (sender, notices) = unbounded_channel();
        let random = 77 + u64::try_from(id).unwrap() + u64::from(std::process::id());
        let seed = Seed {
            random,
            boot: u128::try_from(id).unwrap(),
            unix_start: 0,
        };
        let run = path.parent().unwrap();
        let handle = spawn("r0".into(), config(id), seed, (run, run), sender).unwrap();
        let node = Self {
            handle,
            notices,
            id,
            disk,
            path,
        };
        node.attach();
        node
    }

    fn attach(&self) {
        let mut read = |offset, bytes: &mut [u8]| {
            let failed = |_| ReadError { code: 0 };
            self.disk.read_exact_at(bytes, offset).map_err(failed)
        };
        let inputs = OpenInputs {
            device_bytes: FILE_BYTES,
            placement: Placement::Internal,
            resource: "r0",
            node: NAMES[self.id],
            node_id: node_id(self.id),
            volume: VOLUME,
            accept_older_superblock: false,
        };
        let image = Box::new(open(&mut read, &inputs).unwrap());
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let plain = options.open(&self.path).unwrap();
        let direct = options.custom_flags(libc::O_DIRECT).open(&self.path).ok();
        let files = DiskFiles {
            direct: direct.is_some(),
            data: direct.unwrap_or(plain).into(),
            alignment: 4096,
            block_device: false,
            metadata: None,
            path: self.path.display().to_string(),
        };
        let disk = AttachedDisk::new(image, 4096, rbd_protocol::control::WriteCache::Volatile);
        let (reply, answer) = oneshot::channel();
        let message = ToResource::Attach {
            volume: VOLUME,
            files,
            disk,
            reply,
        };
        self.handle.send(message).unwrap();
        answer.blocking_recv().unwrap().unwrap();
    }

    pub(super) fn command(&self, command: Command) -> Result<Option<String>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.handle
            .send(ToResource::Command { command, reply })
            .unwrap();
        answer.blocking_recv().unwrap()
    }

    pub(super) fn status(&self) -> ResourceStatus {
        let (reply, answer) = oneshot::channel();
        self.handle.send(ToResource::Status { reply }).unwrap();
        answer.blocking_recv().unwrap()
    }

    pub(super) fn wait_for(&self, is_so: impl Fn(&ResourceStatus) -> bool) {
        let deadline = Deadline::new();
        while !is_so(&self.status()) {
            deadline.check();
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A client of the volume, past negotiation.
    pub(super) fn client(&self) -> Client {
        let (theirs, ours) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let message = ToResource::Client {
            volume: VOLUME,
            socket: ours.into(),
            session: session(false),
            leftover: Vec::new(),
        };
        self.handle.send(message).unwrap();
        theirs
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        Client(theirs)
    }

    /// What lies in the data area.
    pub(super) fn data(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(data_bytes()).unwrap()];
        self.disk.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    /// Stops it as `rbdadm down` does.
    pub(super) fn stop(&mut self) {
        self.command(Command::Stop).unwrap();
        self.wait_for_end();
    }

    /// Waits until the thread has ended as it should.
    pub(super) fn wait_for_end(&mut self) {
        let mut last = None;
        while let Some((_, notice)) = self.notices.blocking_recv() {
            last = Some(notice);
        }
        assert!(
            matches!(last, Some(FromResource::Stopped { .. })),
            "{last:?}"
        );
        self.handle.join();
    }
}

/// Links two nodes over TCP and returns what cuts the link.
pub(super) fn link(one: &Node, two: &Node) -> [TcpStream; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut pairs = [(); 2].map(|()| {
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let far = listener.accept().unwrap().0;
        near.set_nonblocking(true).unwrap();
        (near, far)
    });
    let cutters = [0, 1].map(|index| pairs[index].0.try_clone().unwrap());
    for (node, peer) in [(one, two), (two, one)] {
        let command = Command::Connect {
            peer: None,
            discard_my_data: false,
            tentative: false,
        };
        node.command(command).unwrap();
        let take = |pair: &mut (TcpStream, TcpStream)| {
            let side = if node.id == one.id { &pair.0 } else { &pair.1 };
            side.try_clone().unwrap().into()
        };
        let [data, control] = &mut pairs;
        let (data, control) = (take(data), take(control));
        let peer = node_id(peer.id);
        node.handle
            .send(ToResource::Link {
                peer,
                data,
                control,
            })
            .unwrap();
    }
    cutters
}

/// A client that waits for each reply.
pub(super) struct Client(pub(super) UnixStream);

impl Client {
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap();
        self.0.write_all(&request(1, 0, 1, offset, length)).unwrap();
        self.0.write_all(bytes).unwrap();
        assert_eq!(self.reply(), 0);
    }

    pub(super) fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        self.0.write_all(&request(0, 0, 1, offset, length)).unwrap();
        assert_eq!(self.reply(), 0);
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(super) fn flush(&mut self) {
        self.0.write_all(&request(3, 0, 1, 0, 0)).unwrap();
        assert_eq!(self.reply(), 0);
    }

    pub(super) fn zero(&mut self, offset: u64, length: u32) {
        self.0.write_all(&request(6, 1, 1, offset, length)).unwrap();
        assert_eq!(self.reply(), 0);
    }

    /// The error of the next reply.
    pub(super) fn reply(&mut self) -> u32 {
        let mut header = [0; 16];
        self.0.read_exact(&mut header).unwrap();
        u32::from_be_bytes(header[4..8].try_into().unwrap())
    }
}

fn data_bytes() -> u64 {
    layout().data_bytes()
}

fn layout() -> Layout {
    Layout::new(FILE_BYTES, Placement::Internal, 1, None).unwrap()
}

fn create_metadata(disk: &File, id: usize) {
    let creation = Creation {
        resource: Name::new("r0").unwrap(),
        node: Name::new(NAMES[id]).unwrap(),
        node_id: node_id(id),
        volume: VOLUME,
        device_id: 1000 + u64::try_from(id).unwrap(),
        created_at: 0,
    };
    let layout = layout();
    for write in create(&Superblock::new(creation, &layout), &layout) {
        disk.write_all_at(&write.block[..], write.offset).unwrap();
    }
    disk.sync_all().unwrap();
}

fn node_id(id: usize) -> NodeId {
    NodeId(u8::try_from(id).unwrap())
}

fn config(id: usize) -> ResourceConfig {
    let other = 1 - id;
    ResourceConfig {
        name: "r0".into(),
        defined_at: "test:1".into(),
        config_path: "test".into(),
        node_name: NAMES[id].into(),
        node_id: node_id(id),
        listen: None,
        peers: vec![PeerConfig {
            name: NAMES[other].into(),
            node_id: node_id(other),
            address: "127.0.0.1:1".into(),
            net: NetOptions::default(),
        }],
        volumes: vec![VolumeConfig {
            number: VOLUME,
            device: "/dev/drbd0".into(),
            minor: Some(0),
            disk: None,
            meta_disk: MetaDisk::Internal,
            size_limit_bytes: None,
            exports: Vec::new(),
            kernel: rbd_protocol::control::KernelExport::None,
            resync: Vec::new(),
            on_disk_trouble: rbd_protocol::control::DiskTrouble::default(),
            resync_after: None,
        }],
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}
