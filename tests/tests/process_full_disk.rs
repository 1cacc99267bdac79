//! A backing file system that runs full: root only, because it needs one of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use rbd_tests::nbd_client::{EIO, ENOSPC, Error};
use rbd_tests::process::{
    LoadOptions, PATIENCE, Pair, Setup, capture, find, is_root, lacks, run, skip,
};

#[test]
fn a_full_disk_under_the_primary_costs_that_disk_and_no_other_resource() {
    let name = "a_full_disk_under_the_primary_costs_that_disk_and_no_other_resource";
    let Some((mut pair, _full, other)) = prepare(name, "alpha") else {
        return;
    };
    pair.alpha.ok("primary --force");
    let mut client = pair.alpha.open();
    let mut refusal = None;
    for at in (0..28).map(|mib| mib << 20) {
        match client.write(at, &vec![7; 1 << 20]) {
            Ok(()) => {}
            Err(Error::Request(number)) => {
                refusal = Some(number);
                break;
            }
            Err(other) => panic!("the connection broke: {other}"),
        }
    }
    let status = pair.alpha.status();
    match refusal {
        Some(number) => assert!([EIO, ENOSPC].contains(&number), "error {number}"),
        // The peer has the data, so the client need not notice.
        None => assert_ne!(status.disk(), "UpToDate", "{}", status.text()),
    }
    assert!(pair.alpha.is_alive(), "the daemon has died");
    let other_status = pair.alpha.rbdadm(&["role", &other]);
    assert_eq!(other_status.code, Some(0), "{}", other_status.text());
    // The other resource is served as if nothing had happened.
    let promoted = pair.alpha.rbdadm(&["primary", "--force", &other]);
    assert_eq!(promoted.code, Some(0), "{}", promoted.text());
    drop(client);
}

#[test]
fn clients_do_not_notice_a_full_disk_under_the_secondary() {
    let name = "clients_do_not_notice_a_full_disk_under_the_secondary";
    let Some((mut pair, _full, _)) = prepare(name, "beta") else {
        return;
    };
    pair.alpha.ok("primary --force");
    pair.size_ledger();
    let load = pair.load("alpha", LoadOptions::default());
    pair.alpha.wait_for("the peer has lost its disk", |status| {
        !status.is_connected() || ["Failed", "Diskless"].contains(&status.peer_disk())
    });
    load.let_work(200);
    load.stop(&mut pair.ledger).assert_undisturbed();
    assert!(pair.beta.is_alive(), "the daemon has died");
    pair.verify("alpha");
}

/// Both nodes up and connected, one with its disk on a file system that is too small for it, and
/// a second resource on that node's daemon. Nothing is synchronised yet.
fn prepare(test: &str, node: &'static str) -> Option<(Pair, Full, String)> {
    if lacks(test, &["mount", "umount"]) {
        return None;
    }
    if !is_root() {
        skip(test, "only root may mount");
        return None;
    }
    let mut pair = Pair::new(Setup::default());
    let full = Full::mount(pair.directory().join("full"));
    let Some(full) = full else {
        skip(test, "tmpfs cannot be mounted here");
        return None;
    };
    // A sparse file that claims more than there is.
    let disk = full.at.join("disk");
    File::create(&disk)
        .and_then(|file| file.set_len(32 << 20))
        .expect("a sparse file");
    let old = pair.node(node).disk(0);
    for own in [&pair.alpha, &pair.beta] {
        own.reconfigure(&old.to_string_lossy(), &disk.to_string_lossy());
    }
    add_second_resource(&pair);
    for own in pair.nodes() {
        own.start();
        own.ok("create-md");
        own.ok("up");
    }
    for own in [&pair.alpha, &pair.beta] {
        own.wait_for("connected", |status| status.is_connected());
    }
    for verb in ["create-md", "up"] {
        let output = pair.node(node).rbdadm(&[verb, "second"]);
        assert_eq!(output.code, Some(0), "{}", output.text());
    }
    Some((pair, full, "second".to_owned()))
}

/// The same again, with other disks and ports.
fn add_second_resource(pair: &Pair) {
    for node in [&pair.alpha, &pair.beta] {
        let text = fs::read_to_string(node.config()).expect("a configuration");
        let start = text.find("resource r0").expect("the resource is in it");
        let mut second = text[start..]
            .replace("resource r0", "resource second")
            .replace("minor 1", "minor 101");
        for address in pair.addresses {
            let port = address.port();
            let moved = if port < 60_000 { port + 1 } else { port - 1 };
            second = second.replace(&format!(":{port}"), &format!(":{moved}"));
        }
        let disks: Vec<String> = second
            .lines()
            .filter_map(|line| line.trim().strip_prefix("disk "))
            .map(|line| line.trim_end_matches(';').to_owned())
            .collect();
        for (number, disk) in disks.iter().enumerate() {
            let moved = pair.directory().join(format!("second-{number}"));
            fs::write(&moved, vec![0; 8 << 20]).expect("a disk");
            second = second.replace(disk.as_str(), &moved.to_string_lossy());
        }
        fs::write(node.config(), text + &second).expect("a configuration");
    }
}

/// A file system of 12 MiB; unmounted when dropped.
struct Full {
    at: PathBuf,
}

impl Full {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).expect("a directory");
        let path = at.to_string_lossy().into_owned();
        let mut command = Command::new(find("mount")?);
        command.args(["-t", "tmpfs", "-o", "size=12m", "tmpfs", &path]);
        (capture(&mut command, PATIENCE).code == Some(0)).then_some(Self { at })
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let path: &Path = &self.at;
        // Lazily: a daemon still has its disk open. It must be gone before the directory it is in.
        run("umount", &["--lazy", &path.to_string_lossy()]);
    }
}
