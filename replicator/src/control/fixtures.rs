//! What unit tests of the control plane share: a resource of one volume, and who has it.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use rbd_protocol::control::{
    DiskTrouble, KernelExport, MetaDisk, NbdExport, ResourceConfig, ResourceOptions, VolumeConfig,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use tokio::sync::mpsc;

use super::daemon::Daemon;
use super::disk::FormerSizes;
use super::handlers::{Handlers, Surroundings};
use super::kernel::KernelDevices;
use super::links::Links;
use super::remembered::Remembered;
use super::service::Service;
use crate::messages::ToResource;
use crate::shell;

/// A node that keeps everything in one directory.
pub(super) fn surroundings(directory: &Path) -> Surroundings {
    Surroundings {
        config: PathBuf::from("/dev/null"),
        node: "alpha".to_owned(),
        run_dir: directory.to_owned(),
        state_dir: directory.to_owned(),
        deadline: Duration::from_secs(1),
    }
}

/// A daemon there, which hears of nothing.
pub(super) fn daemon(directory: &Path) -> Rc<Daemon> {
    let (notices, _heard) = mpsc::unbounded_channel();
    let remembered = Remembered::open(directory).unwrap();
    Rc::new(Daemon::new(surroundings(directory), notices, remembered))
}

/// Gives the daemon a resource whose messages are taken with what is returned, or by nobody.
pub(super) fn add_without_thread(
    daemon: &Daemon,
    directory: &Path,
    name: &str,
) -> impl Fn() -> Option<ToResource> + use<> {
    let (handle, take) = shell::without_thread();
    let config = config(name);
    let surroundings = Rc::new(surroundings(directory));
    let links = Links::new(&config, None, Box::new(|_, _, _| {}));
    let handlers = Handlers::new(Rc::clone(&surroundings));
    let kernel = KernelDevices::new(surroundings);
    let sizes = FormerSizes::below(directory);
    let service = Service::new(config, handle, (links, handlers, kernel), sizes);
    daemon.add(Rc::new(service));
    take
}

fn config(name: &str) -> ResourceConfig {
    ResourceConfig {
        name: name.to_owned(),
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
