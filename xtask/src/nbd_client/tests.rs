//! The client against scripted servers, and against nbdkit where that is installed.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::process;

const LIMIT: Duration = Duration::from_secs(10);

/// Greets, takes the client's flags and its one option, then answers with `replies`.
fn scripted(replies: Vec<u8>) -> Result<Client<UnixStream>, Error> {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(LIMIT)).unwrap();
    let server = thread::spawn(move || {
        let mut greeting = b"NBDMAGICIHAVEOPT".to_vec();
        greeting.extend(3_u16.to_be_bytes());
        theirs.write_all(&greeting).unwrap();
        let mut asked = [0; 4 + 16 + 4 + 4 + 2];
        theirs.read_exact(&mut asked).unwrap();
        theirs.write_all(&replies).unwrap();
    });
    let client = Client::negotiate(ours, "r0/0");
    server.join().unwrap();
    client
}

fn reply(kind: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = OPTION_REPLY_MAGIC.to_be_bytes().to_vec();
    bytes.extend(OPT_GO.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

#[test]
fn an_export_is_opened_with_its_size() {
    let mut info = INFO_EXPORT.to_be_bytes().to_vec();
    info.extend(1_000_000_u64.to_be_bytes());
    info.extend(1_u16.to_be_bytes());
    let client = scripted([reply(REP_INFO, &info), reply(REP_ACK, &[])].concat()).unwrap();
    assert_eq!(client.size(), 1_000_000);
}

#[test]
fn a_refusal_carries_the_servers_reason() {
    let error = scripted(reply(REP_ERROR | 2, b"r0/0 is Secondary")).unwrap_err();
    assert_eq!(error.to_string(), "refused by policy: r0/0 is Secondary");
}

#[test]
fn an_absurd_length_is_refused_before_it_is_allocated() {
    let mut bytes = reply(REP_INFO, &[]);
    bytes.truncate(16);
    bytes.extend(u32::MAX.to_be_bytes());
    assert!(matches!(scripted(bytes), Err(Error::Protocol(_))));
}

#[test]
fn a_server_that_hangs_up_is_a_broken_connection() {
    assert!(matches!(scripted(Vec::new()), Err(Error::Connection(_))));
    assert!(matches!(
        scripted(reply(REP_ACK, &[])),
        Err(Error::Protocol(_))
    ));
}

#[test]
fn what_is_written_to_nbdkit_is_read_back() {
    let Some(program) = process::find_program("nbdkit") else {
        return skip("what_is_written_to_nbdkit_is_read_back: nbdkit is not installed");
    };
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nbd.sock");
    let mut server = Command::new(program)
        .args(["--foreground", "--exit-with-parent", "--unix"])
        .arg(&socket)
        .args(["memory", "size=1M"])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let outcome = thread::spawn(move || exercise(&socket)).join();
    process::end(&mut server);
    outcome.unwrap();
}

/// Tells `cargo xtask test` that a test could not run here.
fn skip(line: &str) {
    println!("skipped: {line}");
    if let Some(log) = std::env::var_os("RBD_SKIP_LOG") {
        let mut log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(log)
            .unwrap();
        writeln!(log, "{line}").unwrap();
    }
}

fn exercise(socket: &Path) {
    let start = Instant::now();
    let mut client = loop {
        match Client::unix(socket, "", LIMIT) {
            Ok(client) => break client,
            Err(_) if start.elapsed() < LIMIT => thread::sleep(process::POLL),
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(client.size(), 1 << 20);
    client.write(4096, &[7; 8192]).unwrap();
    client.write_durably(8192, &[9; 512]).unwrap();
    client.flush().unwrap();
    assert!(client.can_write_zeroes());
    client.write_zeroes(4096, 512).unwrap();
    let mut back = [1; 8192];
    client.read(4096, &mut back).unwrap();
    assert!(back[..512].iter().all(|byte| *byte == 0));
    assert!(back[512..4096].iter().all(|byte| *byte == 7));
    assert!(back[4096..4608].iter().all(|byte| *byte == 9));
    assert!(back[4608..].iter().all(|byte| *byte == 7));
    assert!(matches!(
        client.write(1 << 20, &[0; 512]),
        Err(Error::Request("write", _))
    ));
    client.disconnect().unwrap();
}
