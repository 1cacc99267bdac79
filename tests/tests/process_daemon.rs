//! The daemon as a program: what it says when it cannot start, and what it leaves behind.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rbd_tests::process::{Pair, Setup, binary, capture, find, skip};

#[test]
fn a_second_daemon_is_refused_with_the_first_one_s_pid() {
    let mut pair = Pair::new(Setup::default());
    pair.alpha.start();
    let output = capture(&mut pair.alpha.daemon_command(), SOON);
    assert_eq!(output.code, Some(20), "{}", output.text());
    let pid = pair.alpha.pid().to_string();
    assert!(output.stderr.contains(&pid), "{}", output.text());
    assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.text());
    // And the first one did not notice.
    pair.alpha.ok("create-md");
    pair.alpha.ok("up");
}

#[test]
fn without_io_uring_the_daemon_says_so_in_one_sentence_and_stops() {
    let name = "without_io_uring_the_daemon_says_so_in_one_sentence_and_stops";
    if !cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        return skip(name, "the filter is for two architectures only");
    }
    let Some(python) = find("python3") else {
        return skip(name, "python3 not installed");
    };
    let pair = Pair::new(Setup::default());
    let daemon = pair.alpha.daemon_command();
    let mut command = Command::new(python);
    command.args(["-c", WITHOUT_IO_URING]);
    command.arg(binary("rbdd"));
    // What comes after the program in the usual command, whoever starts it.
    let words = daemon.get_args().skip_while(|word| *word != "--config");
    command.args(words).stdin(Stdio::null());
    let output = capture(&mut command, SOON);
    assert_eq!(output.code, Some(20), "{}", output.text());
    assert!(output.stderr.contains("io_uring"), "{}", output.text());
    assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.text());
}

#[test]
fn a_run_directory_that_cannot_be_written_is_named() {
    let pair = Pair::new(Setup::default());
    let place = pair.directory().join("file");
    fs::write(&place, "in the way").expect("a file");
    let mut command = Command::new(binary("rbdd"));
    command.args(["--node", "alpha", "--run-dir"]);
    command.arg(place.join("run")).arg("--state-dir");
    command.arg(pair.directory());
    let output = capture(&mut command, SOON);
    assert_eq!(output.code, Some(20), "{}", output.text());
    assert!(output.stderr.contains("file/run"), "{}", output.text());
}

#[test]
fn without_a_daemon_commands_say_so_and_exit_with_20() {
    let pair = Pair::new(Setup::default());
    for words in ["up", "status", "primary", "down", "role"] {
        let output = pair.alpha.verb(words);
        assert_eq!(output.code, Some(20), "{words}: {}", output.text());
        assert!(output.stderr.contains("rbdd"), "{words}: {}", output.text());
    }
}

#[test]
fn a_command_to_a_frozen_daemon_ends_within_its_timeout() {
    let mut pair = Pair::new(Setup::default());
    pair.alpha.start();
    pair.alpha.pause();
    let output = pair.alpha.verb("--timeout 1 role");
    assert_eq!(output.code, Some(20), "{}", output.text());
    assert!(!output.stderr.is_empty(), "it must say why");
}

/// A cluster that has given a promotion up may have promoted the other node meanwhile.
#[test]
fn an_order_that_nobody_waits_for_any_more_is_not_carried_out() {
    let mut pair = Pair::synced(Setup::default());
    pair.alpha.pause();
    let output = pair.alpha.verb("--timeout 1 primary");
    assert_eq!(output.code, Some(20), "{}", output.text());
    pair.alpha.resume();
    pair.alpha.wait_for_log("has gone without waiting for it");
    assert_eq!(pair.alpha.ok("role").trim(), "Secondary");
    pair.finish();
}

#[test]
fn an_orderly_stop_leaves_no_socket_and_the_next_start_resumes() {
    let mut pair = Pair::synced(Setup::default());
    pair.alpha.stop();
    for socket in ["rbdd.sock", "nbd.sock"] {
        let path = pair.alpha.run_directory().join(socket);
        assert!(!path.exists(), "{} is still there", path.display());
    }
    pair.alpha.start();
    pair.wait_in_sync();
    pair.finish();
}

#[test]
fn what_another_version_has_remembered_is_brought_up_again_by_rbdadm() {
    let mut pair = Pair::synced(Setup::default());
    let file = pair.alpha.run_directory().join("resources/r0");
    pair.alpha.kill();
    let bytes = fs::read(&file).expect("what was up is remembered");
    assert!(bytes.starts_with(b"layout "), "a layout comes first");
    let line = bytes.iter().position(|byte| *byte == b'\n');
    let rest = &bytes[line.expect("there are lines")..];
    let changed = [b"layout of-another-version", rest].concat();
    fs::write(&file, changed).expect("it can be written");
    pair.alpha.start();
    pair.wait_in_sync();
    let bytes = fs::read(&file).expect("it is remembered again");
    let is_old = bytes.starts_with(b"layout of-another-version");
    assert!(!is_old, "it is remembered as this version does");
    pair.finish();
}

const SOON: Duration = Duration::from_secs(30);

/// Lets `io_uring_setup` (425 on every architecture) fail with EPERM, then becomes the program.
const WITHOUT_IO_URING: &str = r"
import ctypes, os, struct, sys
EPERM, ALLOW, ERRNO = 1, 0x7fff0000, 0x00050000
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, ERRNO | EPERM), (0x06, 0, 0, ALLOW)]
program = b''.join(struct.pack('HBBI', *line) for line in code)
buffer = ctypes.create_string_buffer(program)
class Filter(ctypes.Structure):
    _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
filter = Filter(len(code), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.byref(filter), 0, 0):
    sys.exit('no seccomp: %d' % ctypes.get_errno())
os.execv(sys.argv[1], sys.argv[1:])
";
