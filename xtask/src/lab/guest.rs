//! One guest, one test: boot, wait until it has switched itself off, read what it left.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::machine;
use super::share::Share;
use crate::process;

/// Boots a guest that finds these files in `/lab/bin` and runs the test, and prints what it says.
/// Whatever happens, the guest is gone afterwards.
pub(super) fn run(cache: &Path, lab: &Path, files: &[PathBuf], test: &str) -> Result<(), String> {
    let share = Share::new(cache, lab, files)?;
    share.empty_file(SCRATCH, SCRATCH_BYTES)?;
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

/// The command line of the emulator: two processors, a scratch disk, no network.
pub(super) fn arguments(cache: &Path, share: &Path, test: &str) -> Vec<String> {
    let words = format!("lab.name=one lab.test={test} lab.limit={}", LIMIT.as_secs());
    let scratch = format!(
        "file={},if=none,id=scratch,format=raw,cache=unsafe,discard=unmap",
        share.join(SCRATCH).display()
    );
    let more = [
        "-smp",
        "2",
        "-serial",
        "stdio",
        "-drive",
        &scratch,
        "-device",
        "virtio-blk-pci,drive=scratch",
        "-nic",
        "none",
    ];
    let mut arguments = machine::arguments(cache, share, &words);
    arguments.extend(more.map(str::to_owned));
    arguments
}

/// An empty disk of the guest's, for what its memory is too small for.
const SCRATCH: &str = "scratch.img";
const SCRATCH_BYTES: u64 = 8 << 30;

/// How long a test may take in the guest.
const LIMIT: Duration = Duration::from_secs(900);

/// How long a guest may take beside its test: to boot, and to end a test that does not end.
const GRACE: Duration = Duration::from_secs(300);
