//! Two guests, one test: the test is a script on this machine, which has both machines at its
//! hands: it gives them orders, pulls their cables and their plugs (`tests/lab/tests/pair`).
//!
//! The machines' disks are those of `rbd-faultfs`: what was not flushed may be lost with the power.
//! They are mounted where only the script sees them, and the emulators die with the script, so
//! nothing stays behind, however it ends.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::machine;
use super::share::Share;
use crate::process;

/// Runs the test with two machines that can be started, and prints what it says. Whatever
/// happens, they are gone afterwards.
pub(super) fn run(cache: &Path, lab: &Path, files: &[PathBuf], test: &str) -> Result<(), String> {
    run_with(cache, lab, files, test, &LOSSY, &[])
}

/// The same with these disks, and with words in the environment of the script.
pub(super) fn run_with(
    cache: &Path,
    lab: &Path,
    files: &[PathBuf],
    test: &str,
    disks: &Disks,
    words: &[(&str, String)],
) -> Result<(), String> {
    let share = Share::new(cache, lab, files)?;
    let host = share.directory.join(HOST);
    let path = prepare(cache, &share.directory, disks)
        .map_err(|error| format!("{}: {error}", host.display()))?;
    // It goes when this program goes, however that ends.
    let mut script = Command::new("setpriv");
    script.args(["--pdeathsig", "KILL", "unshare", "--mount"]);
    script.args(["--propagation", "private", "bash"]);
    script.arg(share.directory.join("tests").join(test));
    script.env("LAB", &share.directory).env("PATH", path);
    script.envs(words.iter().map(|(name, value)| (name, value)));
    let mut script = script
        .current_dir(&host)
        .stdin(std::process::Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start setpriv: {error}"))?;
    let ended = process::wait(&mut script, LIMIT);
    process::end(&mut script);
    match ended {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("it ended with {status}")),
        None => Err(format!("the test had not ended after {LIMIT:?}")),
    }
}

/// What this machine lacks for it beside what every test of the lab needs.
pub(super) fn missing() -> Option<&'static str> {
    if !super::is_root() {
        return Some("two machines need root: their disks are mounted");
    }
    if !Path::new("/dev/fuse").exists() {
        return Some("two machines need /dev/fuse: their disks are served through it");
    }
    None
}

/// Whether a test is a script that wants two machines: it has the line that says so.
pub(super) fn is_wanted(script: &str) -> bool {
    script.lines().any(|line| line == "# On two machines.")
}

/// Leaves a program for each machine that starts it, and returns where the script finds programs.
fn prepare(cache: &Path, share: &Path, disks: &Disks) -> std::io::Result<std::ffi::OsString> {
    let host = share.join(HOST);
    fs::create_dir_all(&host)?;
    fs::create_dir_all(share.join("orders"))?;
    for name in NAMES {
        let program = host.join(format!("{name}.start"));
        let words = arguments(cache, share, name, disks);
        let mut line = Command::new("qemu-system-x86_64");
        line.args(words);
        // The emulator goes when the script goes that has started it.
        let text = format!(
            "#!/bin/sh\nexec setpriv --pdeathsig KILL {}\n",
            process::show(&line)
        );
        fs::write(&program, text)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    }
    let own = env::var_os("PATH").unwrap_or_default();
    let directories = [share.join("bin")].into_iter();
    let path = env::join_paths(directories.chain(env::split_paths(&own)));
    path.map_err(std::io::Error::other)
}

/// The command line of the emulator: one processor (of two, one is pre-empted while it holds what
/// the other spins for), disks, two networks to the other machine, a line for orders and one to
/// the emulator. Files without a directory are in the one the emulator is started in, because the
/// name of a socket has little room.
pub(super) fn arguments(cache: &Path, share: &Path, name: &str, disks: &Disks) -> Vec<String> {
    let words = format!("lab.name={name} lab.orders=1");
    let mut arguments = machine::arguments(cache, share, &words);
    let mut add = |more: &[&str]| arguments.extend(more.iter().map(|word| (*word).to_owned()));
    add(&["-smp", "1"]);
    add(&[
        "-chardev",
        &format!("file,id=console,path={name}.console,append=on"),
    ]);
    add(&["-serial", "chardev:console"]);
    add(&["-chardev", &format!("pipe,id=orders,path={name}.orders")]);
    add(&["-serial", "chardev:orders"]);
    add(&["-chardev", &format!("pipe,id=monitor,path={name}.monitor")]);
    add(&["-mon", "chardev=monitor,mode=readline"]);
    for disk in disks.names {
        let mode = disks.mode;
        let drive = format!(
            "file={name}.disks/{disk},if=none,id={disk},format=raw,detect-zeroes=off,{mode}"
        );
        let mut device = format!("virtio-blk-pci,drive={disk},serial={disk}");
        if disks.have_threads {
            add(&["-object", &format!("iothread,id=thread-{disk}")]);
            device.push_str(&format!(",iothread=thread-{disk}"));
        }
        add(&["-drive", &drive, "-device", &device]);
    }
    for (number, network) in NETWORKS.iter().enumerate() {
        // The first machine waits for the second, which comes again and again.
        let end = if name == NAMES[0] {
            "server=on"
        } else {
            "server=off,reconnect-ms=500"
        };
        let back = format!("stream,id={network},{end},addr.type=unix,addr.path={network}.cable");
        let last = if name == NAMES[0] { 1 } else { 2 };
        let card = format!(
            "virtio-net-pci,id=card-{network},netdev={network},mac=52:54:00:00:0{number}:0{last},\
             romfile="
        );
        add(&["-netdev", &back, "-device", &card]);
    }
    arguments
}

/// What the machines are called.
const NAMES: [&str; 2] = ["alice", "bob"];

/// One for the cluster, one for replication.
const NETWORKS: [&str; 2] = ["cluster", "mirror"];

/// The files that are a machine's disks, and how the emulator treats them.
pub(super) struct Disks {
    names: &'static [&'static str],
    mode: &'static str,
    /// Whether each is served by a thread of its own.
    have_threads: bool,
}

/// One to be replicated, one for what has to outlive a boot; both lose what was not flushed.
pub(super) const LOSSY: Disks = Disks {
    names: &["data", "state"],
    mode: "cache=writeback,discard=unmap",
    have_threads: false,
};

/// The same and one for each that is measured beside us, past this machine's cache.
pub(super) const MEASURED: Disks = Disks {
    names: &["data", "state", "raw", "drbd", "md"],
    mode: "cache=none,aio=io_uring",
    have_threads: true,
};

/// Where the script keeps what is no business of the guests', in the share.
const HOST: &str = "host";

/// How long a test may take. Every wait in it has a deadline of its own.
const LIMIT: Duration = Duration::from_secs(3600);
