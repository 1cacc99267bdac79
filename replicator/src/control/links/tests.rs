//! Links over loopback sockets, with a taker that only keeps what it is handed.

use std::cell::RefCell;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rbd_protocol::control::{NetOptions, PeerConfig, ResourceConfig, ResourceOptions};
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::greeting::Secret;

use super::*;

/// What a node was handed, newest last.
type Taken = Rc<RefCell<Vec<(NodeId, OwnedFd, OwnedFd)>>>;

struct Side {
    links: Links,
    taken: Taken,
    peer: NodeId,
}

const NAMES: [&str; 2] = ["alpha", "beta"];

fn config(own: usize, addresses: [SocketAddr; 2], secret: Option<&str>) -> ResourceConfig {
    let other = 1 - own;
    ResourceConfig {
        name: "r0".to_owned(),
        defined_at: String::new(),
        config_path: String::new(),
        node_name: NAMES[own].to_owned(),
        node_id: id(own),
        listen: Some(addresses[own].to_string()),
        peers: vec![PeerConfig {
            name: NAMES[other].to_owned(),
            node_id: id(other),
            address: addresses[other].to_string(),
            net: NetOptions {
                shared_secret: secret.map(str::to_owned),
                connect_interval_ms: 200,
                ..NetOptions::default()
            },
        }],
        volumes: Vec::new(),
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}

fn id(index: usize) -> NodeId {
    NodeId(u8::try_from(index).expect("0 or 1"))
}

/// Two nodes that can reach each other and seek nothing yet.
fn pair(secrets: [Option<&str>; 2]) -> [Side; 2] {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listeners =
        [(); 2].map(|()| listen(any, &NetOptions::default()).expect("loopback has free ports"));
    let addresses = [&listeners[0], &listeners[1]]
        .map(|listener| listener.local_addr().expect("a listener has an address"));
    let [first, second] = listeners;
    let side = |own: usize, listener| {
        let taken = Taken::default();
        let keep = Rc::clone(&taken);
        let take: TakeLink = Box::new(move |peer, data, control| {
            keep.borrow_mut().push((peer, data, control));
        });
        Side {
            links: Links::new(&config(own, addresses, secrets[own]), Some(listener), take),
            taken,
            peer: id(1 - own),
        }
    };
    [side(0, first), side(1, second)]
}

impl Side {
    fn seek(&self) {
        self.links.seek(self.peer, Seek::AtOnce);
    }

    fn count(&self) -> usize {
        self.taken.borrow().len()
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether the two sockets are the ends of one connection.
fn are_connected(one: &OwnedFd, other: &OwnedFd) -> bool {
    let open = |socket: &OwnedFd| {
        let stream = TcpStream::from(socket.try_clone().expect("a socket can be duplicated"));
        stream.set_nonblocking(false).expect("a socket can block");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("a socket can time out");
        stream
    };
    let (mut one, mut other) = (open(one), open(other));
    let mut byte = [0];
    one.write_all(b"x").is_ok() && other.read_exact(&mut byte).is_ok() && byte == *b"x"
}

fn are_one_link(sides: &[Side; 2]) -> bool {
    let [first, second] = [&sides[0].taken, &sides[1].taken].map(|taken| taken.borrow());
    match (first.last(), second.last()) {
        (Some((_, data, control)), Some((_, other_data, other_control))) => {
            are_connected(data, other_data) && are_connected(control, other_control)
        }
        _ => false,
    }
}

#[test]
fn one_link_comes_about_however_the_two_dial() {
    run(async {
        for round in 0..100_u64 {
            let sides = pair([Some("s"), Some("s")]);
            let (first, second) = if round.is_multiple_of(2) {
                (0, 1)
            } else {
                (1, 0)
            };
            sides[first].seek();
            tokio::time::sleep(Duration::from_micros(round * 37)).await;
            sides[second].seek();
            until("both have a link", || {
                sides.iter().all(|side| side.count() > 0)
            })
            .await;
            assert!(
                are_one_link(&sides),
                "round {round}: ends of different links"
            );
            assert!(sides.iter().all(|side| side.count() == 1), "round {round}");
        }
    });
}

#[test]
fn a_link_is_made_anew_as_often_as_both_ask_for_it() {
    run(async {
        let sides = pair([None, None]);
        for round in 1..30 {
            sides.iter().for_each(Side::seek);
            until("another link", || {
                sides.iter().all(|side| side.count() == round)
            })
            .await;
            assert!(are_one_link(&sides));
        }
    });
}

#[test]
fn a_node_that_has_a_link_accepts_no_other_until_it_asks() {
    run(async {
        let sides = pair([None, None]);
        sides.iter().for_each(Side::seek);
        until("a link", || sides.iter().all(|side| side.count() == 1)).await;
        // The first has lost it, the second has not noticed.
        sides[0].seek();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(sides[1].count(), 1);
        assert_eq!(sides[0].count(), 1);
        sides[1].seek();
        until("both have the new link", || {
            sides.iter().all(|side| side.count() == 2)
        })
        .await;
        assert!(are_one_link(&sides));
    });
}

#[test]
fn a_node_that_seeks_nothing_gets_nothing() {
    run(async {
        let sides = pair([None, None]);
        sides[0].seek();
        tokio::time::sleep(Duration::from_millis(300)).await;
        sides[0].links.seek(sides[0].peer, Seek::Stop);
        sides[1].seek();
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(sides[0].count() + sides[1].count(), 0);
    });
}

#[test]
fn different_secrets_give_no_link() {
    run(async {
        let sides = pair([Some("s"), Some("t")]);
        sides.iter().for_each(Side::seek);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(sides[0].count() + sides[1].count(), 0);
    });
}

#[test]
fn silent_callers_do_not_keep_the_peer_out() {
    run(async {
        let sides = pair([None, None]);
        let address = sides[0].links.shared.local().listen;
        let mut silent = Vec::new();
        for _ in 0..6 {
            silent.push(
                TcpStream::connect(address.expect("it listens")).expect("anybody may connect"),
            );
        }
        sides.iter().for_each(Side::seek);
        until("a link", || sides.iter().all(|side| side.count() == 1)).await;
    });
}

#[test]
fn a_proof_is_the_hmac_of_its_parts_one_after_the_other() {
    // RFC 4231, test case 2.
    let secret = SharedSecret::new("Jefe");
    let proof = secret.prove(&[b"what do ya want ", b"for nothing?"]);
    assert_eq!(proof[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    assert_eq!(proof[28..], [0x64, 0xec, 0x38, 0x43]);
    assert!(secret.verify(&[b"what do ya want for nothing?"], &proof));
    assert!(!secret.verify(&[b"what do ya want for nothing!"], &proof));
    assert!(!secret.verify(&[b"what do ya want for nothing?"], &proof[1..]));
}

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn strangers_who_are_turned_away_are_not_remembered() {
    let mut callers = accept::Callers::default();
    let address = |index: u32| IpAddr::from(index.to_be_bytes());
    let taken = (0..1000).filter(|index| callers.take_in(address(*index)));
    assert_eq!(taken.count(), 64);
    assert_eq!(callers.remembered(), 64);
    for index in 0..1000 {
        callers.leave(address(index));
    }
    assert_eq!(callers.remembered(), 0);
    // One address gets no more than its part of the places.
    let taken = (0..20).filter(|_| callers.take_in(address(0)));
    assert_eq!(taken.count(), 8);
    assert!(callers.take_in(address(1)));
}
