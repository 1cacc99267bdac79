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
use crate::faultfs::{Disks, FaultFs, Opening};

/// The room; everything in it ends with it.
#[derive(Debug)]
pub(super) struct Room {
    directory: PathBuf,
    holder: Child,
    /// Its first process.
    init: u32,
    machines: [Machine; 2],
    /// What they have for disks: these lose their power, too.
    disks: [FaultFs; 2],
}

#[derive(Debug, Default)]
struct Machine {
    /// What ends when the machine is off.
    boot: Option<Child>,
    /// Its first process.
    init: u32,
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
        let mut init = 0;
        wait_until("a room with machines", || {
            init = child_of(holder.id()).ok_or("no first process")?;
            let ready = seen_from(init, &directory.join("room/ready"));
            unless(ready.exists(), || "not ready".to_owned())
        });
        Self {
            directory,
            holder,
            init,
            machines: Default::default(),
            disks,
        }
    }

    /// Writes a file of a machine that has not been switched on yet.
    pub(super) fn install(&self, node: usize, path: &str, mode: u32, content: &[u8]) {
        let own = format!("room/{}/own{path}", NODES[node]);
        let file = seen_from(self.init, &self.directory.join(own));
        let parent = file.parent().expect("it is in a directory");
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&file, content))
            .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(mode)))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// A file of a machine, on or off, that it has written itself.
    pub(super) fn own_file(&self, node: usize, path: &str) -> PathBuf {
        let own = format!("room/{}/own{path}", NODES[node]);
        seen_from(self.init, &self.directory.join(own))
    }

    /// A file of a machine that is on.
    pub(super) fn file(&self, node: usize, path: &str) -> PathBuf {
        seen_from(self.machines[node].init, Path::new(path))
    }

    /// Where the questions of the machines are.
    pub(super) fn questions(&self) -> PathBuf {
        seen_from(self.init, &self.directory.join("room/questions"))
    }

    pub(super) fn is_on(&self, node: usize) -> bool {
        self.machines[node].boot.is_some()
    }

    pub(super) fn switch_on(&mut self, node: usize) {
        if self.is_on(node) {
            return;
        }
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
        let find = || child_of(child_of(boot.id())?);
        let mut init = 0;
        wait_until("a machine that boots", || {
            init = find().ok_or("no first process")?;
            let units = seen_from(init, Path::new("/run/units"));
            let said = self.directory.join(format!("{}-boot.log", NODES[node]));
            unless(units.exists(), || {
                fs::read_to_string(said).unwrap_or_default()
            })
        });
        self.machines[node] = Machine {
            boot: Some(boot),
            init,
        };
    }

    /// Nothing of it is left afterwards but what is on its disks.
    pub(super) fn cut_power(&mut self, node: usize) {
        let Some(mut boot) = self.machines[node].boot.take() else {
            return;
        };
        // A machine without power says good-bye to nobody.
        for cable in [Cable::Cluster, Cable::Mirror] {
            self.set_port(node, cable, false);
        }
        kill(self.machines[node].init);
        self.disks[node].power_cut(Chance::seed());
        assert!(
            program::wait(&mut boot, Duration::from_secs(30)).is_some(),
            "{} is not off",
            NODES[node]
        );
    }

    /// The disks of a machine, to make them fail.
    pub(super) fn disks(&self, node: usize) -> &Disks {
        &self.disks[node]
    }

    /// Pulls the cable between the machines, or puts it in again.
    pub(super) fn plug(&self, cable: Cable, is_in: bool) {
        let pulled = format!("room/pulled-{}", cable.name());
        let pulled = seen_from(self.init, &self.directory.join(pulled));
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
        let target = self.machines[node].init.to_string();
        command.args(["--all", "--target", &target, "--"]);
        command
            .args(["timeout", "--kill-after=2", COMMAND_SECONDS])
            .args(words);
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        let target = self.init.to_string();
        command.args(["--net", "--mount", "--pid", "--target", &target, "--"]);
        command
    }

    fn set_port(&self, node: usize, cable: Cable, is_up: bool) {
        let port = format!("{}-{}", cable.name(), NODES[node]);
        let state = if is_up { "up" } else { "down" };
        let mut command = self.inside();
        let output: Output = capture(
            command.args(["ip", "link", "set", &port, state]),
            Duration::from_secs(20),
        );
        assert_eq!(output.code, Some(0), "{port} {state}: {}", output.text());
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.disks.iter().for_each(|disks| disks.release());
        program::end(&mut self.holder);
        for machine in &mut self.machines {
            if let Some(boot) = &mut machine.boot {
                program::end(boot);
            }
        }
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

/// A path as a process sees it.
fn seen_from(process: u32, path: &Path) -> PathBuf {
    let root = PathBuf::from(format!("/proc/{process}/root"));
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// The first child of a process.
fn child_of(parent: u32) -> Option<u32> {
    let is_child = |pid: u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, rest) = stat.rsplit_once(')')?;
        let its: u32 = rest.split_whitespace().nth(1)?.parse().ok()?;
        (its == parent).then_some(pid)
    };
    fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find_map(is_child)
}

fn kill(process: u32) {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw);
    let pid = pid.expect("a process has a number");
    kill_process(pid, Signal::KILL).expect("a machine that is on has a first process");
}

const COMMAND_SECONDS: &str = "60";

/// The machines' names, by number.
pub(super) const NODES: [&str; 2] = ["alpha", "beta"];
