//! A whole thread, as the control plane sees it.

use rbd_engine::{Command, Seed};
use rbd_protocol::control::{MetaDisk, ResourceConfig, ResourceOptions, VolumeConfig};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::super::{Gone, ResourceHandle, probe, spawn};
use super::Deadline;
use crate::messages::{FromResource, ToResource};

type NoticeReceiver = UnboundedReceiver<(String, FromResource)>;

fn start() -> (ResourceHandle, NoticeReceiver) {
    start_with(Vec::new())
}

fn start_with(volumes: Vec<VolumeConfig>) -> (ResourceHandle, NoticeReceiver) {
    let config = ResourceConfig {
        name: "r0".into(),
        defined_at: "test:1".into(),
        config_path: "test".into(),
        node_name: "alice".into(),
        node_id: NodeId(0),
        listen: None,
        peers: Vec::new(),
        volumes,
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    };
    let (sender, receiver) = unbounded_channel();
    let seed = Seed {
        random: 1,
        boot: 2,
        unix_start: 0,
    };
    let run = std::path::Path::new("/nonexistent");
    (
        spawn("r0".into(), config, seed, (run, run), sender).unwrap(),
        receiver,
    )
}

/// The last thing the thread says.
fn last_notice(notices: &mut NoticeReceiver) -> FromResource {
    let mut last = None;
    while let Some((name, notice)) = notices.blocking_recv() {
        assert_eq!(name, "r0");
        last = Some(notice);
    }
    last.expect("an end is told")
}

#[test]
fn this_machine_has_what_is_needed() {
    probe().unwrap();
}

#[test]
fn a_resource_answers_and_ends_when_told() {
    let (handle, mut notices) = start();
    let (reply, answer) = oneshot::channel();
    handle.send(ToResource::Status { reply }).unwrap();
    assert_eq!(answer.blocking_recv().unwrap().name, "r0");
    handle.send(ToResource::Shutdown).unwrap();
    handle.join();
    assert_eq!(handle.send(ToResource::Shutdown), Err(Gone));
    assert!(matches!(
        last_notice(&mut notices),
        FromResource::Stopped { .. }
    ));
}

#[test]
fn a_resource_nobody_can_reach_any_more_ends() {
    let (handle, mut notices) = start();
    drop(handle.clone());
    drop(handle);
    assert!(matches!(
        last_notice(&mut notices),
        FromResource::Stopped { .. }
    ));
}

#[test]
fn a_resource_without_any_disk_stops_when_asked() {
    let volume = VolumeConfig {
        number: VolumeNumber(0),
        device: "/dev/drbd0".into(),
        minor: None,
        disk: None,
        meta_disk: MetaDisk::Internal,
        size_limit_bytes: None,
        exports: Vec::new(),
        kernel: rbd_protocol::control::KernelExport::None,
        resync: Vec::new(),
        on_disk_trouble: rbd_protocol::control::DiskTrouble::default(),
        resync_after: None,
    };
    for volumes in [Vec::new(), vec![volume]] {
        let (handle, mut notices) = start_with(volumes);
        let (reply, mut answer) = oneshot::channel();
        let command = Command::Stop;
        handle.send(ToResource::Command { command, reply }).unwrap();
        let deadline = Deadline::new();
        let answer = loop {
            deadline.check();
            match answer.try_recv() {
                Err(TryRecvError::Empty) => std::thread::yield_now(),
                other => break other,
            }
        };
        assert_eq!(answer, Ok(Ok(None)));
        assert!(matches!(
            last_notice(&mut notices),
            FromResource::Stopped { .. }
        ));
    }
}
