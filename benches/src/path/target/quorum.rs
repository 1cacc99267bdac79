//! What a user of qemu has today: a `quorum` node over a local file and the NBD export of a second
//! `qemu-storage-daemon`. Both must have a write before it is completed; reads are local.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Ground, Target};
use crate::network::Network;
use crate::path::fio::Aim;
use crate::process::Daemon;

/// Two daemons of qemu's.
#[derive(Debug)]
pub(super) struct Quorum {
    primary: Daemon,
    secondary: Daemon,
    socket: PathBuf,
    files: [PathBuf; 2],
}

impl Quorum {
    /// Makes files and daemons.
    pub(super) fn start(ground: &Ground<'_>) -> Result<Self, String> {
        let files = [
            ground.filled_file("quorum-a", ground.bytes)?,
            ground.filled_file("quorum-b", ground.bytes)?,
        ];
        let [port, _] = Network::free_ports()?;
        let host = ground.network.hurried_address(1);
        let run = ground.place.run();
        let socket = run.join("quorum.sock");
        let mut secondary = ground.network.command(1, Path::new(PROGRAM));
        secondary
            .args(["--blockdev", &file_node(&files[1])])
            .arg("--nbd-server")
            .arg(format!("addr.type=inet,addr.host={host},addr.port={port}"))
            .args(["--export", "type=nbd,id=e,node-name=l,name=x,writable=on"]);
        let secondary = start("the second qemu-storage-daemon", secondary, run, "quorum-b")?;
        let mut primary = ground.network.command(0, Path::new(PROGRAM));
        primary
            .args(["--blockdev", &file_node(&files[0])])
            .arg("--blockdev")
            .arg(format!(
                "driver=nbd,node-name=r,server.type=inet,server.host={host},server.port={port},\
                 export=x"
            ))
            .arg("--blockdev")
            .arg(
                "driver=quorum,node-name=q,vote-threshold=2,read-pattern=fifo,\
                 children.0=l,children.1=r",
            )
            .arg("--nbd-server")
            .arg(format!("addr.type=unix,addr.path={}", socket.display()))
            .args(["--export", "type=nbd,id=e,node-name=q,name=q,writable=on"]);
        let primary = start("the first qemu-storage-daemon", primary, run, "quorum-a")?;
        Ok(Self {
            primary,
            secondary,
            socket,
            files,
        })
    }
}

impl Target for Quorum {
    fn aim(&self) -> Aim {
        Aim::Nbd(format!("nbd+unix:///q?socket={}", self.socket.display()))
    }

    fn pids(&self) -> Vec<u32> {
        vec![self.primary.pid(), self.secondary.pid()]
    }

    // With a threshold of two, a lost replica fails every write, so fio would notice.
    fn check(&mut self) -> Result<(), String> {
        self.primary.check()?;
        self.secondary.check()
    }

    fn stop(self: Box<Self>) -> Option<[PathBuf; 2]> {
        self.primary.stop();
        self.secondary.stop();
        Some(self.files)
    }
}

/// Starts one of them and waits for its process-id file, which it writes when it serves.
fn start(name: &str, mut command: Command, run: &Path, node: &str) -> Result<Daemon, String> {
    let ready = run.join(format!("{node}.pid"));
    command.arg("--pidfile").arg(&ready);
    let mut daemon = Daemon::start(name, command, &run.join(format!("{node}.log")))?;
    daemon.wait_until(|| ready.exists())?;
    Ok(daemon)
}

fn file_node(file: &Path) -> String {
    format!(
        "driver=file,node-name=l,filename={},aio=io_uring,cache.direct=on",
        file.display()
    )
}

/// The peer's program.
pub(super) const PROGRAM: &str = "qemu-storage-daemon";
