//! Garbage, half messages and lies on every socket: whoever sends them is told or cut off, and
//! nobody else notices.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rbd_tests::nbd_client::{
    CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, EINVAL, ENOSPC, Error, Request,
};
use rbd_tests::process::{Chance, Pair, Setup, undisturbed, wait_until};

#[test]
fn garbage_on_the_nbd_socket_disturbs_no_other_client() {
    undisturbed(Pair::primary(Setup::default()), |pair| {
        let mut chance = Chance::new(1);
        for round in 0..240 {
            let mut stream = UnixStream::connect(pair.alpha.nbd_socket()).expect("it listens");
            pace(&stream);
            // Shape by shape, each with other numbers.
            let bytes = nbd_garbage(round % 10, &mut chance);
            say(&mut stream, &bytes);
            if round % 3 == 0 {
                listen(&mut stream);
            }
        }
    });
}

#[test]
fn garbage_instead_of_requests_ends_only_the_client_that_sent_it() {
    undisturbed(Pair::primary(Setup::default()), |pair| {
        let mut chance = Chance::new(2);
        for round in 0..60 {
            let mut client = pair.alpha.open();
            let bytes = match round % 6 {
                0 => noise(&mut chance, 4096),
                // A request cut off in the middle.
                1 => request(CMD_READ, 0, 4096)[..13].to_vec(),
                // A write whose payload never comes to an end.
                2 => [request(CMD_WRITE, 0, 1 << 20), noise(&mut chance, 5000)].concat(),
                // A write of 4 GiB.
                3 => [request(CMD_WRITE, 0, u32::MAX), noise(&mut chance, 70_000)].concat(),
                // Many reads whose answers nobody takes.
                4 => request(CMD_READ, 0, 1 << 20).repeat(64),
                // A disconnect behind requests.
                _ => [request(CMD_READ, 0, 512), request(2, 0, 0)].concat(),
            };
            drop(client.send_raw(&bytes));
        }
    });
}

#[test]
fn a_request_that_makes_no_sense_is_answered_and_the_connection_lives() {
    undisturbed(Pair::primary(Setup::default()), |pair| {
        let mut client = pair.alpha.open();
        let size = client.size();
        let nonsense: [(u16, u16, u64, u32, usize, &[u32]); 13] = [
            (CMD_READ, 0, size, 512, 0, &[EINVAL]),
            (CMD_READ, 0, size - 512, 1024, 0, &[EINVAL]),
            (CMD_READ, 0, u64::MAX - 511, 512, 0, &[EINVAL]),
            (CMD_READ, 0, 0, u32::MAX, 0, &[EINVAL, EOVERFLOW]),
            (CMD_READ, 0, 0, 0, 0, &[EINVAL]),
            (CMD_WRITE, 0, size, 4096, 4096, &[ENOSPC]),
            (CMD_WRITE, 0, size - 512, 4096, 4096, &[ENOSPC]),
            (CMD_WRITE, 0, 0, 0, 0, &[EINVAL]),
            (CMD_TRIM, 0, size - 512, 4096, 0, &[EINVAL, ENOSPC]),
            (CMD_WRITE_ZEROES, 0, size, 4096, 0, &[ENOSPC]),
            (CMD_WRITE_ZEROES, 0, 4096, u32::MAX - 4095, 0, &[ENOSPC]),
            (77, 0, 0, 0, 0, &[EINVAL]),
            (CMD_READ, 0x8000, 0, 512, 0, &[EINVAL]),
        ];
        for (command, flags, offset, length, payload, expected) in nonsense {
            let what = format!("command {command} flags {flags} at {offset} length {length}");
            let answer = client.request(Request {
                command,
                flags,
                offset,
                length,
                payload: &vec![0; payload],
            });
            match answer {
                Err(Error::Request(number)) if expected.contains(&number) => {}
                Ok(_) if length == 0 && command != 77 => {} // NBD leaves it to the server
                other => panic!("{what}: {other:?} instead of {expected:?}"),
            }
            let bytes = client.read(0, 512).expect("the connection lives");
            assert_eq!(bytes.len(), 512, "after {what}");
        }
        client.disconnect().expect("a good-bye");
    });
}

#[test]
fn unaligned_requests_are_served_or_refused_but_never_spill() {
    let pair = Pair::primary(Setup::default());
    let mut client = pair.alpha.open();
    let before = client.read(0, 8192).expect("a read");
    match client.write(100, &[0xaa; 1000]) {
        Ok(()) => {
            let after = client.read(0, 8192).expect("a read");
            assert_eq!(after[..100], before[..100]);
            assert_eq!(after[100..1100], [0xaa; 1000]);
            assert_eq!(after[1100..], before[1100..]);
        }
        Err(Error::Request(EINVAL)) => {
            assert_eq!(client.read(0, 8192).expect("a read"), before);
        }
        Err(other) => panic!("an unaligned write: {other}"),
    }
    match client.read(513, 7) {
        Ok(bytes) => assert_eq!(bytes.len(), 7),
        Err(Error::Request(EINVAL)) => {}
        Err(other) => panic!("an unaligned read: {other}"),
    }
}

#[test]
fn silent_clients_keep_out_others_for_seconds_only() {
    undisturbed(Pair::primary(Setup::default()), |pair| {
        let silent: Vec<UnixStream> = (0..300)
            .filter_map(|_| UnixStream::connect(pair.alpha.nbd_socket()).ok())
            .collect();
        wait_until("a client gets in", || match pair.alpha.try_open(0) {
            Ok(client) => {
                drop(client);
                Ok(())
            }
            Err(error) => Err(error.to_string()),
        });
        drop(silent);
    });
}

#[test]
fn garbage_on_the_peer_port_disturbs_neither_link_nor_clients() {
    undisturbed(Pair::primary(Setup::default()), |pair| {
        let mut chance = Chance::new(3);
        let mut silent = Vec::new();
        for round in 0..120 {
            let address = pair.addresses[round % 2];
            let mut stream = TcpStream::connect(address).expect("it listens");
            let bytes = peer_garbage(round % 6, &mut chance);
            say(&mut stream, &bytes);
            if round % 4 == 0 {
                silent.push(stream);
            }
        }
        assert!(pair.alpha.status().is_connected(), "the link was lost");
        // A peer that comes back gets through the crowd.
        pair.beta.kill();
        pair.beta.start();
        pair.wait_in_sync();
        drop(silent);
        // And nobody filled the log.
        let lines = pair.alpha.log().lines().count();
        assert!(lines < 100, "{lines} lines in the log");
    });
}

#[test]
fn garbage_on_the_control_socket_is_refused_and_commands_go_on() {
    undisturbed(Pair::primary(Setup::default()), |pair| {
        let socket = pair.alpha.run_directory().join("rbdd.sock");
        let mut chance = Chance::new(4);
        for round in 0..60 {
            let mut stream = UnixStream::connect(&socket).expect("it listens");
            pace(&stream);
            let bytes = control_garbage(round % 6, &mut chance);
            say(&mut stream, &bytes);
            if round % 2 == 0 {
                listen(&mut stream);
            }
        }
        assert_eq!(pair.alpha.status().role(), "Primary");
    });
}

#[test]
fn a_control_program_of_another_version_is_told_so() {
    let mut pair = Pair::new(Setup::default());
    pair.alpha.start();
    let socket = pair.alpha.run_directory().join("rbdd.sock");
    let mut stream = UnixStream::connect(socket).expect("it listens");
    stream
        .write_all(b"rbdc\x63\0\0\0\x01\0\0\0\0")
        .expect("it takes bytes");
    let mut answer = Vec::new();
    // The end may be a reset, because the daemon does not read on.
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.contains("version 99"), "{answer:?}");
}

/// What might come instead of a negotiation.
fn nbd_garbage(shape: usize, chance: &mut Chance) -> Vec<u8> {
    let flags = 3_u32.to_be_bytes().to_vec();
    let option = |number: u32, length: u32, data: Vec<u8>| {
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend(number.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(data);
        bytes
    };
    let go = |name: u32| {
        let mut data = name.to_be_bytes().to_vec();
        data.extend(b"r0/0\0\0");
        data
    };
    let long = noise(chance, 5000);
    match shape {
        0 => noise(chance, 4000),
        1 => [flags, noise(chance, 4000)].concat(),
        2 => [u32::MAX.to_be_bytes().to_vec(), option(7, 10, go(4))].concat(),
        3 => [flags, option(7, u32::MAX, long)].concat(),
        4 => [flags, option(7, 10, go(u32::MAX))].concat(),
        5 => [flags, option(1, 5000, long)].concat(),
        6 => [flags, option(3, 0, Vec::new()).repeat(1000)].concat(),
        7 => [flags, option(7, 10, go(4))[..20].to_vec()].concat(),
        8 => [
            flags,
            option(10, 4, vec![0xff; 4]),
            option(9, 4, vec![0xff; 4]),
        ]
        .concat(),
        _ => [flags, option(5, 0, Vec::new()), noise(chance, 300)].concat(),
    }
}

/// What might come instead of an opening between nodes.
fn peer_garbage(shape: usize, chance: &mut Chance) -> Vec<u8> {
    let head = |kind: u8, length: u16| {
        let mut bytes = b"rbdg\0".to_vec();
        bytes.push(kind);
        bytes.extend(length.to_be_bytes());
        bytes
    };
    match shape {
        0 => noise(chance, 4000),
        1 => b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        2 => [head(1, u16::MAX), noise(chance, 4000)].concat(),
        3 => [head(1, 200), noise(chance, 204)].concat(),
        4 => [head(2, 32), noise(chance, 36)].concat(),
        // A packet of an open link, and not even its whole header.
        _ => b"rbdp\0\x10\0\0\0\0\0\0\x02\0\0\0".to_vec(),
    }
}

/// What might come instead of a command.
fn control_garbage(shape: usize, chance: &mut Chance) -> Vec<u8> {
    let head = |length: u32| {
        let mut bytes = b"rbdc\x01\0\0\0".to_vec();
        bytes.extend(length.to_le_bytes());
        bytes
    };
    match shape {
        0 => noise(chance, 4000),
        1 => head(u32::MAX),
        2 => [head(1000), noise(chance, 1000)].concat(),
        3 => [head(1000), noise(chance, 10)].concat(),
        4 => head(0),
        // Names and lists that claim to be longer than anything.
        _ => [head(18), vec![1], vec![253; 17]].concat(),
    }
}

fn request(command: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend(0_u16.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(7_u64.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

fn noise(chance: &mut Chance, longest: u64) -> Vec<u8> {
    let length = 1 + chance.below(longest);
    let mut bytes = vec![0; usize::try_from(length).expect("a short run")];
    chance.fill(&mut bytes);
    bytes
}

fn pace(stream: &UnixStream) {
    let limit = Some(Duration::from_millis(20));
    stream
        .set_read_timeout(limit)
        .expect("a socket has options");
    stream
        .set_write_timeout(limit)
        .expect("a socket has options");
}

/// The other end may have hung up or stopped reading, and may.
fn say(stream: &mut impl Write, bytes: &[u8]) {
    match stream.write_all(bytes) {
        Ok(()) => {}
        Err(error) => assert!(
            matches!(
                error.kind(),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::WouldBlock
            ),
            "{error}"
        ),
    }
}

fn listen(stream: &mut impl Read) {
    let mut buffer = [0; 4096];
    while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {}
}

/// Too much at once, as some servers call it.
const EOVERFLOW: u32 = 75;
