//! One guest, one test: boot, wait until it has switched itself off, read what it left.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process;

/// Boots a guest that finds these files in `/lab/bin` and runs the test, and prints what it says.
/// Whatever happens, the guest is gone afterwards.
pub(super) fn run(cache: &Path, lab: &Path, files: &[PathBuf], test: &str) -> Result<(), String> {
    let share = Share::new(cache, lab, files)?;
    let mut command = Command::new("qemu-system-x86_64");
    command.args(arguments(cache, &share.directory, test));
    let mut guest = command
        .stdin(Stdio::null())
        .spawn()
        .map_err(|error| format!("cannot start qemu-system-x86_64: {error}"))?;
    let ended = process::wait(&mut guest, LIMIT + GRACE);
    process::end(&mut guest);
    let Some(status) = ended else {
        return Err(format!("the guest had not ended after {LIMIT:?}"));
    };
    match share.code() {
        Some(0) => Ok(()),
        Some(124) => Err(format!("the test had not ended after {LIMIT:?}")),
        Some(code) => Err(format!("it ended with {code}")),
        None => Err(format!("the guest left no result (qemu: {status})")),
    }
}

/// What a guest sees of this machine; gone when dropped.
struct Share {
    directory: PathBuf,
}

impl Share {
    fn new(cache: &Path, lab: &Path, files: &[PathBuf]) -> Result<Self, String> {
        let directory = cache.join(format!("share-{}", std::process::id()));
        let share = Self { directory };
        share
            .fill(lab, files)
            .map_err(|error| format!("{}: {error}", share.directory.display()))?;
        Ok(share)
    }

    fn fill(&self, lab: &Path, files: &[PathBuf]) -> std::io::Result<()> {
        for part in ["bin", "tests", "out"] {
            fs::create_dir_all(self.directory.join(part))?;
        }
        for file in files {
            let name = file.file_name().unwrap_or_default();
            fs::copy(file, self.directory.join("bin").join(name))?;
        }
        for entry in fs::read_dir(lab.join("tests"))? {
            let entry = entry?;
            fs::copy(
                entry.path(),
                self.directory.join("tests").join(entry.file_name()),
            )?;
        }
        fs::copy(lab.join("guest-init"), self.directory.join("guest-init"))?;
        // Nothing of it is there until it is written.
        let scratch = fs::File::create(self.directory.join(SCRATCH))?;
        scratch.set_len(SCRATCH_BYTES)?;
        Ok(())
    }

    fn code(&self) -> Option<i32> {
        let text = fs::read_to_string(self.directory.join("out/code")).ok()?;
        text.trim().parse().ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("xtask lab: {}: {error}", self.directory.display());
        }
    }
}

/// The command line of the emulator. Of the processor's features those are left out that cost an
/// emulator more than they bring.
pub(super) fn arguments(cache: &Path, share: &Path, test: &str) -> Vec<String> {
    let file = |name: &str| cache.join(name).display().to_string();
    let root = format!(
        "file={},if=none,id=root,format=raw,snapshot=on",
        file("root.img")
    );
    let scratch = format!(
        "file={},if=none,id=scratch,format=raw,cache=unsafe,discard=unmap",
        share.join(SCRATCH).display()
    );
    let share = format!(
        "local,path={},mount_tag=lab,security_model=none",
        share.display()
    );
    let line = format!(
        "{KERNEL_LINE} lab.name=one lab.test={test} lab.limit={}",
        LIMIT.as_secs()
    );
    let words = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max,-la57,-erms,-fsrm,-fsrs,-fzrm,-smap,-smep,-pku,-umip",
        "-smp",
        "2",
        "-m",
        "1536",
        "-kernel",
        &file("vmlinuz"),
        "-initrd",
        &file("initrd.img"),
        "-append",
        &line,
        "-serial",
        "stdio",
        "-drive",
        &root,
        "-device",
        "virtio-blk-pci,drive=root",
        "-drive",
        &scratch,
        "-device",
        "virtio-blk-pci,drive=scratch",
        "-virtfs",
        &share,
        "-nic",
        "none",
    ];
    words.map(str::to_owned).into()
}

/// What makes an emulated kernel quick, and a kernel that dies end the guest.
const KERNEL_LINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off no5lvl \
                           rodata=off init_on_alloc=0 randomize_kstack_offset=off tsc=reliable \
                           clocksource=tsc nowatchdog apparmor=0 audit=0 net.ifnames=0";

/// An empty disk of the guest's, for what its memory is too small for.
const SCRATCH: &str = "scratch.img";
const SCRATCH_BYTES: u64 = 8 << 30;

/// How long a test may take in the guest.
const LIMIT: Duration = Duration::from_secs(900);

/// How long a guest may take beside its test: to boot, and to end a test that does not end.
const GRACE: Duration = Duration::from_secs(300);
