//! Whole threads with the real engine: files, clients and links as they are in service.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::time::Duration;

use rbd_engine::Command;
use rbd_protocol::control::{RefusalCode, ResourceStatus};
use rbd_protocol::state::{DiskState, ReplicationState, Role};

use super::client::request;
use super::node::{Client, Node, link};
use super::pattern;
use crate::messages::ToResource;

const FORCE: Command = Command::Promote { force: true };

fn is_synced(status: &ResourceStatus) -> bool {
    let is_up_to_date = status.devices[0].disk_state == DiskState::UpToDate;
    let peers = status
        .connections
        .iter()
        .flat_map(|connection| &connection.peer_devices);
    is_up_to_date
        && peers.into_iter().all(|peer| {
            peer.replication_state == ReplicationState::Established
                && peer.peer_disk_state == DiskState::UpToDate
        })
}

fn is_alone(status: &ResourceStatus) -> bool {
    status
        .connections
        .iter()
        .all(|peer| peer.peer_role == Role::Unknown)
}

#[test]
fn one_node_serves_a_client_and_what_was_written_is_on_its_disk() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(&directory, 0);
    let mut early = node.client();
    assert_eq!(
        early.0.read(&mut [0]).unwrap(),
        0,
        "not Primary: closed at once"
    );
    node.command(FORCE).unwrap();
    let mut client = node.client();
    for (index, length) in [4096, 65536, 1 << 20, 12288].into_iter().enumerate() {
        let offset = u64::try_from(index).unwrap() * (4 << 20);
        let bytes = pattern(length, index);
        client.write(offset, &bytes);
        assert_eq!(client.read(offset, u32::try_from(length).unwrap()), bytes);
    }
    client.zero(8 << 20, 4096);
    client.flush();
    let refusal = node.command(Command::Demote { force: false }).unwrap_err();
    assert_eq!(refusal.code, RefusalCode::StateHeldOpen);
    drop(client);
    node.wait_for(|status| status.devices[0].open_count == 0);
    node.stop();
    let data = node.data();
    assert_eq!(data[4 << 20..][..65536], pattern(65536, 1));
    let mut zeroed = pattern(1 << 20, 2);
    zeroed[..4096].fill(0);
    assert!(data[8 << 20..][..1 << 20] == zeroed);
}

#[test]
fn many_clients_with_many_requests_all_get_their_replies() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(&directory, 0);
    node.command(FORCE).unwrap();
    let threads: Vec<_> = (0..8_usize)
        .map(|number| {
            let client = node.client();
            std::thread::spawn(move || pipeline(client, number))
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    node.wait_for(|status| status.devices[0].open_count == 0);
    node.stop();
    let data = node.data();
    for index in 0..8 * 200 {
        let at = index * 8192;
        assert!(data[at..at + 4096] == pattern(4096, index), "block {index}");
    }
}

/// 200 writes of one client, all in flight at once, with replies in any order.
fn pipeline(client: Client, number: usize) {
    let mut writer = client.0.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        for index in number * 200..(number + 1) * 200 {
            let cookie = u64::try_from(index).unwrap();
            let header = request(1, 0, cookie, cookie * 8192, 4096);
            writer.write_all(&header).unwrap();
            writer.write_all(&pattern(4096, index)).unwrap();
        }
    });
    let mut client = client;
    let mut cookies = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let mut reply = [0; 16];
        client.0.read_exact(&mut reply).unwrap();
        assert_eq!(reply[4..8], [0; 4]);
        assert!(cookies.insert(u64::from_be_bytes(reply[8..].try_into().unwrap())));
    }
    sender.join().unwrap();
}

#[test]
fn two_nodes_have_the_same_data_and_either_can_serve_it() {
    let directory = tempfile::tempdir().unwrap();
    let (mut alice, mut bob) = (Node::new(&directory, 0), Node::new(&directory, 1));
    alice.command(FORCE).unwrap();
    let mut client = alice.client();
    client.write(0, &pattern(1 << 20, 1));
    link(&alice, &bob);
    for index in 0..200_usize {
        let offset = u64::try_from(index * 37 % 1000).unwrap() * 16384;
        client.write(offset, &pattern(16384, index));
    }
    bob.wait_for(is_synced);
    client.write(32 << 20, &pattern(3 << 20, 5));
    client.zero(33 << 20, 1 << 20);
    client.flush();
    drop(client);
    alice.wait_for(|status| status.devices[0].open_count == 0);
    alice.stop();
    bob.command(Command::Promote { force: false }).unwrap();
    let mut client = bob.client();
    assert!(client.read(0, 1 << 20) == alice.data()[..1 << 20]);
    client.0.shutdown(Shutdown::Both).unwrap();
    bob.wait_for(|status| status.devices[0].open_count == 0);
    bob.stop();
    assert!(alice.data() == bob.data());
}

#[test]
fn a_cut_link_costs_no_write_and_the_peer_catches_up() {
    let directory = tempfile::tempdir().unwrap();
    let (mut alice, mut bob) = (Node::new(&directory, 0), Node::new(&directory, 1));
    alice.command(FORCE).unwrap();
    let mut cutters = link(&alice, &bob);
    bob.wait_for(is_synced);
    let mut client = alice.client();
    for round in 0..5_usize {
        for index in 0..50 {
            let offset = u64::try_from((index * 7 + round) % 500).unwrap() * 65536;
            client.write(offset, &pattern(65536, round * 100 + index));
            if index == 20 {
                cutters
                    .iter()
                    .for_each(|cutter| drop(cutter.shutdown(Shutdown::Both)));
            }
        }
        alice.wait_for(is_alone);
        bob.wait_for(is_alone);
        cutters = link(&alice, &bob);
        bob.wait_for(is_synced);
        alice.wait_for(is_synced);
    }
    drop(client);
    alice.wait_for(|status| status.devices[0].open_count == 0);
    alice.stop();
    bob.stop();
    assert!(alice.data() == bob.data());
}

#[test]
fn a_restarted_node_goes_on_with_the_same_data() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(&directory, 0);
    node.command(FORCE).unwrap();
    let mut client = node.client();
    client.write(4096, &pattern(8192, 3));
    drop(client);
    node.handle.send(ToResource::Shutdown).unwrap();
    node.wait_for_end();
    let mut node = node.restart();
    assert_eq!(node.status().role, Role::Secondary);
    node.command(FORCE).unwrap();
    let mut client = node.client();
    assert_eq!(client.read(4096, 8192), pattern(8192, 3));
    drop(client);
    node.wait_for(|status| status.devices[0].open_count == 0);
    node.stop();
}

#[test]
fn shutting_down_answers_what_is_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Node::new(&directory, 0);
    node.command(FORCE).unwrap();
    let mut client = node.client();
    for index in 0..64_u64 {
        client
            .0
            .write_all(&request(1, 0, index, index << 16, 1 << 16))
            .unwrap();
        client.0.write_all(&pattern(1 << 16, 1)).unwrap();
    }
    assert_eq!(client.reply(), 0);
    node.handle.send(ToResource::Shutdown).unwrap();
    let mut rest = Vec::new();
    client
        .0
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // Unread requests may turn the end of the connection into a reset.
    drop(client.0.read_to_end(&mut rest));
    assert_eq!(rest.len() % 16, 0, "no reply is cut off");
    assert!(rest.chunks(16).all(|reply| reply[4..8] == [0; 4]));
    node.wait_for_end();
}
