//! Two daemons reach each other, whoever dials first and whatever knocks on their doors.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is missing"
)]

#[expect(dead_code, reason = "each test program uses its part of the support")]
mod support;

use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use rbd_protocol::control::{NbdExport, Request, ResourceConfig, ResourceStatus};
use rbd_protocol::state::{ConnectionState, DiskState, Role};
use support::{Node, PATIENCE, config, free_address};

struct Pair {
    alpha: Node,
    beta: Node,
    configs: [ResourceConfig; 2],
}

impl Pair {
    /// Two nodes with fresh disks, nothing up.
    fn new(change: impl Fn(&mut ResourceConfig)) -> Self {
        let addresses = [free_address(), free_address()];
        let (alpha, beta) = (Node::start("alpha"), Node::start("beta"));
        let configs = [&alpha, &beta].map(|node| {
            let mut config = config(node, &addresses);
            change(&mut config);
            node.create_disk(&config);
            config
        });
        Self {
            alpha,
            beta,
            configs,
        }
    }

    fn nodes(&self) -> [&Node; 2] {
        [&self.alpha, &self.beta]
    }

    fn up(&self) {
        for (node, config) in self.nodes().iter().zip(&self.configs) {
            node.must(&Request::Up(config.clone()));
        }
    }

    fn await_connected(&self) {
        for node in self.nodes() {
            node.await_status("r0", "connected", is_connected);
        }
    }

    /// Declares both fresh disks identical.
    fn skip_initial_sync(&self) {
        self.alpha.must(&Request::NewGeneration {
            resource: "r0".to_owned(),
            volume: 0,
            clear_bitmap: true,
        });
        for node in self.nodes() {
            node.await_status("r0", "UpToDate", |status| {
                status.devices[0].disk_state == DiskState::UpToDate
            });
        }
    }
}

fn is_connected(status: &ResourceStatus) -> bool {
    status.connections[0].connection_state == ConnectionState::Connected
}

fn promote(node: &Node) {
    node.must(&Request::Promote {
        resource: "r0".to_owned(),
        force: false,
    });
}

fn connection_request(connect: bool) -> Request {
    let (resource, peer) = ("r0".to_owned(), None);
    if connect {
        Request::Connect {
            resource,
            peer,
            discard_my_data: false,
            tentative: false,
        }
    } else {
        Request::Disconnect {
            resource,
            peer,
            force: false,
        }
    }
}

#[test]
fn two_nodes_connect_and_mirror_what_a_client_writes() {
    let pair = Pair::new(|_| {});
    pair.up();
    pair.await_connected();
    pair.skip_initial_sync();
    promote(&pair.alpha);
    let data: Vec<u8> = (0..1_u32 << 16)
        .map(|i| i.to_be_bytes()[2] ^ 0x5a)
        .collect();
    let mut client = client(&pair.alpha);
    client.seek(SeekFrom::Start(8192)).unwrap();
    client.write_all(&data).unwrap();
    client.flush().unwrap();
    let mut back = vec![0; data.len()];
    client.seek(SeekFrom::Start(8192)).unwrap();
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, data);
    for (node, config) in pair.nodes().iter().zip(&pair.configs) {
        let disk = std::fs::read(config.volumes[0].disk.as_ref().unwrap()).unwrap();
        assert_eq!(disk[8192..][..data.len()], data, "on {}", node.name);
    }
}

fn client(node: &Node) -> impl Read + Write + Seek {
    let mut stream = UnixStream::connect(node.run_dir().join("nbd.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let export = nbd::client::handshake(&mut stream, b"r0").unwrap();
    nbd::client::NbdClient::new(stream, &export)
}

#[test]
fn either_node_alone_brings_the_link_back() {
    let pair = Pair::new(|_| {});
    pair.up();
    pair.await_connected();
    for node in pair.nodes() {
        node.must(&connection_request(false));
        node.must(&connection_request(false));
        node.await_status("r0", "StandAlone", |status| {
            status.connections[0].connection_state == ConnectionState::StandAlone
        });
        node.must(&connection_request(true));
        node.must(&connection_request(true));
        pair.await_connected();
    }
}

#[test]
fn the_link_comes_back_after_either_daemon_is_killed() {
    let mut pair = Pair::new(|_| {});
    pair.up();
    pair.await_connected();
    pair.alpha.end("-KILL");
    pair.alpha.run();
    pair.await_connected();
    pair.beta.end("-KILL");
    pair.beta.run();
    pair.await_connected();
    for _ in 0..2 {
        pair.beta.end("-TERM");
        pair.beta.run();
        pair.await_connected();
    }
}

#[test]
fn nodes_with_different_secrets_stay_apart_and_both_say_so() {
    let pair = Pair::new(|config| {
        config.peers[0].net.shared_secret = Some(format!("secret of {}", config.node_name));
    });
    pair.up();
    for node in pair.nodes() {
        node.expect_log("wrong shared-secret");
        node.expect_log("not authenticated: shared-secret, resource or node names differ");
        assert!(!is_connected(&node.status("r0").unwrap()));
        node.await_status("r0", "refused with a reason", |status| {
            let connection = &status.connections[0];
            connection.is_refused && connection.note.contains("shared-secret")
        });
    }
}

#[test]
fn a_node_that_stands_alone_refuses_and_its_peer_says_so() {
    let pair = Pair::new(|_| {});
    pair.up();
    pair.await_connected();
    pair.beta.must(&connection_request(false));
    pair.alpha.must(&connection_request(false));
    pair.alpha.must(&connection_request(true));
    pair.alpha
        .expect_log("it is StandAlone there: run connect on that node");
}

#[test]
fn a_changed_secret_is_taken_over_by_adjust() {
    let pair = Pair::new(|_| {});
    pair.up();
    pair.await_connected();
    for (node, config) in pair.nodes().iter().zip(&pair.configs) {
        let mut config = config.clone();
        config.peers[0].net.shared_secret = None;
        node.must(&Request::Adjust(config));
    }
    pair.await_connected();
}

#[test]
fn strangers_at_the_peer_port_change_nothing() {
    let pair = Pair::new(|_| {});
    let address = pair.configs[0].listen.clone().unwrap();
    pair.alpha.must(&Request::Up(pair.configs[0].clone()));
    let mut silent = Vec::new();
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 5000],
        b"rbdg\0\x01\xff\xff",
        b"",
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        // The daemon may have closed it already.
        let _sent = stream.write_all(garbage);
        silent.push(stream);
    }
    pair.alpha.expect_log("not an rbd peer");
    for stream in &mut silent[..3] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    pair.beta.must(&Request::Up(pair.configs[1].clone()));
    pair.await_connected();
    for _ in 0..20 {
        silent.push(TcpStream::connect(&address).unwrap());
    }
    let [_, beta] = pair.nodes();
    beta.must(&connection_request(false));
    drop(silent);
    beta.must(&connection_request(true));
    pair.await_connected();
}

#[test]
fn a_client_on_a_secondary_is_told_its_role_and_who_is_primary() {
    let export = free_address();
    let address = export.clone();
    let pair = Pair::new(move |config| {
        if config.node_name == "beta" {
            config.volumes[0]
                .exports
                .push(NbdExport::Tcp(address.clone()));
        }
    });
    pair.up();
    pair.await_connected();
    assert_eq!(
        refusal_of_go(&export, "r0"),
        "r0 is Secondary on beta; no node is known to be Primary"
    );
    pair.skip_initial_sync();
    promote(&pair.alpha);
    pair.beta
        .await_status("r0", "aware of the Primary", |status| {
            status.connections[0].peer_role == Role::Primary
        });
    for name in ["r0", "r0/0", ""] {
        assert_eq!(
            refusal_of_go(&export, name),
            "r0 is Secondary on beta; Primary is alpha"
        );
    }
    assert_eq!(option_reply(&export, 7, "r1").0, 0x8000_0006);
    let (kind, listed) = option_reply(&export, 3, "");
    assert_eq!(kind, 2);
    assert!(String::from_utf8(listed).unwrap().contains("r0/0"));
}

/// The text of the policy error with which GO is refused.
fn refusal_of_go(address: &str, name: &str) -> String {
    let (kind, text) = option_reply(address, 7, name);
    assert_eq!(kind, 0x8000_0002, "not NBD_REP_ERR_POLICY");
    String::from_utf8(text).unwrap()
}

/// Kind and data of the first reply to one option: 7 is GO, 3 is LIST.
fn option_reply(address: &str, option: u32, name: &str) -> (u32, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(&3_u32.to_be_bytes()).unwrap();
    let mut data = Vec::new();
    if option == 7 {
        data.extend_from_slice(&u32::try_from(name.len()).unwrap().to_be_bytes());
        data.extend_from_slice(name.as_bytes());
        data.extend_from_slice(&[0, 0]);
    }
    let mut message = b"IHAVEOPT".to_vec();
    message.extend_from_slice(&option.to_be_bytes());
    message.extend_from_slice(&u32::try_from(data.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&data);
    stream.write_all(&message).unwrap();
    let mut header = [0; 20];
    stream.read_exact(&mut header).unwrap();
    let number = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
    let mut text = vec![0; usize::try_from(number(16)).unwrap()];
    stream.read_exact(&mut text).unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    (number(12), text)
}
