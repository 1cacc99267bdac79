//! How large the disks with metadata at their end were when it was written: there an attach looks
//! for it when a disk has grown. One file per volume in the state directory, in words that an
//! administrator can read and write.
//!
//! The file must not say what was true before once the volume has grown over it, so a size is
//! durable before [`keep`](FormerSizes::keep) returns.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::metadata::FormerEnd;

/// The directory of these files.
#[derive(Clone, Debug)]
pub(in crate::control) struct FormerSizes {
    directory: PathBuf,
}

impl FormerSizes {
    /// Below this state directory, where nothing is created before there is something to remember.
    pub(in crate::control) fn below(state: &Path) -> Self {
        Self {
            directory: state.join("disk-sizes"),
        }
    }

    /// The file of a volume.
    pub(super) fn path(&self, resource: &str, volume: VolumeNumber) -> PathBuf {
        self.directory.join(format!("{resource}.{volume}"))
    }

    /// What is remembered of a volume's disk.
    pub(super) fn recall(&self, resource: &str, volume: VolumeNumber) -> Option<FormerEnd> {
        let path = self.path(resource, volume);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot be read");
                return None;
            }
        };
        let found = parse(&text);
        if found.is_none() {
            tracing::warn!(path = %path.display(), "ignored: not understood");
        }
        found
    }

    /// Remembers it, durably.
    pub(in crate::control) fn keep(
        &self,
        resource: &str,
        volume: VolumeNumber,
        end: FormerEnd,
    ) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let path = self.path(resource, volume);
        let unfinished = self.directory.join(format!(".new-{resource}.{volume}"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&unfinished)?;
        file.write_all(text_of(end).as_bytes())?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        File::open(&self.directory)?.sync_all()?;
        match self.directory.parent() {
            Some(state) => File::open(state)?.sync_all(),
            None => Ok(()),
        }
    }
}

fn text_of(end: FormerEnd) -> String {
    let id = end
        .device_id
        .map_or_else(String::new, |id| format!("device-id {id:016x}\n"));
    let to = end
        .moves_to
        .map_or_else(String::new, |bytes| format!("moves-to {bytes}\n"));
    format!("device-bytes {}\n{id}{to}", end.device_bytes)
}

/// The size must be there, and nothing that is not understood.
fn parse(text: &str) -> Option<FormerEnd> {
    let mut device_bytes = None;
    let mut device_id = None;
    let mut moves_to = None;
    for line in text.lines() {
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] => {}
            ["device-bytes", bytes] => device_bytes = Some(bytes.parse().ok()?),
            ["device-id", id] => device_id = Some(u64::from_str_radix(id, 16).ok()?),
            ["moves-to", bytes] => moves_to = Some(bytes.parse().ok()?),
            _ => return None,
        }
    }
    Some(FormerEnd {
        device_bytes: device_bytes?,
        device_id,
        moves_to,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_recalled_and_what_is_not_understood_is_not() {
        let state = tempfile::tempdir().unwrap();
        let sizes = FormerSizes::below(state.path());
        let volume = VolumeNumber(3);
        assert_eq!(sizes.recall("r0", volume), None);
        for moves_to in [Some(1 << 40), None] {
            let end = FormerEnd {
                device_bytes: 1 << 30,
                device_id: Some(0xd0d0),
                moves_to,
            };
            sizes.keep("r0", volume, end).unwrap();
            assert_eq!(sizes.recall("r0", volume), Some(end));
        }
        assert_eq!(sizes.recall("r0", VolumeNumber(4)), None);
        let path = sizes.path("r0", volume);
        fs::write(&path, "device-bytes 4096\n").unwrap();
        let by_hand = FormerEnd {
            device_bytes: 4096,
            device_id: None,
            moves_to: None,
        };
        assert_eq!(sizes.recall("r0", volume), Some(by_hand));
        for text in [
            "",
            "device-bytes\n",
            "device-bytes 1\nwhat 2\n",
            "device-id 1\n",
            "moves-to 1\n",
            "device-bytes 1\nmoves-to\n",
            "device-bytes 4k\n",
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(sizes.recall("r0", volume), None, "{text:?}");
        }
    }
}
