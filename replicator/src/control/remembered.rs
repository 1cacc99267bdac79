//! What is to come up again when the daemon starts after a crash or a restart of the service: one
//! file per resource in the run directory, which a reboot empties.
//!
//! The files hold secrets, so only their owner may read them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rbd_protocol::control::{ResourceConfig, frame};

use super::run_directory::{StartError, create_directory};

/// The directory of these files.
#[derive(Debug)]
pub(super) struct Remembered {
    directory: PathBuf,
}

impl Remembered {
    /// Creates the directory if needed.
    pub(super) fn open(run: &Path) -> Result<Self, StartError> {
        let directory = run.join("resources");
        create_directory(&directory, 0o700)?;
        Ok(Self { directory })
    }

    /// Remembers a resource, replacing what was remembered of it. Failing to is no reason not to
    /// serve it.
    pub(super) fn keep(&self, config: &ResourceConfig) {
        if let Err(error) = self.write(config) {
            tracing::warn!(
                resource = config.name,
                %error,
                "not remembered: after a crash of the daemon it must be brought up by hand"
            );
        }
    }

    /// Forgets a resource.
    pub(super) fn forget(&self, name: &str) {
        match fs::remove_file(self.directory.join(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(resource = name, %error, "not forgotten"),
        }
    }

    /// All resources that were up. Files that cannot be understood are reported and left alone.
    pub(super) fn all(&self) -> Vec<ResourceConfig> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) => {
                tracing::warn!(%error, "cannot read which resources were up");
                return Vec::new();
            }
        };
        let mut paths: Vec<_> = entries
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .filter(|path| !is_unfinished(path))
            .collect();
        paths.sort();
        paths
            .iter()
            .filter_map(|path| {
                read(path)
                    .inspect_err(|error| {
                        tracing::warn!(path = %path.display(), %error, "ignored: not understood");
                    })
                    .ok()
            })
            .collect()
    }

    /// Whole or not at all: written beside, then renamed.
    fn write(&self, config: &ResourceConfig) -> io::Result<()> {
        let bytes = frame::encode(config).map_err(io::Error::other)?;
        let unfinished = self.directory.join(format!("{UNFINISHED}{}", config.name));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unfinished)?;
        file.write_all(&bytes)?;
        fs::rename(&unfinished, self.directory.join(&config.name))
    }
}

fn read(path: &Path) -> io::Result<ResourceConfig> {
    let bytes = fs::read(path)?;
    let (header, body) = bytes
        .split_first_chunk()
        .ok_or_else(|| io::Error::other("too short"))?;
    let length = frame::body_length(header).map_err(io::Error::other)?;
    let body = body
        .get(..length)
        .ok_or_else(|| io::Error::other("cut off"))?;
    let config: ResourceConfig = frame::decode(body).map_err(io::Error::other)?;
    if path.file_name().and_then(|name| name.to_str()) == Some(&*config.name) {
        Ok(config)
    } else {
        Err(io::Error::other(format!("it is about {}", config.name)))
    }
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()))
}

/// No resource's name starts with a dot.
const UNFINISHED: &str = ".new-";
