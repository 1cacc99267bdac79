//! The clients people use, libnbd's and qemu's programs, against the codec.
//!
//! Each program that is not installed is named on stderr and its test passes without it.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, also in its helpers"
)]

mod nbd_memory_server;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nbd_memory_server::MemoryServer;
use nbd_memory_server::disk::{Disk, REFUSAL};
use rbd_protocol::nbd::{BlockSizes, RequestKind};

const MIB: usize = 1 << 20;
/// Long enough for any of these programs on a busy machine; only a hang takes longer.
const DEADLINE: Duration = Duration::from_secs(120);
/// The flag bits a test looks for on the wire.
const FUA: u16 = 1;

/// Debian's own, for which its libnbd bindings are built.
const PYTHON: &str = "/usr/bin/python3";

/// What a program said and whether it was content.
struct Outcome {
    success: bool,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// The standard output of a program that has to succeed.
    fn ok(self) -> String {
        assert!(self.success, "failed:\n{}\n{}", self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a program to its end; `None`, with a word on stderr, if it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<Outcome> {
    run_command(program, Command::new(program).args(arguments))
}

fn run_command(program: &str, command: &mut Command) -> Option<Outcome> {
    let directory = tempfile::tempdir().unwrap();
    let (stdout, stderr) = (directory.path().join("out"), directory.path().join("err"));
    let child = command
        .stdin(Stdio::null())
        .stdout(File::create(&stdout).unwrap())
        .stderr(File::create(&stderr).unwrap())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: {program} not installed");
        return None;
    };
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > DEADLINE {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{program} hangs: {}", read(&stderr));
        }
        thread::sleep(Duration::from_millis(5));
    };
    Some(Outcome {
        success: status.success(),
        code: status.code(),
        stdout: read(&stdout),
        stderr: read(&stderr),
    })
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned()
}

/// JSON, however a version of the program lays it out.
fn without_space(json: &str) -> String {
    json.split_whitespace().collect()
}

/// 4 MiB: data, a hole of 1 MiB, data.
fn image() -> Vec<u8> {
    let mut data: Vec<u8> = (1..=251).cycle().take(4 * MIB).collect();
    data[MIB..2 * MIB].fill(0);
    data
}

fn sectors() -> BlockSizes {
    BlockSizes::new(512, 4096, 1 << 25).unwrap()
}

fn server() -> MemoryServer {
    MemoryServer::start(Disk::new(image(), sectors()))
}

#[test]
fn nbdinfo_sees_size_flags_block_sizes_and_context() {
    let server = server();
    let Some(outcome) = run("nbdinfo", &["--json", &server.uri("r0")]) else {
        return;
    };
    let json = without_space(&outcome.ok());
    for expected in [
        "\"protocol\": \"newstyle-fixed\"",
        "\"structured\": true",
        "\"description\": \"volume 0 of r0\"",
        "\"contexts\": [\"base:allocation\"]",
        "\"is_read_only\": false",
        "\"is_rotational\": false",
        "\"can_cache\": false",
        "\"can_df\": true",
        "\"can_fast_zero\": true",
        "\"can_flush\": true",
        "\"can_fua\": true",
        "\"can_multi_conn\": true",
        "\"can_trim\": true",
        "\"can_zero\": true",
        "\"block_size_minimum\": 512",
        "\"block_size_preferred\": 4096",
        "\"block_size_maximum\": 33554432",
        "\"export-size\": 4194304",
    ] {
        assert!(
            json.contains(&without_space(expected)),
            "{expected} is missing in {json}"
        );
    }
}

#[test]
fn nbdinfo_lists_exports_that_would_be_refused() {
    let server = server();
    let Some(outcome) = run("nbdinfo", &["--list", "--json", &server.uri("")]) else {
        return;
    };
    let json = format!("{}{}", outcome.stdout, outcome.stderr);
    assert!(json.contains("\"export-name\": \"r0/0\""), "{json}");
    assert!(json.contains("r1/0"), "{json}");
}

#[test]
fn nbdinfo_maps_data_and_holes() {
    let server = server();
    let Some(outcome) = run("nbdinfo", &["--map", &server.uri("r0/0")]) else {
        return;
    };
    let map = outcome.ok();
    let lines: Vec<Vec<&str>> = map
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines,
        [
            ["0", "1048576", "0", "data"],
            ["1048576", "1048576", "3", "hole,zero"],
            ["2097152", "2097152", "0", "data"],
        ]
    );
    assert!(server.disk.count(RequestKind::BlockStatus, 0) > 0);
}

#[test]
fn refusal_reaches_the_person_at_libnbd_and_qemu() {
    let server = server();
    let uri = server.uri("r1/0");
    // libnbd shows a server's text only in its debug output.
    let mut nbdinfo = Command::new("nbdinfo");
    nbdinfo.env("LIBNBD_DEBUG", "1").arg(&uri);
    if let Some(outcome) = run_command("nbdinfo", &mut nbdinfo) {
        assert!(!outcome.success);
        assert!(outcome.stderr.contains(REFUSAL), "{}", outcome.stderr);
    }
    if let Some(outcome) = run("qemu-img", &["info", &uri]) {
        assert!(!outcome.success);
        assert!(outcome.stderr.contains(REFUSAL), "{}", outcome.stderr);
    }
}

#[test]
fn unknown_export_is_named_to_the_person_at_qemu() {
    let server = server();
    let Some(outcome) = run("qemu-img", &["info", &server.uri("r7/0")]) else {
        return;
    };
    assert!(!outcome.success);
    assert!(
        outcome.stderr.contains("no export is named \"r7/0\""),
        "{}",
        outcome.stderr
    );
}

#[test]
fn nbdcopy_reads_and_writes_the_same_bytes() {
    let server = server();
    let file = server.file("copy");
    let path = file.to_str().unwrap();
    let Some(outcome) = run("nbdcopy", &[&server.uri("r0/0"), path]) else {
        return;
    };
    outcome.ok();
    assert!(fs::read(&file).unwrap() == image(), "the copy differs");

    let target = MemoryServer::start(Disk::new(vec![0xff; 4 * MIB], sectors()));
    run("nbdcopy", &["--flush", path, &target.uri("r0/0")])
        .unwrap()
        .ok();
    assert!(target.disk.data() == image(), "what was written differs");
    assert!(target.disk.count(RequestKind::Flush, 0) > 0);
}

#[test]
fn nbdcopy_runs_many_requests_on_many_connections() {
    let server = MemoryServer::start(Disk::new(vec![0xff; 4 * MIB], sectors()));
    let source = server.file("source");
    fs::write(&source, image()).unwrap();
    let arguments = [
        "--connections=4",
        "--requests=64",
        "--request-size=4096",
        source.to_str().unwrap(),
    ];
    let uri = server.uri("r0/0");
    let Some(outcome) = run("nbdcopy", &[&arguments[..], &[&uri]].concat()) else {
        return;
    };
    outcome.ok();
    assert!(server.disk.data() == image(), "what was written differs");
}

#[test]
fn qemu_img_sees_size_and_map() {
    let server = server();
    let uri = server.uri("r0/0");
    let Some(outcome) = run("qemu-img", &["info", "--output=json", &uri]) else {
        return;
    };
    let info = outcome.ok();
    assert!(info.contains("\"virtual-size\": 4194304"), "{info}");
    let map = run("qemu-img", &["map", "--output=json", "-f", "raw", &uri])
        .unwrap()
        .ok();
    let hole = "\"start\": 1048576, \"length\": 1048576, \"depth\": 0, \"present\": true, \
                \"zero\": true, \"data\": false";
    assert!(
        map.contains(hole) || map.contains(&hole.replace("true, \"zero", "false, \"zero")),
        "{map}"
    );
}

#[test]
fn qemu_img_converts_in_and_out_and_compares() {
    let server = server();
    let uri = server.uri("r0/0");
    let qcow2 = server.file("copy.qcow2");
    let path = qcow2.to_str().unwrap();
    let convert = ["convert", "-f", "raw", "-O", "qcow2", &uri, path];
    let Some(outcome) = run("qemu-img", &convert) else {
        return;
    };
    outcome.ok();
    let compare = |uri: &str| run("qemu-img", &["compare", "-F", "qcow2", uri, path]).unwrap();
    compare(&uri).ok();

    let target = MemoryServer::start(Disk::new(vec![0xff; 4 * MIB], sectors()));
    assert!(
        !compare(&target.uri("r0/0")).success,
        "compare must see a difference"
    );
    let back = [
        "convert",
        "-n",
        "-f",
        "qcow2",
        "-O",
        "raw",
        path,
        &target.uri("r0/0"),
    ];
    run("qemu-img", &back).unwrap().ok();
    assert!(target.disk.data() == image(), "what was written differs");
}

#[test]
fn qemu_io_writes_with_fua_discards_zeroes_and_flushes() {
    let server = server();
    let commands = [
        "write -f -P 0x5a 0 64k",
        "discard 64k 64k",
        "write -z 128k 64k",
        "write -z -u 192k 64k",
        "flush",
        "read -P 0x5a 0 64k",
        "read -P 0 64k 192k",
    ];
    let uri = server.uri("r0/0");
    let mut arguments = vec!["-f", "raw", "-d", "unmap"];
    commands
        .iter()
        .for_each(|command| arguments.extend(["-c", command]));
    arguments.push(&uri);
    let Some(outcome) = run("qemu-io", &arguments) else {
        return;
    };
    let stdout = outcome.ok();
    assert!(!stdout.contains("failed"), "{stdout}");

    let mut expected = image();
    expected[..64 << 10].fill(0x5a);
    expected[64 << 10..256 << 10].fill(0);
    assert!(server.disk.data() == expected, "the disk differs");
    let seen = server.disk.seen();
    let has = |kind: RequestKind| seen.iter().any(|request| request.kind == kind);
    assert!(server.disk.count(RequestKind::Write, FUA) == 1, "{seen:?}");
    assert!(
        has(RequestKind::Trim) && has(RequestKind::WriteZeroes),
        "{seen:?}"
    );
    assert!(
        has(RequestKind::Flush) && has(RequestKind::Disconnect),
        "{seen:?}"
    );
    assert!(
        seen.iter().any(|request| request.flags.no_hole()),
        "{seen:?}"
    );
}

#[test]
fn read_only_export_cannot_be_opened_for_writing() {
    let mut disk = Disk::new(image(), sectors());
    disk.info.features.read_only = true;
    let server = MemoryServer::start(disk);
    let uri = server.uri("r0/0");
    let Some(outcome) = run("qemu-io", &["-f", "raw", "-c", "write 0 64k", &uri]) else {
        return;
    };
    assert!(!outcome.success);
    run(
        "qemu-io",
        &["-r", "-f", "raw", "-c", "read -P 0 1M 1M", &uri],
    )
    .unwrap()
    .ok();
    assert!(server.disk.data() == image());
}

#[test]
fn clients_keep_to_blocks_of_4096_when_told() {
    let mut disk = Disk::new(image(), BlockSizes::new(4096, 4096, 1 << 20).unwrap());
    disk.policy.require_block_size = true;
    let server = MemoryServer::start(disk);
    let uri = server.uri("r0/0");
    let arguments = [
        "-f",
        "raw",
        "-c",
        "write -P 7 512 512",
        "-c",
        "read 0 3M",
        &uri,
    ];
    let Some(outcome) = run("qemu-io", &arguments) else {
        return;
    };
    let stdout = outcome.ok();
    assert!(!stdout.contains("failed"), "{stdout}");
    let mut expected = image();
    expected[512..1024].fill(7);
    assert!(server.disk.data() == expected, "the disk differs");
    let ranges = server
        .disk
        .seen()
        .into_iter()
        .filter(|request| request.payload_len() > 0);
    assert!(
        ranges
            .into_iter()
            .all(|request| request.range.offset % 4096 == 0)
    );
}

#[test]
fn libnbd_gets_the_right_error_for_each_wrong_request_and_goes_on() {
    let sizes = BlockSizes::new(512, 4096, 1 << 20).unwrap();
    let server = MemoryServer::start(Disk::new(image(), sizes));
    let script = include_str!("nbd_memory_server/misbehave.py");
    let Some(outcome) = run(PYTHON, &["-c", script, &server.uri("r0/0")]) else {
        return;
    };
    if outcome.code == Some(77) {
        eprintln!("skipped: python3-libnbd not installed");
        return;
    }
    outcome.ok();
    let mut expected = image();
    expected[..512].fill(b'y');
    assert!(server.disk.data() == expected, "the disk differs");
}
