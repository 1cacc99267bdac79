//! Other people's faulty disks: loop devices on nbdkit with its error and delay filters. What the
//! daemon sees is a block device of the kernel whose requests come back late, with an error, or
//! not at all. Root only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rbd_tests::process::{
    LoadOptions, Node, Pair, Setup, find, is_root, lacks, run, skip, unless, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};

#[test]
fn clients_do_not_notice_that_either_nodes_block_device_fails() {
    let name = "clients_do_not_notice_that_either_nodes_block_device_fails";
    let Some(mut served) = Served::new(name, "") else {
        return;
    };
    for node in 0..2 {
        for _ in 0..2 {
            let load = served.pair.load("alpha", LoadOptions::default());
            load.let_work(200);
            served.servers[node].set_failing(true);
            served.wait_for_loss(node);
            load.let_work(200);
            served.servers[node].set_failing(false);
            served.attach(node);
            load.let_work(100);
            load.stop(&mut served.pair.ledger).assert_undisturbed();
            served.pair.verify("alpha");
        }
    }
    served.finish();
}

#[test]
fn clients_do_not_notice_for_long_that_a_block_device_hangs() {
    let name = "clients_do_not_notice_for_long_that_a_block_device_hangs";
    let Some(mut served) = Served::new(name, "  disk {\n    disk-timeout 10;\n  }\n") else {
        return;
    };
    for node in 0..2 {
        let load = served.pair.load("alpha", LoadOptions::default());
        load.let_work(200);
        served.servers[node].stop();
        served.wait_for_loss(node);
        load.let_work(200);
        served.servers[node].go_on();
        served.attach(node);
        load.let_work(100);
        load.stop(&mut served.pair.ledger).assert_undisturbed();
        served.pair.verify("alpha");
    }
    served.finish();
}

/// A pair on such disks, alpha Primary.
struct Served {
    // First: its daemons use the disks.
    pair: Pair,
    servers: [Server; 2],
}

impl Served {
    /// With more lines for the resource; `None`, and noted as skipped, where that is not possible.
    fn new(test: &str, more: &str) -> Option<Self> {
        if lacks(test, &["nbdkit", "nbdfuse", "losetup", "umount"]) {
            return None;
        }
        if !is_root() {
            skip(test, "only root may make loop devices");
            return None;
        }
        if !Path::new("/dev/fuse").exists() || !Path::new("/dev/loop-control").exists() {
            skip(test, "no FUSE or no loop devices here");
            return None;
        }
        let mut setup = Setup::default();
        setup.more.push_str(more);
        let pair = Pair::new(setup);
        let servers = [&pair.alpha, &pair.beta].map(Server::below);
        let mut served = Self { pair, servers };
        served.pair.bring_up();
        served.pair.alpha.ok("primary --force");
        served.pair.wait_in_sync();
        Some(served)
    }

    fn node(&self, number: usize) -> &Node {
        [&self.pair.alpha, &self.pair.beta][number]
    }

    /// Waits until the node has given its disk up.
    fn wait_for_loss(&self, number: usize) {
        let what = "its disk is given up";
        self.node(number)
            .wait_for(what, |status| status.disk() == "Diskless");
    }

    fn attach(&self, number: usize) {
        self.node(number).ok("attach");
        self.pair.wait_in_sync();
    }

    fn finish(mut self) {
        for node in self.pair.nodes() {
            node.stop();
        }
        self.pair.assert_equal();
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Nobody ends who waits for a disk.
        for server in &self.servers {
            server.go_on();
        }
    }
}

/// A node's disk as a device of the kernel, and the server behind it; gone when dropped.
struct Server {
    device: String,
    fuse: Option<Child>,
    nbdkit: Option<Child>,
    /// While it exists, every request fails.
    failing: PathBuf,
    // Last, so that nothing uses it when it goes.
    directory: tempfile::TempDir,
}

impl Server {
    /// Puts it below a node that does not run yet.
    fn below(node: &Node) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("rbd-nbdkit-")
            .tempdir()
            .expect("a temporary directory can be made");
        let path = |name: &str| directory.path().join(name);
        let (medium, socket, failing) = (path("medium"), path("socket"), path("failing"));
        fs::rename(node.disk(0), &medium).expect("the disk can be moved");
        let length = fs::metadata(&medium).expect("it is there").len();
        let mountpoint = path("mounted");
        fs::create_dir(&mountpoint).expect("a fresh directory can be written to");
        let mut server = Self {
            device: String::new(),
            fuse: None,
            nbdkit: None,
            failing,
            directory,
        };
        let mut nbdkit = command("nbdkit");
        nbdkit.args(["--foreground", "--unix"]).arg(&socket);
        nbdkit.args(["--filter=error", "--filter=delay", "file"]);
        nbdkit.arg(&medium).args(["wdelay=1ms", "error-rate=100%"]);
        nbdkit.arg(format!("error-file={}", server.failing.display()));
        server.nbdkit = Some(nbdkit.spawn().expect("nbdkit starts"));
        wait_until("nbdkit's socket", || {
            unless(socket.exists(), || "nothing".to_owned())
        });
        let file = mountpoint.join("disk");
        let uri = format!("nbd+unix:///?socket={}", socket.display());
        let mut nbdfuse = command("nbdfuse");
        nbdfuse.arg(&file).arg(uri);
        server.fuse = Some(nbdfuse.spawn().expect("nbdfuse starts"));
        wait_until("the disk as a file", || {
            let found = fs::metadata(&file).map(|found| found.len());
            unless(matches!(found, Ok(found) if found == length), || {
                format!("{found:?}")
            })
        });
        let device = run("losetup", &["--find", "--show", &file.to_string_lossy()]);
        device.trim().clone_into(&mut server.device);
        std::os::unix::fs::symlink(&server.device, node.disk(0)).expect("a link can be made");
        server
    }

    fn set_failing(&self, is_failing: bool) {
        let done = if is_failing {
            fs::write(&self.failing, "")
        } else {
            fs::remove_file(&self.failing)
        };
        done.expect("the file can be made and removed");
    }

    fn stop(&self) {
        self.signal(Signal::STOP);
    }

    fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(nbdkit) = &self.nbdkit {
            kill_process(Pid::from_child(nbdkit), signal).expect("nbdkit is there");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !self.device.is_empty() {
            quietly("losetup", &["--detach", &self.device]);
        }
        // A loop device that is detached lets go of its file a moment later.
        let mountpoint = self.directory.path().join("mounted");
        let mountpoint = mountpoint.to_string_lossy();
        for _ in 0..200 {
            if quietly("umount", &[&mountpoint]) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        for child in [&mut self.fuse, &mut self.nbdkit].into_iter().flatten() {
            drop(child.kill());
            drop(child.wait());
        }
        quietly("umount", &["--lazy", &mountpoint]);
    }
}

/// A program that dies with the test.
fn command(program: &str) -> Command {
    let program = find(program).expect("it was found before");
    let mut command = match find("setpriv") {
        None => Command::new(program),
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
    };
    // Each error they inject or pass on is a line.
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Whether it could be done; if not, that is somebody else's business.
fn quietly(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null());
    let status = command.stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}
