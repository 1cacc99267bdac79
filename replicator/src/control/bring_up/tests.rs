//! What was up comes up again, whatever keeps one of it from it.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rbd_protocol::control::{
    DiskTrouble, KernelExport, MetaDisk, NetOptions, PeerConfig, ResourceConfig, ResourceOptions,
    VolumeConfig,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::metadata::{
    Creation, Layout, NodeName, Placement, ResourceName, Superblock, create,
};
use rbd_protocol::state::{ConnectionState, DiskState};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::resume_within;
use crate::control::daemon::Daemon;
use crate::control::handlers::Surroundings;
use crate::control::remembered::{Found, Remembered};
use crate::control::task::Task;

/// A daemon in a directory, of the size of a disk's file below it.
struct Bench {
    directory: tempfile::TempDir,
    daemon: Rc<Daemon>,
    _heeding: Task,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (notices, heard) = mpsc::unbounded_channel();
        let surroundings = Surroundings {
            config: PathBuf::from("/dev/null"),
            node: "alpha".to_owned(),
            run_dir: directory.path().join("run"),
            state_dir: directory.path().join("state"),
            deadline: Duration::from_secs(1),
        };
        let remembered = Remembered::open(&surroundings.run_dir).unwrap();
        let daemon = Rc::new(Daemon::new(surroundings, notices, remembered));
        let heeding = Task::spawn(Rc::clone(&daemon).heed_notices(heard));
        Self {
            directory,
            daemon,
            _heeding: heeding,
        }
    }

    /// A resource that was up, with its disk.
    fn remembered(&self, index: u8) -> Found {
        let name = format!("r{index}");
        let disk = self.directory.path().join(&name);
        create_disk(&disk, &name);
        let address = |host: u8| format!("127.0.0.{host}:{}", 7700 + u16::from(index));
        Found::Config(Box::new(ResourceConfig {
            name,
            defined_at: "r.res:1".to_owned(),
            config_path: "/dev/null".to_owned(),
            node_name: "alpha".to_owned(),
            node_id: NodeId(0),
            listen: Some(address(211)),
            peers: vec![PeerConfig {
                name: "beta".to_owned(),
                node_id: NodeId(1),
                address: address(212),
                net: NetOptions::default(),
            }],
            volumes: vec![VolumeConfig {
                number: VolumeNumber(0),
                device: format!("/dev/drbd{index}"),
                minor: Some(u32::from(index)),
                disk: Some(disk.to_str().unwrap().to_owned()),
                meta_disk: MetaDisk::Internal,
                size_limit_bytes: None,
                exports: Vec::new(),
                kernel: KernelExport::None,
                resync: Vec::new(),
                on_disk_trouble: DiskTrouble::default(),
                resync_after: None,
            }],
            options: ResourceOptions::default(),
            handlers: Vec::new(),
        }))
    }

    /// Lets nobody read what is remembered of the resource's disk until this is dropped: opening
    /// the disk waits for it, as for a disk that does not answer.
    fn hang(&self, resource: &str) -> Hang {
        let sizes = self.directory.path().join("state/disk-sizes");
        std::fs::create_dir_all(&sizes).unwrap();
        let pipe = sizes.join(format!("{resource}.0"));
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        Hang(pipe)
    }

    async fn is_up(&self, resource: &str) -> bool {
        let Some(service) = self.daemon.find(resource) else {
            return false;
        };
        service.status().await.is_ok_and(|status| {
            status.devices[0].disk_state != DiskState::Diskless
                && status.connections[0].connection_state == ConnectionState::Connecting
        })
    }

    async fn await_up(&self, resource: &str) {
        let start = Instant::now();
        while !self.is_up(resource).await {
            assert!(start.elapsed() < PATIENCE, "{resource} is not up");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A pipe nobody writes to.
struct Hang(PathBuf);

impl Hang {
    /// Whoever waits for this to be opened finds its end, as soon as he waits.
    async fn end(self) {
        let start = Instant::now();
        while !self.let_go() {
            assert!(start.elapsed() < PATIENCE, "nobody waits");
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether somebody waited.
    fn let_go(&self) -> bool {
        rustix::fs::open(&self.0, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty()).is_ok()
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        self.let_go();
        let _removed = std::fs::remove_file(&self.0);
    }
}

fn create_disk(path: &Path, resource: &str) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(DISK_BYTES).unwrap();
    let layout = Layout::new(DISK_BYTES, Placement::Internal, 1, None).unwrap();
    let creation = Creation {
        resource: ResourceName::new(resource).unwrap(),
        node: NodeName::new("alpha").unwrap(),
        node_id: NodeId(0),
        volume: VolumeNumber(0),
        device_id: 1,
        created_at: 0,
    };
    for write in create(&Superblock::new(creation, &layout), &layout) {
        use std::os::unix::fs::FileExt as _;
        file.write_all_at(&write.block[..], write.offset).unwrap();
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_disk_that_does_not_answer_keeps_no_other_resource_from_coming_up_again() {
    run(async {
        let bench = Bench::new();
        let found = vec![bench.remembered(0), bench.remembered(1)];
        let hang = bench.hang("r0");
        let daemon = Rc::clone(&bench.daemon);
        let _resuming = Task::spawn(async move { resume_within(PATIENCE, &daemon, found).await });
        bench.await_up("r1").await;
        assert!(!bench.is_up("r0").await);
        hang.end().await;
    });
}

#[test]
fn a_resource_whose_disk_answers_late_comes_up_with_its_link_all_the_same() {
    run(async {
        let bench = Bench::new();
        let found = vec![bench.remembered(2)];
        bench.daemon.will_resume(&found);
        let hang = bench.hang("r2");
        resume_within(Duration::from_millis(100), &bench.daemon, found).await;
        // Commands are not kept waiting any longer, and whoever is told READY is.
        bench.daemon.resumed("r2").await;
        assert!(!bench.is_up("r2").await);
        hang.end().await;
        bench.await_up("r2").await;
    });
}

#[test]
fn nothing_comes_up_any_more_when_the_daemon_stops() {
    run(async {
        let bench = Bench::new();
        let found = vec![bench.remembered(3)];
        let hang = bench.hang("r3");
        resume_within(Duration::from_millis(100), &bench.daemon, found).await;
        bench.daemon.will_stop();
        hang.end().await;
        // Whoever changes the resource has its lock until he is done.
        let gate = bench.daemon.gate("r3");
        let _done = tokio::time::timeout(PATIENCE, gate.lock()).await.unwrap();
        assert!(bench.daemon.all().is_empty());
    });
}

const DISK_BYTES: u64 = 16 << 20;

const PATIENCE: Duration = Duration::from_secs(20);
