//! The daemon as a process: start, second daemon, signals, and what can be thrown at its socket.

#[expect(dead_code, reason = "each test program uses its part of the support")]
mod support;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use rbd_protocol::control::{RefusalCode, Reply, Request, frame};
use support::{Node, PATIENCE, read_reply, until};

#[test]
fn it_introduces_itself() {
    let node = Node::start("alpha");
    let reply = node.ask(&Request::Daemon);
    let expected = Reply::Daemon {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: node.pid(),
        node: "alpha".to_owned(),
    };
    assert_eq!(reply, expected);
    assert_eq!(
        node.ask(&Request::Status { resource: None }),
        Reply::Status(Vec::new())
    );
}

#[test]
fn only_its_owner_can_open_its_sockets() {
    let node = Node::start("alpha");
    let mode = |name: &str| {
        let path = node.run_dir().join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("rbdd.sock"), 0o600);
    assert_eq!(mode("nbd.sock"), 0o660);
    assert_eq!(mode("resources"), 0o700);
}

#[test]
fn a_second_daemon_is_refused_with_the_first_ones_pid_and_touches_nothing() {
    let node = Node::start("alpha");
    let second = node.command().stderr(Stdio::piped()).output().unwrap();
    assert_eq!(second.status.code(), Some(20));
    let text = String::from_utf8(second.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.contains(&format!("pid {}", node.pid())), "{text}");
    assert!(matches!(node.ask(&Request::Daemon), Reply::Daemon { .. }));
}

#[test]
fn a_log_that_nobody_reads_stops_nothing() {
    let mut node = Node::prepare("alpha");
    let (unread, log) = std::io::pipe().unwrap();
    node.run_with_log(log);
    // Each is a line of a hundred bytes; a pipe holds 64 KiB.
    for _ in 0..2000 {
        let resource = "nobody".to_owned();
        let reply = node.ask(&Request::Demote {
            resource,
            force: false,
        });
        assert!(matches!(reply, Reply::Refused(_)), "{reply:?}");
    }
    assert_eq!(node.end("-TERM").code(), Some(0));
    drop(unread);
}

#[test]
fn sigterm_and_sigint_end_it_with_exit_code_0_and_without_sockets() {
    let mut node = Node::start("alpha");
    for signal in ["-TERM", "-INT"] {
        assert_eq!(node.end(signal).code(), Some(0), "{}", node.log());
        assert!(!node.run_dir().join("rbdd.sock").exists());
        assert!(!node.run_dir().join("nbd.sock").exists());
        node.run();
    }
}

#[test]
fn what_a_killed_daemon_left_behind_does_not_keep_the_next_from_starting() {
    let mut node = Node::start("alpha");
    node.end("-KILL");
    assert!(node.run_dir().join("rbdd.sock").exists());
    node.run();
}

#[test]
fn a_run_directory_that_cannot_be_had_is_one_clear_line_and_exit_code_20() {
    let output = Command::new(env!("CARGO_BIN_EXE_rbdd"))
        .args(["--node", "alpha", "--run-dir", "/dev/null/run"])
        .env_remove("JOURNAL_STREAM")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(20));
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(
        text.contains("cannot create directory /dev/null/run"),
        "{text}"
    );
}

#[test]
fn a_wrong_command_line_has_exit_code_1_and_help_has_0() {
    let run = |argument| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rbdd"));
        command.arg(argument).output().unwrap()
    };
    assert_eq!(run("--nonsense").status.code(), Some(1));
    let help = run("--help");
    assert_eq!(help.status.code(), Some(0));
    assert!(
        String::from_utf8(help.stdout)
            .unwrap()
            .contains("--run-dir")
    );
    let version = String::from_utf8(run("--version").stdout).unwrap();
    assert_eq!(version, format!("rbdd {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn garbage_on_the_control_socket_is_refused_and_disturbs_nobody() {
    let node = Node::start("alpha");
    let good = frame::encode(&Request::Daemon).unwrap();
    let mut too_long = good.clone();
    too_long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut other_version = good.clone();
    other_version[4] = 99;
    let mut malformed = good.clone();
    malformed[12] = 0xff;
    let cases: [(&[u8], &str); 5] = [
        (b"GET / HTTP/1.1\r\n\r\n", "not a control frame"),
        (&[0; 4096], "not a control frame"),
        (&too_long, "control frame of 4294967295 bytes"),
        (&other_version, "control protocol version 99"),
        (&malformed, "malformed control message"),
    ];
    let mut bystander = node.socket();
    bystander.write_all(&good[..5]).unwrap();
    for (bytes, expected) in cases {
        let mut stream = node.socket();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        match read_reply(&mut stream) {
            Some(Reply::Refused(refusal)) => {
                assert_eq!(refusal.code, RefusalCode::Environment);
                assert!(refusal.reason.contains(expected), "{refusal:?}");
            }
            other => panic!("{expected}: {other:?}"),
        }
        // Closed, or reset because of what nobody read.
        assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    }
    bystander.write_all(&good[5..]).unwrap();
    assert!(matches!(
        read_reply(&mut bystander),
        Some(Reply::Daemon { .. })
    ));
}

#[test]
fn a_request_that_never_comes_to_its_end_is_given_up() {
    let node = Node::start("alpha");
    let good = frame::encode(&Request::Daemon).unwrap();
    let mut stream = node.socket();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&good[..good.len() - 1]).unwrap();
    match read_reply(&mut stream) {
        Some(Reply::Refused(refusal)) => assert!(refusal.reason.contains("no request within")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_truncated_request_ends_its_conversation_only() {
    let node = Node::start("alpha");
    let good = frame::encode(&Request::Status { resource: None }).unwrap();
    for length in 0..good.len() {
        let mut stream = node.socket();
        stream.write_all(&good[..length]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let reply = read_reply(&mut stream);
        assert!(matches!(reply, None | Some(Reply::Refused(_))));
    }
    assert!(matches!(node.ask(&Request::Daemon), Reply::Daemon { .. }));
}

#[test]
fn more_callers_than_it_takes_are_closed_and_it_recovers() {
    let node = Node::start("alpha");
    let mut callers: Vec<_> = (0..100).map(|_| node.socket()).collect();
    let closed = until(|| {
        callers.iter_mut().any(|caller| {
            caller.set_nonblocking(true).unwrap();
            matches!(caller.read(&mut [0]), Ok(0))
        })
    });
    assert!(closed);
    drop(callers);
    // Their places are free a moment later.
    assert!(until(|| matches!(
        node.try_ask(&Request::Daemon),
        Some(Reply::Daemon { .. })
    )));
}
