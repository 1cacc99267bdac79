//! Resyncs of one node that wait for each other (`resync-after`).

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

#[expect(dead_code, reason = "each test program uses its part of the support")]
mod support;

use rbd_protocol::control::{
    PeerDeviceStatus, RefusalCode, Reply, Request, ResourceConfig, ResourceStatus,
};
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::state::{DiskState, ReplicationState};
use support::{Node, config, free_address};

/// Two nodes with two resources, of which `r1` follows `r0` on alpha.
struct Pair {
    alpha: Node,
    beta: Node,
}

impl Pair {
    fn connected() -> (Self, [ResourceConfig; 2]) {
        let addresses = [(); 2].map(|()| [free_address(), free_address()]);
        let pair = Self {
            alpha: Node::start("alpha"),
            beta: Node::start("beta"),
        };
        let of_alpha = [0, 1].map(|resource| {
            let [alpha, beta] = [&pair.alpha, &pair.beta].map(|node| {
                let config = named(config(node, &addresses[resource]), resource, node);
                node.create_disk(&config);
                config
            });
            pair.beta.must(&Request::Up(beta));
            alpha
        });
        let [first, mut second] = of_alpha;
        second.volumes[0].resync_after = after("r0");
        pair.alpha.must(&Request::Up(second.clone()));
        pair.alpha.must(&Request::Up(first.clone()));
        for name in ["r0", "r1"] {
            pair.alpha.await_status(name, "connected", |status| {
                device(status).peer_disk_state == DiskState::Inconsistent
            });
        }
        (pair, [first, second])
    }

    /// The first resource of alpha has everything to give, and does not.
    fn hold_first(&self) {
        self.pause("r0", true);
        self.begin("r0");
        self.await_paused("r0");
    }

    fn pause(&self, resource: &str, paused: bool) {
        self.alpha.must(&pause(resource, paused));
    }

    fn begin(&self, resource: &str) {
        self.alpha.must(&Request::Promote {
            resource: resource.to_owned(),
            force: true,
        });
    }

    fn await_paused(&self, resource: &str) {
        self.alpha.await_status(resource, "paused", |status| {
            device(status).replication_state == ReplicationState::PausedSyncS
        });
    }

    fn await_done(&self, resource: &str) {
        self.alpha.await_status(resource, "in sync", |status| {
            device(status).peer_disk_state == DiskState::UpToDate
        });
    }

    fn await_told(&self, waits: bool) {
        self.alpha.await_status("r1", "told", |status| {
            device(status).resync_suspended.dependency == waits
        });
    }
}

fn named(mut config: ResourceConfig, index: usize, node: &Node) -> ResourceConfig {
    let volume = &mut config.volumes[0];
    volume.minor = Some(u32::try_from(index).unwrap() + 1);
    volume.device = format!("/dev/drbd{}", index + 1);
    let disk = node.path(&format!("disk{index}"));
    volume.disk = Some(disk.to_str().unwrap().to_owned());
    config.name = format!("r{index}");
    config
}

fn after(resource: &str) -> Option<(String, VolumeNumber)> {
    Some((resource.to_owned(), VolumeNumber(0)))
}

fn pause(resource: &str, paused: bool) -> Request {
    Request::PauseSync {
        resource: resource.to_owned(),
        volume: None,
        peer: None,
        paused,
    }
}

fn device(status: &ResourceStatus) -> &PeerDeviceStatus {
    &status.connections[0].peer_devices[0]
}

#[test]
fn a_resync_waits_until_the_one_before_it_has_ended() {
    let (pair, _) = Pair::connected();
    pair.hold_first();
    pair.await_told(true);
    pair.begin("r1");
    pair.await_paused("r1");
    let status = pair.alpha.status("r1").unwrap();
    let lacking = device(&status).out_of_sync_bytes;
    assert_eq!(lacking, status.devices[0].size_bytes, "nothing is copied");
    let refused = pair.alpha.ask(&pause("r1", false));
    let Reply::Refused(refusal) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal.code, RefusalCode::PausedByDependency);
    pair.pause("r0", false);
    pair.await_done("r0");
    pair.await_done("r1");
    pair.await_told(false);
}

#[test]
fn a_resync_goes_on_when_it_no_longer_follows_or_the_other_is_down() {
    let (pair, [_, mut second]) = Pair::connected();
    pair.hold_first();
    pair.await_told(true);
    second.volumes[0].resync_after = None;
    pair.alpha.must(&Request::Adjust(second.clone()));
    pair.await_told(false);
    second.volumes[0].resync_after = after("r0");
    pair.alpha.must(&Request::Adjust(second));
    pair.await_told(true);
    pair.begin("r1");
    pair.await_paused("r1");
    let resource = String::from("r0");
    pair.alpha.must(&Request::Demote {
        resource: resource.clone(),
        force: false,
    });
    pair.alpha.must(&Request::Down { resource });
    pair.await_done("r1");
}

#[test]
fn volumes_that_would_wait_for_each_other_are_refused() {
    let (pair, [mut first, _]) = Pair::connected();
    for (request, circle) in [("r1", "r0/0, r1/0, r0/0"), ("r0", "r0/0, r0/0")] {
        first.volumes[0].resync_after = after(request);
        let refused = pair.alpha.ask(&Request::Adjust(first.clone()));
        let Reply::Refused(refusal) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(refusal.code, RefusalCode::ResyncAfterCycle);
        assert!(refusal.reason.ends_with(circle), "{refusal:?}");
    }
    first.volumes[0].resync_after = after("nobody");
    pair.alpha.must(&Request::Adjust(first));
}
