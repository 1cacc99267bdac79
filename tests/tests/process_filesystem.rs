//! A real file system on top: ext4 on a loop device on the NBD export, as close to a kernel device
//! as a machine without nbd and ublk modules gets. Root only.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rbd_tests::process::{
    Chance, Node, Pair, Setup, capture, find, is_root, lacks, run, skip, unless, wait_until,
};

#[test]
fn an_ext4_file_system_survives_a_lost_peer_and_a_fail_over() {
    let name = "an_ext4_file_system_survives_a_lost_peer_and_a_fail_over";
    let programs = [
        "nbdfuse",
        "losetup",
        "mkfs.ext4",
        "fsck.ext4",
        "mount",
        "umount",
    ];
    if lacks(name, &programs) {
        return;
    }
    if !is_root() {
        return skip(name, "only root may mount");
    }
    if !Path::new("/dev/fuse").exists() || !Path::new("/dev/loop-control").exists() {
        return skip(name, "no FUSE or no loop devices here");
    }
    let mut pair = Pair::primary(Setup::default().sized(64 << 20));
    let files = {
        let device = Device::attach(&pair.alpha, &pair.directory());
        run("mkfs.ext4", &["-q", "-F", &device.path]);
        let mounted = Mounted::mount(&device, &pair.directory());
        let mut files = write_files(&mounted.at, 1);
        pair.beta.kill();
        files.extend(write_files(&mounted.at, 2));
        pair.beta.start();
        pair.wait_in_sync();
        files.extend(write_files(&mounted.at, 3));
        check_files(&mounted.at, &files);
        files
    };
    pair.demote("alpha");
    pair.beta.ok("primary");
    {
        let device = Device::attach(&pair.beta, &pair.directory());
        run("fsck.ext4", &["-f", "-n", &device.path]);
        let mounted = Mounted::mount(&device, &pair.directory());
        check_files(&mounted.at, &files);
    }
    for node in pair.nodes() {
        node.stop();
    }
    pair.assert_equal();
}

/// What was written under which name.
type Files = Vec<(String, Vec<u8>)>;

fn write_files(directory: &Path, seed: u64) -> Files {
    let mut chance = Chance::new(seed);
    let mut files = Files::new();
    for number in 0..40 {
        let length = usize::try_from(chance.below(100_000)).expect("a small file");
        let mut content = vec![0; length];
        chance.fill(&mut content);
        let name = format!("{seed}-{number}");
        fs::write(directory.join(&name), &content).expect("a file can be written");
        files.push((name, content));
    }
    run("sync", &["-f", &directory.to_string_lossy()]);
    files
}

fn check_files(directory: &Path, files: &Files) {
    for (name, content) in files {
        let found = fs::read(directory.join(name)).expect("a file that was written");
        assert!(found == *content, "{name} has another content");
    }
}

/// The volume as a loop device; detached when dropped.
struct Device {
    path: String,
    fuse: Child,
    directory: PathBuf,
}

impl Device {
    fn attach(node: &Node, parent: &Path) -> Self {
        let directory = parent.join(format!("{}-fuse", node.name()));
        fs::create_dir_all(&directory).expect("a directory");
        let file = directory.join("nbd");
        let fuse = Command::new(find("nbdfuse").expect("it was found before"))
            .arg(&file)
            .arg(node.uri(0))
            .stdin(Stdio::null())
            .spawn()
            .expect("nbdfuse starts");
        let mut device = Self {
            path: String::new(),
            fuse,
            directory,
        };
        let size = node.status().size();
        wait_until("the volume as a file", || {
            let found = fs::metadata(&file).map(|found| found.len());
            unless(matches!(found, Ok(length) if length == size), || {
                format!("{found:?}")
            })
        });
        let path = run("losetup", &["--find", "--show", &file.to_string_lossy()]);
        path.trim().clone_into(&mut device.path);
        device
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if !self.path.is_empty() {
            quietly("losetup", &["--detach", &self.path]);
        }
        // A loop device that is detached lets go of its file a moment later.
        let directory = self.directory.to_string_lossy().into_owned();
        let umount = || quietly("umount", &[&directory]);
        for _ in 0..200 {
            if umount() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        if matches!(self.fuse.try_wait(), Ok(None)) {
            quietly("umount", &["--lazy", &directory]);
            drop(self.fuse.kill());
        }
        drop(self.fuse.wait());
    }
}

/// A mounted file system; unmounted when dropped.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn mount(device: &Device, parent: &Path) -> Self {
        let at = parent.join("mounted");
        fs::create_dir_all(&at).expect("a directory");
        run(
            "mount",
            &["-t", "ext4", &device.path, &at.to_string_lossy()],
        );
        Self { at }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let at = self.at.to_string_lossy().into_owned();
        if !quietly("umount", &[&at]) {
            quietly("umount", &["--lazy", &at]);
        }
    }
}

fn quietly(program: &str, arguments: &[&str]) -> bool {
    let Some(path) = find(program) else {
        return false;
    };
    let mut command = Command::new(path);
    capture(command.args(arguments), rbd_tests::process::PATIENCE).code == Some(0)
}
