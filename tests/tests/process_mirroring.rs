//! Whatever a client writes is on both nodes, whichever client it is and wherever the metadata
//! lies.

use std::fs;
use std::thread;

use rbd_tests::check::first_difference;
use rbd_tests::nbd_client::Client;
use rbd_tests::process::{Chance, LoadOptions, Meta, Pair, Setup, lacks, run};

#[test]
fn everything_clients_write_side_by_side_is_on_both_nodes() {
    mirrors(Setup::default());
}

#[test]
fn external_metadata_mirrors_as_well() {
    mirrors(Setup::default().volumes(&[Meta::External]));
}

#[test]
fn metadata_in_a_slot_of_a_shared_file_mirrors_as_well() {
    mirrors(Setup::default().volumes(&[Meta::Indexed(1), Meta::Indexed(0)]));
}

#[test]
fn two_volumes_of_a_resource_do_not_touch_each_other() {
    let pair = Pair::primary(Setup::default().volumes(&[Meta::Internal, Meta::External]));
    let (mut first, mut second) = (
        pair.alpha.try_open(0).expect("volume 0 is served"),
        pair.alpha.try_open(1).expect("volume 1 is served"),
    );
    let at = 1 << 20;
    first.write_durably(at, &[1; 8192]).expect("a write");
    second.write_durably(at, &[2; 8192]).expect("a write");
    assert_eq!(first.read(at, 8192).expect("a read"), [1; 8192]);
    assert_eq!(second.read(at, 8192).expect("a read"), [2; 8192]);
    drop((first, second));
    stop_and_compare(pair);
}

#[test]
fn nbdcopy_gets_out_what_it_brought_in() {
    let name = "nbdcopy_gets_out_what_it_brought_in";
    if lacks(name, &["nbdcopy"]) {
        return;
    }
    let pair = Pair::primary(Setup::default());
    let (brought, got) = (pair.directory().join("in"), pair.directory().join("out"));
    fs::write(&brought, noise(pair.alpha.status().size())).expect("a file");
    let uri = pair.alpha.uri(0);
    run("nbdcopy", &["--flush", text(&brought), &uri]);
    run("nbdcopy", &[&uri, text(&got)]);
    assert_same(&brought, &got);
    assert_same(&brought, &pair.beta.disk(0));
    stop_and_compare(pair);
}

#[test]
fn qemu_img_finds_what_it_converted_unchanged_on_the_other_node() {
    let name = "qemu_img_finds_what_it_converted_unchanged_on_the_other_node";
    if lacks(name, &["qemu-img"]) {
        return;
    }
    let pair = Pair::primary(Setup::default());
    let image = pair.directory().join("image");
    // Holes and zeroes make it use more than plain writes.
    let mut bytes = noise(pair.alpha.status().size());
    for piece in bytes.chunks_mut(1 << 20).skip(1).step_by(3) {
        piece.fill(0);
    }
    fs::write(&image, bytes).expect("a file");
    let (image, raw) = (text(&image), ["-f", "raw", "-O", "raw"]);
    let mut convert = vec!["convert", "-n"];
    convert.extend(raw);
    let alpha = pair.alpha.uri(0);
    convert.extend([image, &alpha]);
    run("qemu-img", &convert);
    run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", image, &alpha],
    );
    pair.demote("alpha");
    pair.beta.ok("primary");
    let beta = pair.beta.uri(0);
    run(
        "qemu-img",
        &["compare", "-f", "raw", "-F", "raw", image, &beta],
    );
    stop_and_compare(pair);
}

#[test]
fn qemu_io_reads_back_patterns_zeroes_and_what_it_discarded_alike_on_both_nodes() {
    let name = "qemu_io_reads_back_patterns_zeroes_and_what_it_discarded_alike_on_both_nodes";
    if lacks(name, &["qemu-io"]) {
        return;
    }
    let pair = Pair::primary(Setup::default());
    let uri = pair.alpha.uri(0);
    let commands = [
        "write -P 0x11 0 8M",
        "write -P 0x22 1M 4k",
        "write -f -P 0x33 4097k 512",
        "write -z 2M 128k",
        "write -z -u 3M 64k",
        "discard 5M 1M",
        "discard 7000k 3k",
        "aio_write -P 0x44 6M 64k",
        "aio_write -P 0x55 6208k 64k",
        "aio_flush",
        "flush",
    ];
    let mut arguments = vec!["-f", "raw"];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    arguments.push(&uri);
    run("qemu-io", &arguments);
    pair.demote("alpha");
    pair.beta.ok("primary");
    let uri = pair.beta.uri(0);
    let commands = [
        "read -P 0x11 0 1M",
        "read -P 0x22 1M 4k",
        "read -P 0x33 4097k 512",
        "read -P 0 2M 128k",
        "read -P 0 3M 64k",
        "read -P 0x44 6M 64k",
        "read -P 0x55 6208k 64k",
        "read -P 0x11 7M 1M",
    ];
    let mut arguments = vec!["-f", "raw"];
    arguments.extend(commands.iter().flat_map(|command| ["-c", command]));
    arguments.push(&uri);
    let printed = run("qemu-io", &arguments);
    // It reports a wrong pattern without failing.
    assert!(
        !printed.contains("Pattern verification failed"),
        "{printed}"
    );
    stop_and_compare(pair);
}

#[test]
fn fio_verifies_what_it_wrote_at_random() {
    let name = "fio_verifies_what_it_wrote_at_random";
    if lacks(name, &["fio"]) {
        return;
    }
    let pair = Pair::primary(Setup::default());
    let uri = format!("--uri={}", pair.alpha.uri(0));
    let fio = [
        "--name=verified",
        "--ioengine=nbd",
        &uri,
        "--rw=randwrite",
        "--bsrange=512-128k",
        "--size=24M",
        "--iodepth=32",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--fsync=64",
        "--output-format=terse",
    ];
    let state = pair.directory();
    let output = rbd_tests::process::capture(
        std::process::Command::new("fio")
            .args(fio)
            .current_dir(state),
        std::time::Duration::from_secs(120),
    );
    assert_eq!(output.code, Some(0), "{}", output.text());
    stop_and_compare(pair);
}

#[test]
fn flushes_and_durable_writes_succeed_with_and_without_a_peer() {
    let mut pair = Pair::primary(Setup::default());
    for connected in [true, false] {
        if !connected {
            pair.beta.kill();
            pair.alpha
                .wait_for("alone", |status| !status.is_connected());
        }
        let mut client = pair.alpha.open();
        client.write(0, &[7; 4096]).expect("a write");
        client.flush().expect("a flush");
        client.write_durably(8192, &[8; 512]).expect("a write");
    }
    pair.beta.start();
    pair.wait_in_sync();
    stop_and_compare(pair);
}

#[test]
fn overlapping_writes_of_several_clients_end_alike_on_both_nodes() {
    let pair = Pair::primary(Setup::default());
    let clients: Vec<Client> = (0..4).map(|_| pair.alpha.open()).collect();
    thread::scope(|scope| {
        for (mut client, number) in clients.into_iter().zip(1_u8..) {
            scope.spawn(move || {
                let mut chance = Chance::new(u64::from(number));
                for _ in 0..600 {
                    // All in the same few blocks, so that nearly every write meets another.
                    let sectors = 1 + chance.below(32);
                    let offset = chance.below(96 - sectors) * 512;
                    let length = usize::try_from(sectors * 512).expect("a short write");
                    client
                        .write(offset, &vec![number; length])
                        .expect("a write");
                }
            });
        }
    });
    stop_and_compare(pair);
}

#[test]
fn forty_clients_at_once_are_all_served() {
    let mut pair = Pair::primary(Setup::default());
    pair.share_ledger_among(40);
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(4000);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}

fn mirrors(setup: Setup) {
    let mut pair = Pair::primary(setup);
    let load = pair.load("alpha", LoadOptions::default());
    load.let_work(2000);
    load.stop(&mut pair.ledger).assert_undisturbed();
    pair.verify("alpha");
    pair.finish();
}

/// For what was written by others, of which the ledger knows nothing.
fn stop_and_compare(mut pair: Pair) {
    for node in pair.nodes() {
        node.stop();
    }
    pair.assert_equal();
}

fn assert_same(image: &std::path::Path, other: &std::path::Path) {
    let length = fs::metadata(image).expect("it was written").len();
    let difference = first_difference(image, other, length).expect("both can be read");
    assert_eq!(difference, None, "{} differs", other.display());
}

fn noise(length: u64) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(length).expect("a small volume")];
    Chance::new(1).fill(&mut bytes);
    bytes
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
