//! Peers that are not what the configuration says: each side says what is wrong, in one line, and
//! goes on serving its clients.

use std::io::{Read, Write};
use std::net::TcpStream;

use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Channel;
use rbd_protocol::peer::greeting::{Call, Dialer, PROOF_BYTES, Secret};
use rbd_tests::process::{Pair, Setup};

#[test]
fn another_secret_is_named_as_the_cause_on_both_nodes() {
    let setup = Setup {
        secrets: ["one", "another"],
        ..Setup::default()
    };
    let pair = strangers(setup, |_| {});
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for_log("shared-secret");
    }
    stay_apart(pair);
}

#[test]
fn a_secret_on_one_node_only_is_named_as_the_cause() {
    let pair = strangers(Setup::default(), |pair| {
        pair.beta
            .reconfigure("shared-secret \"between the two of us\";", "");
        pair.beta.reconfigure("cram-hmac-alg sha256;", "");
    });
    pair.alpha.wait_for_log("shared-secret");
    pair.beta.wait_for_log("shared-secret");
    stay_apart(pair);
}

#[test]
fn another_resource_at_the_address_is_named_as_the_cause() {
    let pair = strangers(Setup::default(), |pair| {
        pair.beta.reconfigure("resource r0", "resource other");
        pair.beta.set_resource("other");
    });
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for_log("resource");
        node.wait_for_log("other");
    }
    stay_apart(pair);
}

#[test]
fn node_ids_that_differ_between_the_configurations_are_named() {
    let pair = strangers(Setup::default(), |pair| {
        pair.beta.reconfigure("node-id 0", "node-id 5");
    });
    pair.alpha.wait_for_log("different numbers");
    pair.beta.wait_for_log("alpha says its node-id is 0");
    stay_apart(pair);
}

#[test]
fn a_peer_of_another_protocol_version_is_told_so() {
    let mut pair = Pair::new(Setup::default());
    for node in [&pair.alpha, &pair.beta] {
        node.reconfigure("shared-secret \"between the two of us\";", "");
        node.reconfigure("cram-hmac-alg sha256;", "");
    }
    pair.alpha.start();
    pair.alpha.ok("create-md");
    pair.alpha.ok("up");
    let mut stream = TcpStream::connect(pair.addresses[0]).expect("it listens");
    stream
        .write_all(&preamble_of_version(99))
        .expect("it takes bytes");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("it closes");
    let text = String::from_utf8_lossy(&answer).into_owned();
    assert!(text.contains("no common protocol version"), "{text:?}");
    pair.alpha.wait_for_log("99");
}

/// Both up, each with its own idea of the other.
fn strangers(setup: Setup, change: impl FnOnce(&mut Pair)) -> Pair {
    let mut pair = Pair::new(setup);
    change(&mut pair);
    for node in pair.nodes() {
        node.start();
        node.ok("create-md");
        node.ok("up");
    }
    pair
}

/// They never come together, each says why in its status, and alpha's clients are served.
fn stay_apart(mut pair: Pair) {
    for node in [&pair.alpha, &pair.beta] {
        let status = node.status();
        assert!(!status.is_connected(), "{}", status.text());
        assert!(!status.note().is_empty(), "{}", status.text());
        let complaints = node.log();
        let complaints = complaints
            .lines()
            .filter(|line| line.contains("WARN"))
            .count();
        assert!(complaints <= 4, "{}", node.log_end());
    }
    pair.alpha.ok("primary --force");
    let mut client = pair.alpha.open();
    client.write_durably(0, &[1; 4096]).expect("a write");
    drop(client);
    for node in pair.nodes() {
        node.stop();
    }
}

/// What beta would say if it spoke only this version.
fn preamble_of_version(version: u16) -> Vec<u8> {
    let call = Call {
        resource: "r0".to_owned(),
        node_name: "beta".to_owned(),
        node_id: NodeId(1),
        peer_name: "alpha".to_owned(),
        peer_id: NodeId(0),
        channel: Channel::Data,
        session: 1,
        challenge: [7; 32],
    };
    let mut bytes = Vec::new();
    drop(Dialer::<NoSecret>::new(call, None, &mut bytes));
    // The range of versions comes right behind the head of the message.
    for at in [8, 10] {
        bytes[at..at + 2].copy_from_slice(&version.to_be_bytes());
    }
    let checked = bytes.len() - 4;
    let checksum = crc32(&bytes[..checked]);
    bytes[checked..].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// CRC-32 (IEEE), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        register ^= u32::from(*byte);
        for _ in 0..8 {
            let carry = register & 1 == 1;
            register >>= 1;
            if carry {
                register ^= 0xedb8_8320;
            }
        }
    }
    !register
}

struct NoSecret;

impl Secret for NoSecret {
    fn prove(&self, _: &[&[u8]]) -> [u8; PROOF_BYTES] {
        [0; PROOF_BYTES]
    }

    fn verify(&self, _: &[&[u8]], _: &[u8]) -> bool {
        false
    }
}
