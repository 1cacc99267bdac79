//! The names of a kernel device: links to it at the configured path and by resource and volume.
//! Only what is plainly an old link of this kind is ever replaced.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use rbd_protocol::ids::VolumeNumber;

/// The names of a volume's device.
pub(super) fn of(resource: &str, volume: VolumeNumber, device: &str) -> [PathBuf; 2] {
    let by_resource = Path::new(BY_RESOURCE).join(resource);
    [by_resource.join(volume.to_string()), PathBuf::from(device)]
}

/// Makes a name lead to a block device.
pub(super) fn make(name: &Path, block: &str) -> io::Result<()> {
    match fs::symlink_metadata(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = name.parent() {
                fs::create_dir_all(directory)?;
            }
            symlink(block, name)
        }
        Err(error) => Err(error),
        Ok(found) if found.file_type().is_symlink() => {
            let target = fs::read_link(name)?;
            if !is_ours(&target) {
                let text = format!("it is a link to {}", target.display());
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
            }
            // Whoever opens the name meanwhile gets one or the other.
            let mut beside = name.as_os_str().to_owned();
            beside.push(UNFINISHED);
            let beside = PathBuf::from(beside);
            // One of a daemon that died just here goes; nothing else.
            if fs::read_link(&beside).is_ok_and(|target| is_ours(&target)) {
                fs::remove_file(&beside)?;
            }
            symlink(block, &beside)?;
            fs::rename(&beside, name)
        }
        Ok(_) => {
            let text = "something else has this name";
            Err(io::Error::new(io::ErrorKind::AlreadyExists, text))
        }
    }
}

/// Takes a name away, if it leads to this block device.
pub(super) fn remove(name: &Path, block: &str) {
    if fs::read_link(name).is_ok_and(|target| target == Path::new(block)) {
        match fs::remove_file(name) {
            Ok(()) => {}
            Err(error) => tracing::warn!(name = %name.display(), %error, "link not removed"),
        }
    }
    if let Some(directory) = name.parent()
        && directory.parent() == Some(Path::new(BY_RESOURCE))
    {
        // Only when it is empty.
        let _others = fs::remove_dir(directory);
    }
}

/// Whether a link leads where ours do.
fn is_ours(target: &Path) -> bool {
    let target = target.to_string_lossy();
    ["/dev/ublkb", "/dev/nbd"].into_iter().any(|prefix| {
        let rest = target.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

const BY_RESOURCE: &str = "/dev/rbdd/by-res";
const UNFINISHED: &str = ".rbdd-new";
