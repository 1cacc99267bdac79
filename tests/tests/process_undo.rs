//! What a split brain's loser gives up, kept in a file: `resolve --save` and `undo-file`.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rbd_protocol::control::frame::{HEADER_BYTES, body_length, decode, encode};
use rbd_protocol::control::{Changes, RefusalCode, Reply, Request, ResourceStatus};
use rbd_protocol::ids::VolumeNumber;
use rbd_tests::process::{Meta, Node, PATIENCE, Pair, Setup, binary, capture};

#[test]
fn the_loser_s_changes_are_in_the_file_and_come_back_onto_a_copy() {
    let pair = meet_split(Setup::default());
    let (lost, file) = (image(&pair.beta, 0), pair.directory().join("undo"));
    let command = format!("resolve --keep alpha --save {}", file.display());
    let dry = pair.beta.ok(&format!("{command} --dry-run"));
    assert!(dry.contains("would take at most 64 KiB"), "{dry}");
    assert!(!file.exists());
    let said = pair.beta.ok(&command);
    assert!(said.contains("64 KiB saved in "), "{said}");
    pair.wait_in_sync();
    let listed = plain(&pair.beta, &["undo-file", text(&file)], 0);
    assert!(listed.contains("r0 as it was on beta"), "{listed}");
    assert!(listed.contains("64 KiB of"), "{listed}");
    assert!(listed.contains("in 16 run(s), changed since"), "{listed}");

    let winner = fs::read(pair.alpha.disk(0)).expect("it can be read");
    let copy = copy_of_winner(&pair);
    plain(
        &pair.beta,
        &["undo-file", text(&file), "--to", text(&copy)],
        0,
    );
    let brought_back = fs::read(&copy).expect("it can be read");
    for (at, block) in brought_back.chunks(4096).enumerate() {
        let is_beta_s = at % 256 == 0 && at / 256 < 16;
        let expected = if is_beta_s { &lost } else { &winner };
        assert_eq!(block, &expected[at * 4096..][..block.len()], "block {at}");
    }
    finish(pair);
}

#[test]
fn a_whole_copy_is_the_loser_s_data_as_it_was() {
    let pair = meet_split(Setup::default().volumes(&[Meta::Internal, Meta::External]));
    let lost: Vec<_> = (0..2).map(|volume| image(&pair.beta, volume)).collect();
    let file = pair.directory().join("undo");
    let command = format!("resolve --keep alpha --whole --save {}", file.display());
    pair.beta.ok(&command);
    pair.wait_in_sync();
    for (number, lost) in ["0", "1"].into_iter().zip(&lost) {
        let copy = copy_of_winner(&pair);
        let words = ["undo-file", text(&file), "--to", text(&copy)];
        let said = plain(&pair.beta, &words, 1);
        assert!(said.contains("--volume"), "{said}");
        plain(&pair.beta, &[&words[..], &["--volume", number]].concat(), 0);
        let brought_back = fs::read(&copy).expect("it can be read");
        assert!(brought_back[..lost.len()] == lost[..], "volume {number}");
    }
    finish(pair);
}

#[test]
fn a_loser_without_the_room_for_the_file_gives_up_nothing() {
    let pair = meet_split(Setup::default());
    let (lost, file) = (image(&pair.beta, 0), pair.directory().join("undo"));
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$@\"", "sh"])
        .arg(binary("rbdadm"))
        .arg("--config")
        .arg(pair.beta.config())
        .args(["--node", "beta"]);
    command.arg("--run-dir").arg(pair.beta.run_directory());
    command.args(["resolve", "r0", "--keep", "alpha", "--save"]);
    let output = capture(command.arg(&file), PATIENCE);
    assert_eq!(output.code, Some(20), "{}", output.text());
    assert!(
        output.stderr.contains("nothing is given up"),
        "{}",
        output.text()
    );
    assert!(!file.exists());
    assert_eq!(pair.beta.status().connection(), "StandAlone");
    pair.beta.ok("primary");
    assert!(image(&pair.beta, 0) == lost);
}

#[test]
fn nothing_that_exists_is_overwritten_and_only_the_loser_can_save() {
    let pair = meet_split(Setup::default());
    let file = pair.directory().join("undo");
    fs::write(&file, "precious").expect("it can be written");
    let command = format!("resolve --keep alpha --save {}", file.display());
    for more in ["", " --dry-run"] {
        let said = pair.beta.refused(&format!("{command}{more}"), 10);
        assert!(said.contains("exists already"), "{said}");
    }
    assert_eq!(fs::read(&file).expect("it is there"), b"precious");
    assert_eq!(pair.beta.status().role(), "Primary");
    let said = plain(&pair.beta, &["undo-file", text(&file)], 20);
    assert!(said.contains("not an undo file"), "{said}");
    let said = pair.alpha.refused(&command, 1);
    assert!(said.contains("on beta: rbdadm resolve r0"), "{said}");
    for node in [&pair.alpha, &pair.beta] {
        assert_eq!(node.status().connection(), "StandAlone");
    }
}

#[test]
fn an_undo_file_is_not_written_past_the_resource() {
    let pair = meet_split(Setup::default());
    let file = pair.directory().join("undo");
    pair.beta
        .ok(&format!("resolve --keep alpha --save {}", file.display()));
    pair.wait_in_sync();
    let disk = pair.beta.disk(0);
    let words = ["undo-file", text(&file), "--to", text(&disk)];
    let said = plain(&pair.beta, &words, 10);
    assert!(said.contains("in use by rbdd"), "{said}");
    pair.alpha.ok("secondary");
    pair.beta.ok("down");
    let said = plain(&pair.beta, &words, 1);
    assert!(said.contains("is the backing disk of r0/0"), "{said}");
    let small = pair.directory().join("small");
    fs::write(&small, [0; 4096]).expect("it can be written");
    let words = ["undo-file", text(&file), "--to", text(&small)];
    let said = plain(&pair.beta, &words, 1);
    assert!(said.contains("give a copy of its disk"), "{said}");
}

#[test]
fn an_order_for_what_was_saved_is_refused_when_more_has_been_written_since() {
    let pair = meet_split(Setup::default());
    assert_eq!(changes(&pair.beta), Err(RefusalCode::DiscardWhilePrimary));
    pair.beta.ok("secondary");
    wait_until_refused(&pair.beta);
    let before = changes(&pair.beta).expect("a Secondary tells");
    pair.beta.ok("primary");
    let mut client = pair.beta.open();
    // A block that is marked already: neither the generation nor the marks tell of it.
    client.write(0, &[6; 4096]).expect("a write");
    drop(client.disconnect());
    pair.beta.ok("secondary");
    wait_until_refused(&pair.beta);
    let refused = resolve(&pair.beta, &before);
    assert_eq!(refused, Err(RefusalCode::StateConcurrent));
    assert_eq!(pair.beta.status().connection(), "StandAlone");
    let now = changes(&pair.beta).expect("a Secondary tells");
    assert_eq!(now.runs, before.runs);
    assert_eq!(resolve(&pair.beta, &now), Ok(()));
    pair.wait_in_sync();
    finish(pair);
}

/// A split brain both nodes have noticed: both are Primary, both have written, partly the same
/// blocks.
fn meet_split(setup: Setup) -> Pair {
    let pair = Pair::primary(setup.proxied());
    pair.cut();
    for node in [&pair.alpha, &pair.beta] {
        node.wait_for("alone", |status| !status.is_connected());
    }
    pair.beta.ok("primary");
    for (node, step, value) in [(&pair.beta, 1 << 20, 5), (&pair.alpha, 3 << 19, 9)] {
        let mut client = node.open();
        for at in 0..16 {
            client.write(at * step, &[value; 4096]).expect("a write");
        }
        drop(client.disconnect());
        if let Ok(mut client) = node.try_open(1) {
            client.write(1 << 20, &[value + 1; 8192]).expect("a write");
            drop(client.disconnect());
        }
    }
    pair.mend();
    for node in [&pair.alpha, &pair.beta] {
        wait_until_refused(node);
    }
    pair
}

/// Both disks are the same.
fn finish(mut pair: Pair) {
    for node in pair.nodes() {
        node.stop();
    }
    pair.assert_equal();
}

fn wait_until_refused(node: &Node) {
    node.wait_for("StandAlone", |status| status.connection() == "StandAlone");
}

/// Everything a client of a Primary reads from a volume.
fn image(node: &Node, volume: usize) -> Vec<u8> {
    let mut client = node
        .try_open(volume)
        .unwrap_or_else(|error| panic!("{}: cannot open: {error}", node.name()));
    let size = client.size();
    let mut image = Vec::new();
    while (image.len() as u64) < size {
        let at = image.len() as u64;
        let length = u32::try_from((size - at).min(1 << 20)).expect("a piece is short");
        image.extend(client.read(at, length).expect("a read"));
    }
    drop(client.disconnect());
    image
}

fn copy_of_winner(pair: &Pair) -> PathBuf {
    let copy = pair.directory().join("copy");
    fs::copy(pair.alpha.disk(0), &copy).expect("it can be copied");
    copy
}

/// Gives a command as it is, which must end with this code, and returns what it said.
fn plain(node: &Node, words: &[&str], code: i32) -> String {
    let output = node.rbdadm(words);
    assert_eq!(output.code, Some(code), "{words:?}: {}", output.text());
    output.text()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("test directories have plain names")
}

fn changes(node: &Node) -> Result<Changes, RefusalCode> {
    let request = Request::Changes {
        resource: "r0".to_owned(),
        peer: "alpha".to_owned(),
        volume: VolumeNumber(0),
        from: 0,
    };
    match ask(node, &request) {
        Reply::Changes(changes) => Ok(changes),
        Reply::Refused(refusal) => Err(refusal.code),
        other => panic!("{other:?}"),
    }
}

/// The order that keeps alpha's data, for what beta is now, and for what was saved.
fn resolve(node: &Node, saved: &Changes) -> Result<(), RefusalCode> {
    let status = status(node);
    let refused = status.connections[0].refused.as_ref();
    let request = Request::Resolve {
        resource: "r0".to_owned(),
        peer: "alpha".to_owned(),
        keep_own: false,
        shown: refused.expect("a split brain").shown(status.tenure),
        saved: vec![saved.standing],
    };
    match ask(node, &request) {
        Reply::Done => Ok(()),
        Reply::Refused(refusal) => Err(refusal.code),
        other => panic!("{other:?}"),
    }
}

fn status(node: &Node) -> ResourceStatus {
    let request = Request::Status {
        resource: Some("r0".to_owned()),
    };
    match ask(node, &request) {
        Reply::Status(mut all) => all.remove(0),
        other => panic!("{other:?}"),
    }
}

fn ask(node: &Node, request: &Request) -> Reply {
    let socket = node.run_directory().join("rbdd.sock");
    let mut stream = UnixStream::connect(socket).expect("the daemon listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let frame = encode(request).expect("it is short");
    stream.write_all(&frame).expect("it is read");
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).expect("an answer");
    let mut body = vec![0; body_length(&header).expect("a frame")];
    stream.read_exact(&mut body).expect("all of it");
    decode(&body).expect("a reply")
}
