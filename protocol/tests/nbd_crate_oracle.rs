//! An independent client, the `nbd` crate's, over a socket pair.
//!
//! It speaks only the oldest dialect (EXPORT_NAME, padded replies, simple replies), which the
//! newer clients never use any more.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, also in its helpers"
)]

#[path = "nbd_memory_server/disk.rs"]
mod disk;

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use disk::Disk;
use nbd::client::{NbdClient, NbdExt, handshake};
use rbd_protocol::nbd::{BlockSizes, RequestKind};

const SIZE: usize = 1 << 20;
const DEADLINE: Duration = Duration::from_secs(60);

fn disk() -> Disk {
    Disk::new(
        (0..253).cycle().take(SIZE).collect(),
        BlockSizes::new(512, 4096, 1 << 16).unwrap(),
    )
}

/// One end of a connection whose other end is served.
fn connect(disk: Disk) -> (UnixStream, Arc<Disk>, JoinHandle<()>) {
    let (client, server) = UnixStream::pair().unwrap();
    // A server that says too little fails a test instead of stopping it.
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    server.set_read_timeout(Some(DEADLINE)).unwrap();
    let disk = Arc::new(disk);
    let shared = Arc::clone(&disk);
    // The crate's client leaves without a word, so the server's read ends in an error.
    let serving = thread::spawn(move || drop(shared.serve(server)));
    (client, disk, serving)
}

#[test]
fn export_is_described_with_size_and_flags() {
    let (mut stream, _, serving) = connect(disk());
    let export = handshake(&mut stream, b"r0/0").unwrap();
    assert_eq!(export.size, SIZE as u64);
    assert!(export.send_flush && export.send_trim);
    assert!(!export.readonly && !export.rotational && !export.resizeable);
    drop(stream);
    serving.join().unwrap();
}

#[test]
fn read_only_export_says_so_and_refuses_writes() {
    let mut disk = disk();
    disk.info.features.read_only = true;
    let before = disk.data();
    let (mut stream, disk, serving) = connect(disk);
    let export = handshake(&mut stream, b"r0").unwrap();
    assert!(export.readonly);
    let mut client = NbdClient::new(&mut stream, &export);
    let error = client.write(&[1; 512]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
    // The refused payload was drained: the connection still works.
    let mut sector = [0; 512];
    client.read_exact(&mut sector).unwrap();
    assert_eq!(sector, before[..512]);
    drop(stream);
    serving.join().unwrap();
    assert!(disk.data() == before);
}

#[test]
fn writes_are_read_back_and_trimmed() {
    let (mut stream, disk, serving) = connect(disk());
    let export = handshake(&mut stream, b"").unwrap();
    let mut client = NbdClient::new(&mut stream, &export);
    client.seek(SeekFrom::Start(8192)).unwrap();
    client.write_all(&[0xa5; 4096]).unwrap();
    client.flush().unwrap();
    client.seek(SeekFrom::Start(12288)).unwrap();
    client.trim(512).unwrap();
    client.seek(SeekFrom::Start(8192)).unwrap();
    let mut back = [0; 4608];
    client.read_exact(&mut back).unwrap();
    drop(stream);
    serving.join().unwrap();
    assert!(back[..4096] == [0xa5; 4096] && back[4096..] == [0; 512]);
    assert!(disk.data()[8192..12800] == back);
    assert_eq!(disk.count(RequestKind::Flush, 0), 1);
    assert!(disk.seen().iter().all(|request| request.flags.0 == 0));
}

#[test]
fn unaligned_and_oversized_requests_fail_and_the_next_one_works() {
    let (mut stream, disk, serving) = connect(disk());
    let export = handshake(&mut stream, b"r0/0").unwrap();
    let mut client = NbdClient::new(&mut stream, &export);
    client.seek(SeekFrom::Start(1)).unwrap();
    assert!(
        client
            .write(&[9; 512])
            .unwrap_err()
            .to_string()
            .contains("EINVAL")
    );
    client.seek(SeekFrom::Start(0)).unwrap();
    assert!(
        client
            .write(&[9; 511])
            .unwrap_err()
            .to_string()
            .contains("EINVAL")
    );
    assert!(
        client
            .write(&vec![9; (1 << 16) + 512])
            .unwrap_err()
            .to_string()
            .contains("EINVAL")
    );
    assert_eq!(client.write(&[9; 512]).unwrap(), 512);
    drop(stream);
    serving.join().unwrap();
    let data = disk.data();
    assert!(data[..512] == [9; 512] && data[512..1024] != [9; 512]);
}

#[test]
fn export_that_is_refused_or_unknown_ends_the_connection() {
    for name in [&b"r1/0"[..], b"nothing", b"\xff", b"a\0b", &[b'x'; 5000]] {
        let (mut stream, _, serving) = connect(disk());
        assert!(handshake(&mut stream, name).is_err());
        serving.join().unwrap();
    }
}

#[test]
fn export_name_is_not_enough_where_block_sizes_must_be_asked_for() {
    let mut disk = disk();
    disk.policy.require_block_size = true;
    let (mut stream, _, serving) = connect(disk);
    assert!(handshake(&mut stream, b"r0/0").is_err());
    serving.join().unwrap();
}
