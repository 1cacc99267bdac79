//! Resources come up, down and up again, and what is wrong with one is said by name.

#[expect(dead_code, reason = "each test program uses its part of the support")]
mod support;

use std::io::Write as _;
use std::net::TcpListener;

use rbd_protocol::control::{
    NbdExport, Refusal, RefusalCode, Reply, Request, ResourceConfig, frame,
};
use rbd_protocol::ids::NodeId;
use support::{Node, config, free_address, until};

fn alpha() -> (Node, ResourceConfig) {
    let node = Node::start("alpha");
    let config = config(&node, &[free_address(), free_address()]);
    node.create_disk(&config);
    (node, config)
}

fn refusal(node: &Node, request: &Request) -> Refusal {
    match node.ask(request) {
        Reply::Refused(refusal) => refusal,
        other => panic!("{other:?}; log:\n{}", node.log()),
    }
}

fn refused_up(node: &Node, config: &ResourceConfig) -> Refusal {
    let refusal = refusal(node, &Request::Up(config.clone()));
    assert_eq!(node.status(&config.name), None, "something stayed");
    assert!(!node.run_dir().join("resources").join(&config.name).exists());
    refusal
}

fn down(config: &ResourceConfig) -> Request {
    Request::Down {
        resource: config.name.clone(),
    }
}

#[test]
fn up_and_down_are_idempotent() {
    let (node, config) = alpha();
    for _ in 0..2 {
        node.must(&Request::Up(config.clone()));
        let status = node.status("r0").unwrap();
        assert_eq!(status.devices.len(), 1);
        assert_eq!(status.connections[0].name, "beta");
        assert_eq!(status.connections[0].peer_address, config.peers[0].address);
    }
    for _ in 0..2 {
        node.must(&down(&config));
        assert_eq!(node.status("r0"), None);
    }
    node.must(&Request::Up(config));
}

#[test]
fn a_resource_that_is_not_up_cannot_be_told_anything() {
    let node = Node::start("alpha");
    let request = Request::Promote {
        resource: "r0".to_owned(),
        force: false,
    };
    let refusal = refusal(&node, &request);
    assert_eq!(refusal.code, RefusalCode::UnknownResource);
    assert_eq!(refusal.reason, "r0 is not up on alpha");
    assert_eq!(refusal.help, "rbdadm up r0");
}

#[test]
fn what_was_up_is_up_again_after_a_crash_and_after_a_restart() {
    let (mut node, config) = alpha();
    node.must(&Request::Up(config.clone()));
    for signal in ["-KILL", "-TERM"] {
        node.end(signal);
        node.run();
        node.await_status("r0", "up again", |_| true);
    }
    node.must(&down(&config));
    node.end("-TERM");
    node.run();
    assert_eq!(node.status("r0"), None);
}

#[test]
fn disks_that_cannot_be_used_are_refused_by_name() {
    let (node, good) = alpha();
    let with_disk = |path: &str| {
        let mut config = good.clone();
        config.volumes[0].disk = Some(path.to_owned());
        config
    };
    let missing = refused_up(&node, &with_disk("/nonexistent/disk"));
    assert_eq!(missing.code, RefusalCode::CannotOpenDisk);
    assert!(missing.reason.contains("/nonexistent/disk"));
    assert!(missing.reason.contains("No such file"), "{missing:?}");

    let directory = refused_up(&node, &with_disk("/"));
    assert_eq!(directory.code, RefusalCode::CannotOpenDisk);

    let blank = node.path("blank");
    std::fs::write(&blank, vec![0; 1 << 20]).unwrap();
    let blank = refused_up(&node, &with_disk(blank.to_str().unwrap()));
    assert_eq!(blank.code, RefusalCode::NoMetaData);
    assert!(blank.help.contains("rbdadm create-md r0"), "{blank:?}");

    let tiny = node.path("tiny");
    std::fs::write(&tiny, b"tiny").unwrap();
    let tiny = refused_up(&node, &with_disk(tiny.to_str().unwrap()));
    assert_eq!(tiny.code, RefusalCode::DiskTooSmall);

    node.must(&Request::Up(good));
}

#[test]
fn metadata_of_another_resource_or_node_is_refused_naming_both() {
    let (node, good) = alpha();
    let mut other = good.clone();
    other.name = "r1".to_owned();
    let refusal = refused_up(&node, &other);
    assert_eq!(refusal.code, RefusalCode::ForeignMetaData);
    assert!(refusal.reason.contains("\"r0\"") && refusal.reason.contains("\"r1\""));

    let mut other = good;
    other.node_id = NodeId(7);
    let refusal = refused_up(&node, &other);
    assert_eq!(refusal.code, RefusalCode::ForeignMetaData);
    assert!(refusal.reason.contains('7'), "{refusal:?}");
}

#[test]
fn a_disk_in_use_is_refused_naming_its_user() {
    let (node, config) = alpha();
    let mut other_node = Node::start("alpha");
    other_node.must(&Request::Up(config.clone()));
    let refusal = refused_up(&node, &config);
    assert_eq!(refusal.code, RefusalCode::DiskInUse);
    let holder = format!("process {}", other_node.pid());
    assert!(refusal.reason.contains(&holder), "{refusal:?}");
    other_node.end("-KILL");
    node.must(&Request::Up(config));
}

#[test]
fn an_address_in_use_is_refused_and_the_disk_is_free_afterwards() {
    let (node, mut config) = alpha();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    config.listen = Some(address.clone());
    let refusal = refused_up(&node, &config);
    assert_eq!(refusal.code, RefusalCode::LocalAddressInUse);
    assert!(refusal.reason.contains(&address));
    drop(listener);
    node.must(&Request::Up(config));
}

#[test]
fn two_resources_do_not_share_an_address_or_a_disk() {
    let (node, first) = alpha();
    node.must(&Request::Up(first.clone()));
    let mut second = first;
    second.name = "r1".to_owned();
    second.volumes[0].minor = Some(2);
    let refusal = refused_up(&node, &second);
    assert_eq!(refusal.code, RefusalCode::LocalAddressInUse);
    assert!(
        refusal.reason.starts_with("r0 already listens"),
        "{refusal:?}"
    );

    second.listen = Some(free_address());
    let refusal = refused_up(&node, &second);
    assert_eq!(refusal.code, RefusalCode::DiskInUse);
    assert!(refusal.reason.ends_with("is used by r0/0"), "{refusal:?}");

    second.volumes[0].minor = Some(1);
    assert_eq!(refused_up(&node, &second).code, RefusalCode::InvalidRequest);
}

#[test]
fn a_disk_on_a_file_system_that_does_not_answer_keeps_no_other_resource_down() {
    let mut node = Node::prepare("alpha");
    let hung = node.path("hung");
    std::fs::create_dir(&hung).unwrap();
    let hung = hung.to_str().unwrap().to_owned();
    let starts = |program: &[&str]| {
        let mut command = std::process::Command::new(program[0]);
        let status = command.args(&program[1..]).arg("true").status();
        status.is_ok_and(|status| status.success())
    };
    let under_it = ["python3", "-c", HUNG_FILE_SYSTEM, &hung];
    if !starts(&under_it) {
        eprintln!("skipped: no python3, or no file system of its own for a process here");
        return;
    }
    node.run_under(&under_it);
    node.run();
    let mut waits = config(&node, &[free_address(), free_address()]);
    waits.volumes[0].disk = Some(format!("{hung}/disk"));
    let request = frame::encode(&Request::Up(waits.clone())).unwrap();
    let mut waiting = node.socket();
    waiting.write_all(&request).unwrap();
    // It has claimed its disk by then, and looks for it.
    std::thread::sleep(std::time::Duration::from_millis(500));

    let mut other = config(&node, &[free_address(), free_address()]);
    other.name = "r1".to_owned();
    other.volumes[0].minor = Some(2);
    node.create_disk(&other);
    node.must(&Request::Up(other));
    assert!(node.status("r1").is_some());
}

#[test]
fn configurations_it_cannot_serve_are_refused() {
    let (node, good) = alpha();
    let mut three = good.clone();
    three.peers.push(three.peers[0].clone());
    let refusal = refused_up(&node, &three);
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    assert!(refusal.reason.contains("replicates between two nodes"));

    let mut elsewhere = good.clone();
    elsewhere.node_name = "gamma".to_owned();
    assert!(
        refused_up(&node, &elsewhere)
            .reason
            .contains("this daemon serves node alpha")
    );

    let mut hostile = good.clone();
    hostile.name = "../escape".to_owned();
    assert_eq!(
        refused_up(&node, &hostile).code,
        RefusalCode::InvalidRequest
    );

    let mut nowhere = good;
    nowhere.peers[0].address = "beta:7789".to_owned();
    assert!(refused_up(&node, &nowhere).reason.contains("beta:7789"));
}

#[test]
fn adjust_changes_what_can_change_and_names_what_cannot() {
    let (node, good) = alpha();
    node.must(&Request::Adjust(good.clone()));
    node.must(&Request::Adjust(good.clone()));

    let mut changed = good;
    changed.listen = Some(free_address());
    changed.peers[0].address = free_address();
    changed.peers[0].net.ping_interval_ms = 500;
    changed.volumes[0]
        .exports
        .push(NbdExport::Tcp(free_address()));
    node.must(&Request::Adjust(changed.clone()));
    let status = node.status("r0").unwrap();
    assert_eq!(status.connections[0].peer_address, changed.peers[0].address);
    let NbdExport::Tcp(export) = &changed.volumes[0].exports[1] else {
        unreachable!()
    };
    for address in [changed.listen.as_ref().unwrap(), export] {
        std::net::TcpStream::connect(address).unwrap();
    }

    let mut other_disk = changed.clone();
    other_disk.volumes[0].disk = Some("/dev/other".to_owned());
    let refusal = refusal(&node, &Request::Adjust(other_disk));
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    assert!(refusal.reason.contains("disk of volume 0"), "{refusal:?}");
    assert!(refusal.reason.contains("/dev/other"), "{refusal:?}");
    assert_eq!(refusal.help, "rbdadm down r0 && rbdadm up r0");
    node.must(&Request::Adjust(changed));
}

#[test]
fn an_address_clients_are_no_longer_served_on_is_let_go() {
    let (node, good) = alpha();
    let [kept, given_up] = [free_address(), free_address()];
    let with = |exports: &[&String]| {
        let mut config = good.clone();
        let exports = exports.iter().map(|address| (*address).clone());
        config.volumes[0].exports = exports.map(NbdExport::Tcp).collect();
        config
    };
    node.must(&Request::Up(with(&[&kept, &given_up])));
    std::net::TcpStream::connect(&given_up).unwrap();
    node.must(&Request::Adjust(with(&[&kept])));
    assert!(
        until(|| TcpListener::bind(&given_up).is_ok()),
        "still listened on"
    );
    std::net::TcpStream::connect(&kept).unwrap();

    // One that was to come with an adjustment that is refused does not stay either.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let refusal = refusal(&node, &Request::Adjust(with(&[&kept, &given_up, &taken])));
    assert_eq!(refusal.code, RefusalCode::LocalAddressInUse);
    assert!(
        until(|| TcpListener::bind(&given_up).is_ok()),
        "listened on"
    );
    drop(other);
}

#[test]
fn an_unknown_peer_is_refused_naming_those_there_are() {
    let (node, config) = alpha();
    node.must(&Request::Up(config));
    let request = Request::Disconnect {
        resource: "r0".to_owned(),
        peer: Some("gamma".to_owned()),
        force: false,
    };
    assert_eq!(
        refusal(&node, &request).reason,
        "r0 has no peer gamma; its peers: beta"
    );
}

/// Becomes a program for which nobody serves the file system at the place that is named: whoever
/// looks there waits for ever.
const HUNG_FILE_SYSTEM: &str = r"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
NEWNS, NEWUSER = 0x20000, 0x10000000
uid, gid = os.getuid(), os.getgid()
if libc.unshare(NEWUSER | NEWNS):
    sys.exit('no namespaces: %d' % ctypes.get_errno())
open('/proc/self/setgroups', 'w').write('deny')
open('/proc/self/uid_map', 'w').write('0 %d 1' % uid)
open('/proc/self/gid_map', 'w').write('0 %d 1' % gid)
server = os.open('/dev/fuse', os.O_RDWR)
os.set_inheritable(server, True)
how = b'fd=%d,rootmode=40000,user_id=0,group_id=0' % server
if libc.mount(b'fuse', sys.argv[1].encode(), b'fuse', 0, how):
    sys.exit('no mount: %d' % ctypes.get_errno())
os.execvp(sys.argv[2], sys.argv[2:])
";
