//! The room: two machines made of namespaces, two switches between them, their power and cables.
//!
//! A machine has its own processes, network, host name, file system and disk, and runs what a stock
//! Debian runs. Nothing in here knows what a cluster is.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::program::{self, Output, capture};
use super::super::{Chance, unless, wait_until};
use super::first::FirstProcess;
use crate::faultfs::{Disks, FaultFs, Opening};

/// The room; everything in it ends with it.
#[derive(Debug)]
pub(super) struct Room {
    directory: PathBuf,
    holder: Child,
    first: FirstProcess,
    machines: [Machine; 2],
    /// What they have for disks: these lose their power, too.
    disks: [FaultFs; 2],
}

#[derive(Debug, Default)]
struct Machine {
    /// What ends when the machine is off.
    boot: Option<Child>,
    /// Of its life, or of its last one.
    first: Option<FirstProcess>,
}

/// What connects the machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cable {
    /// What the cluster talks over.
    Cluster,
    /// What is replicated over.
    Mirror,
}

impl Room {
    /// Makes it in this directory. The disks of the machines are the files in `media/NODE`.
    pub(super) fn open(directory: &Path) -> Self {
        let directory = directory.to_path_buf();
        let disks = NODES.map(|node| {
            let at = directory.join("disks").join(node);
            fs::create_dir_all(&at).expect("a fresh directory can be written to");
            let media = directory.join("media").join(node);
            FaultFs::mount(&media, &at, Opening::Buffered)
                .unwrap_or_else(|error| panic!("cannot mount {}: {error}", at.display()))
        });
        fs::create_dir_all(directory.join("room")).expect("a fresh directory can be written to");
        let words = [
            "unshare",
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child=KILL",
        ];
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(words);
        let holder = command
            .arg(script("room"))
            .arg(&directory)
            .stdin(Stdio::null())
            .spawn()
            .expect("root may make namespaces");
        let mut first = None;
        wait_until("a room with machines", || {
            let process = FirstProcess::child_of(holder.id()).ok_or("no first process")?;
            let ready = process.seen(&directory.join("room/ready"));
            first = Some(process);
            unless(ready.exists(), || "not ready".to_owned())
        });
        Self {
            directory,
            holder,
            first: first.expect("it has been waited for"),
            machines: Default::default(),
            disks,
        }
    }

    /// Writes a file of a machine that has not been switched on yet.
    pub(super) fn install(&self, node: usize, path: &str, mode: u32, content: &[u8]) {
        let own = format!("room/{}/own{path}", NODES[node]);
        let file = self.first.seen(&self.directory.join(own));
        let parent = file.parent().expect("it is in a directory");
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&file, content))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(mode)))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// A file of a machine, on or off, that it has written itself.
    pub(super) fn own_file(&self, node: usize, path: &str) -> PathBuf {
        let own = format!("room/{}/own{path}", NODES[node]);
        self.first.seen(&self.directory.join(own))
    }

    /// A file of a machine that is on.
    pub(super) fn file(&self, node: usize, path: &str) -> PathBuf {
        self.machine(node).seen(Path::new(path))
    }

    /// Where the questions of the machines are.
    pub(super) fn questions(&self) -> PathBuf {
        self.first.seen(&self.directory.join("room/questions"))
    }

    /// Whether a machine runs: one may also reset itself, as Pacemaker does.
    pub(super) fn is_on(&mut self, node: usize) -> bool {
        let boot = self.machines[node].boot.as_mut();
        boot.is_some_and(|boot| matches!(boot.try_wait(), Ok(None)))
    }

    pub(super) fn switch_on(&mut self, node: usize) {
        if self.is_on(node) {
            return;
        }
        self.cut_power(node);
        self.disks[node].power_on();
        let log = self.directory.join(format!("{}-boot.log", NODES[node]));
        let log = fs::File::create(log).expect("the directory can be written to");
        let mut command = self.inside();
        let boot = command
            .arg(script("boot"))
            .arg(self.directory.join("room"))
            .arg(NODES[node])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("root may enter namespaces");
        // nsenter, then boot, then the machine's first process.
        let find = || FirstProcess::child_of(FirstProcess::child_of(boot.id())?.number());
        let mut first = None;
        wait_until("a machine that boots", || {
            let process = find().ok_or("no first process")?;
            let units = process.seen(Path::new("/run/units"));
            first = Some(process);
            let said = self.directory.join(format!("{}-boot.log", NODES[node]));
            unless(units.exists(), || {
                fs::read_to_string(said).unwrap_or_default()
            })
        });
        self.machines[node] = Machine {
            boot: Some(boot),
            first,
        };
    }

    /// Ends everything in it, whatever state it is in, and never panics.
    pub(super) fn end(&mut self) {
        self.disks.iter().for_each(|disks| disks.release());
        program::end(&mut self.holder);
        for machine in &mut self.machines {
            if let Some(boot) = &mut machine.boot {
                program::end(boot);
            }
        }
    }

    /// Nothing of it is left afterwards but what is on its disks.
    pub(super) fn cut_power(&mut self, node: usize) {
        if self.machines[node].boot.is_none() {
            return;
        }
        // A machine without power says good-bye to nobody.
        for cable in [Cable::Cluster, Cable::Mirror] {
            self.set_port(node, cable, false);
        }
        self.machine(node).kill();
        self.disks[node].power_cut(Chance::seed());
        assert!(self.has_ended(node), "{} is not off", NODES[node]);
        self.machines[node].boot = None;
    }

    /// A machine resets itself and stays off: nobody has been told.
    pub(super) fn reset(&self, node: usize) {
        self.machine(node).kill();
    }

    /// The disks of a machine, to make them fail.
    pub(super) fn disks(&self, node: usize) -> &Disks {
        &self.disks[node]
    }

    /// Pulls the cable between the machines, or puts it in again.
    pub(super) fn plug(&mut self, cable: Cable, is_in: bool) {
        let pulled = format!("room/pulled-{}", cable.name());
        let pulled = self.first.seen(&self.directory.join(pulled));
        if is_in {
            drop(fs::remove_file(pulled));
        } else {
            fs::write(pulled, "").expect("the room can be written to");
        }
        for node in 0..2 {
            if self.is_on(node) {
                self.set_port(node, cable, is_in);
            }
        }
    }

    /// What runs a program in a machine, which has to be done in time: `nsenter` can be killed
    /// without what it has started.
    pub(super) fn enter(&self, node: usize, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(self.machine(node).namespaces(&KINDS))
            .arg("--");
        command
            .args(["timeout", "--kill-after=2", COMMAND_SECONDS])
            .args(words);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn machine(&self, node: usize) -> &FirstProcess {
        let first = self.machines[node].first.as_ref();
        first.expect("it has been switched on once")
    }

    fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(self.first.namespaces(&KINDS[..3])).arg("--");
        command
    }

    /// Whether a machine that was on is not any more, or soon will not be.
    fn has_ended(&mut self, node: usize) -> bool {
        let boot = self.machines[node].boot.as_mut();
        boot.is_none_or(|boot| program::wait(boot, Duration::from_secs(30)).is_some())
    }

    /// The port of a machine that has ended by itself is gone with its network.
    fn set_port(&mut self, node: usize, cable: Cable, is_up: bool) {
        let port = format!("{}-{}", cable.name(), NODES[node]);
        let state = if is_up { "up" } else { "down" };
        let mut command = self.inside();
        let output: Output = capture(
            command.args(["ip", "link", "set", &port, state]),
            Duration::from_secs(20),
        );
        let is_done = output.code == Some(0) || self.has_ended(node);
        assert!(is_done, "{port} {state}: {}", output.text());
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.end();
    }
}

impl Cable {
    fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Mirror => "mirror",
        }
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("cluster")
        .join(name)
}

/// The namespaces of a machine, as `nsenter` calls them and as their files are called. The room
/// has the first three.
const KINDS: [(&str, &str); 5] = [
    ("net", "net"),
    ("mount", "mnt"),
    ("pid", "pid"),
    ("uts", "uts"),
    ("ipc", "ipc"),
];

const COMMAND_SECONDS: &str = "60";

/// The machines' names, by number.
pub(super) const NODES: [&str; 2] = ["alpha", "beta"];
