//! How large the disks with metadata at their end were when it was written: there an attach looks
//! for it when a disk has grown. One file per volume in the state directory, in words that an
//! administrator can read and write.
//!
//! The file must not say what was true before once the volume has grown over it, so a size is
//! durable before [`keep`](FormerSizes::keep) returns.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

    /// Remembers it, durably. A directory that takes its time may have been given up by the one
    /// who asked: what was asked later counts, and what was asked before is not written any more.
    pub(in crate::control) fn keep(
        &self,
        resource: &str,
        volume: VolumeNumber,
        end: FormerEnd,
    ) -> io::Result<()> {
        let path = self.path(resource, volume);
        let turn = Turn::of(&path);
        let _writing = locked(&WRITING);
        if turn.is_overtaken(&path) {
            return Err(io::Error::other("another size has been noted since"));
        }
        fs::create_dir_all(&self.directory)?;
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

/// The place of a note among those of its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Turn(u64);

impl Turn {
    /// The newest.
    fn of(path: &Path) -> Self {
        let mut newest = locked(&NEWEST);
        let turn = newest.entry(path.to_owned()).or_insert(Self(0));
        turn.0 += 1;
        *turn
    }

    fn is_overtaken(self, path: &Path) -> bool {
        locked(&NEWEST).get(path) != Some(&self)
    }
}

/// Nothing is left half done by one who panics.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The last turn at each file: of this process, for a resource may have been up before.
static NEWEST: Mutex<BTreeMap<PathBuf, Turn>> = Mutex::new(BTreeMap::new());

/// One file is written at a time.
static WRITING: Mutex<()> = Mutex::new(());

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

    fn end(bytes: u64) -> FormerEnd {
        FormerEnd {
            device_bytes: bytes,
            device_id: Some(bytes),
            moves_to: None,
        }
    }

    #[test]
    fn sizes_noted_at_the_same_time_do_not_spoil_each_other() {
        let state = tempfile::tempdir().unwrap();
        let sizes = FormerSizes::below(state.path());
        let volume = VolumeNumber(0);
        let both = [1, 1 << 50];
        std::thread::scope(|scope| {
            for bytes in both {
                let sizes = sizes.clone();
                scope.spawn(move || {
                    for _ in 0..10 {
                        // One that comes too late says so, and is told apart.
                        if let Err(error) = sizes.keep("r0", volume, end(bytes)) {
                            assert_eq!(error.kind(), io::ErrorKind::Other);
                        }
                        let found = sizes.recall("r0", volume);
                        assert!(found.is_none_or(|found| both.map(end).contains(&found)));
                    }
                });
            }
        });
    }

    #[test]
    fn a_size_that_was_noted_before_does_not_come_after_a_later_one() {
        let state = tempfile::tempdir().unwrap();
        let sizes = FormerSizes::below(state.path());
        let volume = VolumeNumber(0);
        let path = sizes.path("r0", volume);
        // The directory hangs.
        let hanging = locked(&WRITING);
        let keep = |bytes| {
            let sizes = sizes.clone();
            std::thread::spawn(move || sizes.keep("r0", volume, end(bytes)))
        };
        let await_turn = |turn| {
            while locked(&NEWEST).get(&path) != Some(&Turn(turn)) {
                std::thread::yield_now();
            }
        };
        let early = keep(1);
        await_turn(1);
        let late = keep(2);
        await_turn(2);
        drop(hanging);
        assert!(early.join().unwrap().is_err());
        late.join().unwrap().unwrap();
        assert_eq!(sizes.recall("r0", volume), Some(end(2)));
    }
}
