//! The story the demo tells, step by step.
//!
//! Every claim it prints has been checked just before: a demo that only looks good is worthless.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::application::Application;
use super::node::{EXPORT, Node, RESOURCE};
use super::pattern::{first_difference, stamped};
use crate::nbd_client::{Client, Error};
use crate::process;

/// Tells it; the error is the first thing that was not as it should be.
pub(super) fn tell(alpha: &mut Node, beta: &mut Node, directory: &Path) -> Result<(), String> {
    introduce(alpha, beta, directory);
    chapter("two nodes, each with a disk full of something else");
    fill(&alpha.disk(), 1)?;
    fill(&beta.disk(), 2)?;
    for node in [&mut *alpha, &mut *beta] {
        node.start()?;
        node.rbdadm(&["create-md", RESOURCE])?;
        node.rbdadm(&["up", RESOURCE])?;
    }
    let mut application = initial_sync(alpha, beta)?;
    real_client(alpha, &mut application, directory)?;
    secondary_refuses_clients(beta)?;
    peer_is_cut_off(alpha, beta, &mut application)?;
    let application = peer_crashes(alpha, beta, application)?;
    let mut application = fail_over(alpha, beta, application)?;
    old_primary_returns(alpha, beta, &mut application)?;
    compare(alpha, beta, &application)
}

fn introduce(alpha: &Node, beta: &Node, directory: &Path) {
    println!(
        "\nEverything is in {}; it is removed at the end.",
        directory.display()
    );
    println!("`{}$ rbdadm …` is short for", alpha.name());
    println!(
        "  rbdadm --config {0}/rbd.conf --node {1} --run-dir {0}/{1}/run …",
        directory.display(),
        alpha.name()
    );
    println!(
        "and `{}$ …` is the same for the other node (--verbose shows all).",
        beta.name()
    );
    if let Ok(text) = fs::read_to_string(directory.join("rbd.conf")) {
        println!("\n-- rbd.conf\n{text}--");
    }
}

fn initial_sync(alpha: &Node, beta: &Node) -> Result<Application, String> {
    chapter("the peers find each other; one is declared good; the other is synced from it");
    alpha.rbdadm(&["wait-connect", RESOURCE])?;
    alpha.rbdadm(&["status", RESOURCE])?;
    alpha.rbdadm(&["primary", "--force", RESOURCE])?;
    settle(alpha, beta)?;
    alpha.rbdadm(&["status", RESOURCE])?;
    let size = usize::try_from(alpha.seen()?.size).map_err(|_| "the device is too large")?;
    let image = head(&alpha.disk(), size)?;
    let mut application = Application::new(image);
    let mut client = open(alpha)?;
    application.verify(&mut client)?;
    println!(
        "\nThe device has {size} bytes and holds what was on {}'s disk.",
        alpha.name()
    );
    Ok(application)
}

fn real_client(
    alpha: &Node,
    application: &mut Application,
    directory: &Path,
) -> Result<(), String> {
    chapter("a client writes");
    let uri = format!(
        "nbd+unix:///{EXPORT}?socket={}",
        alpha.nbd_socket().display()
    );
    let data = stamped(3, 0, COPIED);
    let file = directory.join("file");
    fs::write(&file, &data).map_err(|error| format!("cannot write a file: {error}"))?;
    let mut command = if process::find_program("nbdcopy").is_some() {
        let mut command = Command::new("nbdcopy");
        command.arg("--flush").arg(&file).arg(&uri);
        command
    } else if process::find_program("qemu-img").is_some() {
        let mut command = Command::new("qemu-img");
        command
            .args(["convert", "-n", "-f", "raw", "-O", "raw"])
            .arg(&file)
            .arg(&uri);
        command
    } else {
        println!("Neither nbdcopy nor qemu-img is installed; the demo's own client writes alone.");
        return own_client(alpha, application);
    };
    println!("\n$ {}", process::show(&command));
    let answer = process::capture(&mut command, CLIENT_DEADLINE)?;
    print!("{}{}", answer.stdout, answer.stderr);
    if !answer.status.success() {
        return Err(format!("the client ended with {}", answer.status));
    }
    application.note(0, &data);
    own_client(alpha, application)
}

fn own_client(alpha: &Node, application: &mut Application) -> Result<(), String> {
    let mut client = open(alpha)?;
    application.write_many(&mut client, WRITES)?;
    application.verify(&mut client)?;
    println!("\n{WRITES} writes at random places, and all of it reads back as written.");
    client.disconnect().map_err(|error| error.to_string())
}

fn secondary_refuses_clients(beta: &Node) -> Result<(), String> {
    match beta.open() {
        Ok(_) => Err(format!("{} is Secondary but let a client in", beta.name())),
        Err(Error::Refused(reason)) => {
            println!(
                "A client that tries {} instead is told: {reason}",
                beta.name()
            );
            Ok(())
        }
        Err(error) => Err(format!(
            "{} did not refuse, but broke: {error}",
            beta.name()
        )),
    }
}

fn peer_is_cut_off(alpha: &Node, beta: &Node, application: &mut Application) -> Result<(), String> {
    chapter("the peer is cut off, and returns");
    alpha.rbdadm(&["disconnect", RESOURCE])?;
    application.write_many(&mut open(alpha)?, WRITES)?;
    println!("\nThe application wrote on, {WRITES} times.");
    alpha.rbdadm(&["status", RESOURCE])?;
    alpha.rbdadm(&["connect", RESOURCE])?;
    alpha.rbdadm(&["wait-connect", RESOURCE])?;
    settle(alpha, beta)
}

fn peer_crashes(
    alpha: &Node,
    beta: &mut Node,
    application: Application,
) -> Result<Application, String> {
    chapter("the peer's daemon is killed under load, and returns under load");
    let background = application.in_background(open(alpha)?);
    background.let_write(WRITES)?;
    beta.kill();
    background.let_write(WRITES)?;
    alpha.rbdadm(&["status", RESOURCE])?;
    beta.start()?;
    beta.rbdadm(&["up", RESOURCE])?;
    settle(alpha, beta)?;
    let written = background.written();
    let ended = background.stop()?;
    if let Some(failure) = ended.failure {
        return Err(format!("the application saw an error: {failure}"));
    }
    println!(
        "\nThe application wrote {written} times meanwhile and saw no error; its longest wait \
         was {} ms.",
        ended.longest.as_millis()
    );
    alpha.rbdadm(&["status", RESOURCE])?;
    Ok(ended.application)
}

fn fail_over(
    alpha: &mut Node,
    beta: &Node,
    application: Application,
) -> Result<Application, String> {
    chapter("fail-over: the Primary's daemon is killed under load, the other node takes over");
    let background = application.in_background(open(alpha)?);
    background.let_write(WRITES)?;
    alpha.kill();
    let ended = background.join()?;
    let Some(failure) = ended.failure else {
        return Err("the application did not notice that its server was killed".to_owned());
    };
    println!("The application lost its server ({failure}).");
    beta.wait_until("alone", |seen| !seen.is_connected())?;
    beta.rbdadm(&["primary", RESOURCE])?;
    beta.rbdadm(&["status", RESOURCE])?;
    let mut application = ended.application;
    let mut client = open(beta)?;
    application.verify(&mut client)?;
    println!("\nEvery write that had been answered is there.");
    application.write_many(&mut client, WRITES)?;
    println!(
        "The application wrote on through {}, {WRITES} times.",
        beta.name()
    );
    Ok(application)
}

fn old_primary_returns(
    alpha: &mut Node,
    beta: &Node,
    application: &mut Application,
) -> Result<(), String> {
    chapter("the old Primary returns, is resynced, and takes its role back");
    alpha.start()?;
    alpha.rbdadm(&["up", RESOURCE])?;
    alpha.rbdadm(&["wait-connect", RESOURCE])?;
    settle(beta, alpha)?;
    beta.rbdadm(&["status", RESOURCE])?;
    beta.rbdadm(&["secondary", RESOURCE])?;
    alpha.rbdadm(&["primary", RESOURCE])?;
    application.verify(&mut open(alpha)?)?;
    println!("\nEverything reads back through {} as well.", alpha.name());
    alpha.rbdadm(&["secondary", RESOURCE])
}

fn compare(alpha: &mut Node, beta: &mut Node, application: &Application) -> Result<(), String> {
    chapter("both are taken down, and their disks compared");
    for node in [&mut *alpha, &mut *beta] {
        node.rbdadm(&["down", RESOURCE])?;
        node.stop()?;
    }
    let size = application.image().len();
    for node in [alpha, beta] {
        if let Some(at) = first_difference(&head(&node.disk(), size)?, application.image()) {
            return Err(format!("{}'s disk is wrong at byte {at}", node.name()));
        }
    }
    println!("\nThe first {size} bytes of both disks are equal, and what the application wrote.");
    Ok(())
}

/// Waits for the end of a resync as an administrator would, then makes sure on both nodes.
fn settle(source: &Node, target: &Node) -> Result<(), String> {
    source.wait_until("connected", |seen| seen.is_connected())?;
    source.rbdadm(&["wait-sync", RESOURCE])?;
    for node in [source, target] {
        node.wait_until("in sync", |seen| seen.is_in_sync())?;
    }
    Ok(())
}

fn open(node: &Node) -> Result<Client<UnixStream>, String> {
    node.open()
        .map_err(|error| format!("{}: opening {EXPORT}: {error}", node.name()))
}

fn chapter(title: &str) {
    println!("\n\n=== {title} ===");
}

fn fill(path: &Path, stamp: u64) -> Result<(), String> {
    fs::write(path, stamped(stamp, 0, DISK_SIZE))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The first bytes of a file.
fn head(path: &Path, length: usize) -> Result<Vec<u8>, String> {
    let mut bytes = vec![0; length];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(bytes)
}

/// Large enough for a resync to be seen, small enough for any machine's temporary directory.
const DISK_SIZE: usize = 64 << 20;

/// What the file copied in by a foreign client has.
const COPIED: usize = 8 << 20;

/// Writes per step of the story.
const WRITES: u64 = 300;

const CLIENT_DEADLINE: Duration = Duration::from_secs(60);
