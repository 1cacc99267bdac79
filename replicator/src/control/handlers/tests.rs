//! Handlers that do what handlers do: answer, crash, hang, talk too much.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rbd_engine::{Handler, HandlerFacts, HandlerResult};
use rbd_protocol::control::{
    MetaDisk, NetOptions, PeerConfig, ResourceConfig, ResourceOptions, VolumeConfig,
};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::state::ConnectionState;

use super::output::{LONGEST_LINE, Lines, MOST_LINES};
use super::{Handlers, Surroundings};
use crate::messages::HandlerRun;

#[test]
fn the_exit_code_is_the_answer() {
    assert_eq!(run("exit 4", LONG), HandlerResult::Exited(4));
    assert_eq!(run("true", LONG), HandlerResult::Exited(0));
}

#[test]
fn a_handler_that_is_killed_has_not_answered() {
    assert_eq!(run("kill -9 $$", LONG), HandlerResult::Failed);
}

#[test]
fn a_command_that_is_not_there_is_an_unclear_answer() {
    let result = run("/nonexistent/handler", LONG);
    assert_eq!(result, HandlerResult::Exited(127));
}

#[test]
fn a_hanging_handler_is_killed_with_all_its_children() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pid");
    let command = format!("sleep 1000 & echo $! > {}; wait", file.display());
    assert_eq!(run(&command, SHORT), HandlerResult::Failed);
    let child = std::fs::read_to_string(&file).expect("it was written");
    let (child, until) = (child.trim(), Instant::now() + LONG);
    while !is_gone(child) {
        assert!(Instant::now() < until, "process {child} lives on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_closed_resource_kills_its_handlers() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("pid");
    let command = format!("echo $$ > {}; sleep 1000", file.display());
    on_this_thread(async {
        let handlers = handlers(LONG);
        handlers.run(&config(&command), fence(), |_| panic!("nobody is told"));
        while std::fs::read_to_string(&file)
            .unwrap_or_default()
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        handlers.close();
        tokio::task::yield_now().await;
        let shell = std::fs::read_to_string(&file).expect("it was written");
        while !is_gone(shell.trim()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn what_is_left_in_the_background_does_not_delay_the_answer() {
    assert_eq!(run("sleep 30 & exit 5", LONG), HandlerResult::Exited(5));
}

#[test]
fn a_flood_of_output_does_not_stop_a_handler() {
    let flood = "yes | head -c 3000000; yes no | head -c 3000000 >&2; exit 7";
    assert_eq!(run(flood, LONG), HandlerResult::Exited(7));
}

#[test]
fn a_handler_that_reads_finds_no_input() {
    assert_eq!(run("cat; exit 3", LONG), HandlerResult::Exited(3));
}

#[test]
fn the_environment_is_what_scripts_for_drbd_expect() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("environment");
    let command = format!("env > {}", file.display());
    assert_eq!(run(&command, LONG), HandlerResult::Exited(0));
    let text = std::fs::read_to_string(&file).expect("it was written");
    let lines: Vec<&str> = text.lines().collect();
    for expected in [
        "RBD_CONFIG=/etc/rbd.conf",
        "RBD_NODE=alpha",
        "RBD_RUN_DIR=/run/rbd",
        "RBD_STATE_DIR=/var/lib/rbd",
        "RBD_HANDLER=fence-peer",
        "DRBD_CONF=/etc/rbd.conf",
        "DRBD_RESOURCE=r0",
        "DRBD_MY_NODE_ID=0",
        "DRBD_NODE_ID_0=alpha",
        "DRBD_NODE_ID_1=bravo",
        "DRBD_PEER_NODE_ID=1",
        "DRBD_PEER=bravo",
        "DRBD_PEERS=bravo",
        "DRBD_MY_AF=ipv4",
        "DRBD_MY_ADDRESS=10.0.0.1",
        "DRBD_PEER_AF=ipv6",
        "DRBD_PEER_ADDRESS=fd00::2",
        "DRBD_CSTATE=NetworkFailure",
        "UP_TO_DATE_NODES=0x00000001",
        "DRBD_VOLUME=0 1",
        "DRBD_MINOR=10 11",
        "DRBD_MINOR_1=11",
        "DRBD_LL_DISK=/dev/a /dev/b",
        "DRBD_LL_DISK_0=/dev/a",
        "DRBD_BACKING_DEV_1=/dev/b",
    ] {
        assert!(lines.contains(&expected), "{expected} is not in\n{text}");
    }
}

#[test]
fn output_is_cut_into_lines_of_bounded_length_and_number() {
    let mut seen: Vec<String> = Vec::new();
    let mut lines = Lines::default();
    lines.add(b"one\ntw", |line| seen.push(line.into()));
    lines.add(b"o\n\nthree", |line| seen.push(line.into()));
    lines.end(|line| seen.push(line.into()));
    assert_eq!(seen, ["one", "two", "", "three"]);
    seen.clear();
    lines.add(&[b'x'; LONGEST_LINE * 1000], |line| seen.push(line.into()));
    assert_eq!(seen.len(), MOST_LINES - 4);
    assert!(seen.iter().all(|line| line.len() <= LONGEST_LINE));
}

fn run(command: &str, deadline: Duration) -> HandlerResult {
    on_this_thread(async {
        let (tell, told) = tokio::sync::oneshot::channel();
        let handlers = handlers(deadline);
        handlers.run(&config(command), fence(), |result| {
            tell.send(result).expect("the test waits");
        });
        told.await.expect("every handler ends")
    })
}

fn on_this_thread<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

fn handlers(deadline: Duration) -> Handlers {
    let surroundings = Surroundings {
        config: PathBuf::from("/etc/rbd.conf"),
        node: "alpha".into(),
        run_dir: PathBuf::from("/run/rbd"),
        state_dir: PathBuf::from("/var/lib/rbd"),
        deadline,
    };
    Handlers::new(Rc::new(surroundings))
}

fn fence() -> HandlerRun {
    HandlerRun {
        handler: Handler::FencePeer,
        peer: Some(NodeId(1)),
        volume: None,
        facts: HandlerFacts {
            connection: Some(ConnectionState::NetworkFailure),
            disk: None,
            up_to_date_nodes: 1,
        },
    }
}

fn config(command: &str) -> ResourceConfig {
    let volume = |number, disk: &str| VolumeConfig {
        number: VolumeNumber(number),
        device: "/dev/drbd10".into(),
        minor: Some(10 + u32::from(number)),
        disk: Some(disk.into()),
        meta_disk: MetaDisk::Internal,
        size_limit_bytes: None,
        exports: Vec::new(),
        kernel: rbd_protocol::control::KernelExport::None,
        resync: Vec::new(),
        on_disk_trouble: rbd_protocol::control::DiskTrouble::default(),
        resync_after: None,
    };
    ResourceConfig {
        name: "r0".into(),
        defined_at: "r0.res:1".into(),
        config_path: "r0.res".into(),
        node_name: "alpha".into(),
        node_id: NodeId(0),
        listen: Some("10.0.0.1:7788".into()),
        peers: vec![PeerConfig {
            name: "bravo".into(),
            node_id: NodeId(1),
            address: "[fd00::2]:7788".into(),
            net: NetOptions::default(),
        }],
        volumes: vec![volume(0, "/dev/a"), volume(1, "/dev/b")],
        options: ResourceOptions::default(),
        handlers: vec![("fence-peer".into(), command.into())],
    }
}

/// Gone, or dead and not yet waited for by whoever inherited it.
fn is_gone(pid: &str) -> bool {
    let path = Path::new("/proc").join(pid).join("stat");
    std::fs::read_to_string(path).map_or(true, |stat| {
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        after_name.trim_start().starts_with(['Z', 'X'])
    })
}

const LONG: Duration = Duration::from_secs(60);
/// Still long enough for a shell to begin, on a machine with much else to do.
const SHORT: Duration = Duration::from_secs(3);
