//! Mounts that only one thread and its children see, and that end with them.

#![expect(unsafe_code, reason = "leaving a namespace concerns the whole thread")]

use std::path::Path;

use rustix::mount::MountPropagationFlags;
use rustix::thread::UnshareFlags;

/// Whatever this thread mounts from here on is seen by it and by the programs it starts, by nobody
/// else, and is gone with the last of them, however they end.
///
/// # Errors
/// Why that is not possible here, in words.
pub fn mount_privately() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("only root may mount".to_owned());
    }
    if !Path::new("/dev/fuse").exists() {
        return Err("there is no /dev/fuse".to_owned());
    }
    // SAFETY: descriptors stay shared; only the mounts are this thread's own from here on.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .map_err(|error| format!("no mount namespace: {error}"))?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private)
        .map_err(|error| format!("mounts cannot be made private: {error}"))
}
