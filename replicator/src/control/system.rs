//! Facts and chance that only the system has: host name, boot, randomness, limits.

use std::time::SystemTime;

use rbd_engine::Seed;
use rustix::process::{Resource, Rlimit};
use rustix::rand::GetRandomFlags;

/// The host's name, as in `uname -n`.
pub(super) fn host_name() -> Option<String> {
    let name = rustix::system::uname();
    name.nodename()
        .to_str()
        .ok()
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
}

/// What a resource's engine cannot make itself.
pub(super) fn seed() -> Seed {
    Seed {
        random: u64::from_ne_bytes(random_bytes()),
        boot: boot_id(),
        unix_start: unix_seconds(),
    }
}

/// The time on the wall, in seconds since 1970; 0 if the clock is set to before that.
fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

/// Unpredictable bytes.
pub(super) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let mut filled = 0;
    while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        // Interrupted by a signal is the only way this fails; then it is asked again.
        filled += rustix::rand::getrandom(rest, GetRandomFlags::empty()).unwrap_or(0);
    }
    bytes
}

/// `milliseconds` moved by up to a seventh to either side, so that nodes do not keep step.
pub(super) fn jittered(milliseconds: u64) -> u64 {
    let seventh = milliseconds / 7;
    let random = u64::from(u32::from_ne_bytes(random_bytes()));
    milliseconds - seventh + random % (2 * seventh + 1)
}

/// As many open files as the system lets us: every client and link is one.
pub(super) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "limit of open files not raised");
    }
}

/// Identifies this boot of the host.
///
/// A test that takes the power from a node's disks cannot boot the host, so it names the boot.
fn boot_id() -> u128 {
    let named = std::env::var(BOOT_ID).ok();
    if let Some(named) = &named {
        tracing::warn!("{BOOT_ID} is set: this boot is taken for {named}; it is for tests only");
    }
    let told = named.or_else(|| std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok());
    boot_named(told.as_deref())
}

/// The number of a boot. One that nobody names is another each time: who is not sure that the power
/// has stayed must not say so (B7).
pub(super) fn boot_named(name: Option<&str>) -> u128 {
    name.and_then(|text| u128::from_str_radix(&text.trim().replace('-', ""), 16).ok())
        .filter(|id| *id != 0)
        .unwrap_or_else(|| u128::from_ne_bytes(random_bytes()))
}

/// Names the boot instead of the kernel; for tests, as docs/testing.md says.
const BOOT_ID: &str = "RBD_BOOT_ID";
