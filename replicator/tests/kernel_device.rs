//! Volumes that are to be kernel block devices, on a machine whose kernel has none. Where it has
//! them these tests have nothing to say: `tests/lab` does.

#[expect(dead_code, reason = "each test program uses its part of the support")]
mod support;

use std::path::Path;

use rbd_protocol::control::{KernelExport, RefusalCode, Reply, Request};
use rbd_protocol::state::Role;
use support::{Node, config, free_address};

fn up(kernel: KernelExport) -> Option<Node> {
    if Path::new("/dev/ublk-control").exists() {
        eprintln!("skipped: this kernel has ublk");
        return None;
    }
    let node = Node::start("alpha");
    let mut config = config(&node, &[free_address(), free_address()]);
    config.volumes[0].kernel = kernel;
    node.create_disk(&config);
    node.must(&Request::Up(config));
    Some(node)
}

fn promote() -> Request {
    Request::Promote {
        resource: "r0".to_owned(),
        force: true,
    }
}

fn role(node: &Node) -> Role {
    node.status("r0").expect("it is up").role
}

#[test]
fn a_volume_that_insists_on_a_kernel_device_is_not_promoted_without_one() {
    let Some(node) = up(KernelExport::Ublk) else {
        return;
    };
    let Reply::Refused(refusal) = node.ask(&promote()) else {
        panic!("promoted; log:\n{}", node.log());
    };
    assert_eq!(refusal.code, RefusalCode::Environment);
    let reason = "r0/0: no kernel device: /dev/ublk-control does not exist; \
                  load the kernel's module: modprobe ublk_drv";
    assert_eq!(refusal.reason, reason);
    assert_eq!(role(&node), Role::Secondary);
}

#[test]
fn a_volume_that_does_not_insist_goes_without() {
    for kernel in [KernelExport::Auto, KernelExport::None] {
        let Some(mut node) = up(kernel) else { return };
        node.must(&promote());
        assert_eq!(role(&node), Role::Primary);
        // The log is written behind the daemon: all of it is there when that has ended.
        node.end("-TERM");
        let told = node.log().contains("no kernel device: /dev/ublk-control");
        assert_eq!(told, kernel == KernelExport::Auto, "{}", node.log());
    }
}
