//! What clients are offered while a resource does not answer.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use rbd_protocol::control::{
    DiskTrouble, KernelExport, MetaDisk, NbdExport, ResourceConfig, ResourceOptions, VolumeConfig,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::nbd::Exports;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::exports::{Door, Snapshot};
use crate::control::daemon::Daemon;
use crate::control::disk::FormerSizes;
use crate::control::handlers::{Handlers, Surroundings};
use crate::control::kernel::KernelDevices;
use crate::control::links::Links;
use crate::control::remembered::Remembered;
use crate::control::service::Service;
use crate::shell;

fn config() -> ResourceConfig {
    ResourceConfig {
        name: "r0".to_owned(),
        defined_at: "r0.res:1".to_owned(),
        config_path: "/dev/null".to_owned(),
        node_name: "alpha".to_owned(),
        node_id: NodeId(0),
        listen: None,
        peers: Vec::new(),
        volumes: vec![VolumeConfig {
            number: VolumeNumber(0),
            device: "/dev/drbd0".to_owned(),
            minor: None,
            disk: None,
            meta_disk: MetaDisk::Internal,
            size_limit_bytes: None,
            exports: vec![NbdExport::Unix],
            kernel: KernelExport::None,
            resync: Vec::new(),
            on_disk_trouble: DiskTrouble::default(),
            resync_after: None,
        }],
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}

#[test]
fn a_resource_that_does_not_answer_leaves_clients_of_others_time_to_negotiate() {
    let directory = tempfile::tempdir().unwrap();
    let surroundings = Surroundings {
        config: PathBuf::from("/dev/null"),
        node: "alpha".to_owned(),
        run_dir: directory.path().to_owned(),
        state_dir: directory.path().to_owned(),
        deadline: Duration::from_secs(1),
    };
    let (notices, _heard) = mpsc::unbounded_channel();
    let remembered = Remembered::open(directory.path()).unwrap();
    let daemon = Daemon::new(surroundings.clone(), notices, remembered);
    let surroundings = Rc::new(surroundings);
    let (handle, _deaf) = shell::deaf();
    let links = Links::new(&config(), None, Box::new(|_, _, _| {}));
    let handlers = Handlers::new(Rc::clone(&surroundings));
    let kernel = KernelDevices::new(surroundings);
    let sizes = FormerSizes::below(directory.path());
    let service = Service::new(config(), handle, (links, handlers, kernel), sizes);
    daemon.add(Rc::new(service));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let start = Instant::now();
        // As often as the exports are looked at for one client.
        for _ in 0..3 {
            let exports = Snapshot::take(&daemon, Door::Unix).await;
            let [(_, told)] = &exports.list()[..] else {
                panic!("one export")
            };
            assert!(told.contains("did not answer"), "{told}");
        }
        // On a clock that goes on as soon as nothing else does: once long, then not any more.
        assert!(start.elapsed() < Duration::from_secs(8));
    });
}
