//! What is to come up again when the daemon starts after a crash or a restart of the service: one
//! file per resource in the run directory, which a reboot empties.
//!
//! The files hold secrets, so only their owner may read them. A file begins with lines that every
//! version can read: how the configuration is laid out, and where it came from. One that is laid
//! out in another way is not read any further: `rbdadm` is asked (see `upgrade`).

#[cfg(test)]
mod tests;

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rbd_protocol::control::{ResourceConfig, frame};
use sha2::{Digest, Sha256};

use super::run_directory::{StartError, create_directory};

/// What was found of a resource that was up.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    /// Its configuration.
    Config(Box<ResourceConfig>),
    /// It was up under another version, whose bytes are not read.
    Other {
        /// Its name.
        name: String,
        /// The file it was configured in, if that can be told.
        config: Option<PathBuf>,
    },
}

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
    /// serve it; but what is no longer in force must not come up again.
    pub(super) fn keep(&self, config: &ResourceConfig) {
        if let Err(error) = self.write(config) {
            self.spoil(&config.name);
            tracing::warn!(
                resource = config.name,
                %error,
                "not remembered: after a crash of the daemon it may have to be brought up by hand"
            );
        }
    }

    /// Leaves of what was remembered no more than where it came from, which needs no space.
    fn spoil(&self, name: &str) {
        let path = self.directory.join(name);
        let cut = || {
            let bytes = fs::read(&path)?;
            let head = split_head(&bytes).map_or(0, |(head, _)| head.len() + END_OF_HEAD.len());
            let length = u64::try_from(head).map_err(io::Error::other)?;
            OpenOptions::new().write(true).open(&path)?.set_len(length)
        };
        match cut() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => self.forget(name),
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

    /// All resources that were up.
    pub(super) fn all(&self) -> Vec<Found> {
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
        paths.iter().filter_map(|path| find(path)).collect()
    }

    /// Whole or not at all: written beside, then renamed.
    fn write(&self, config: &ResourceConfig) -> io::Result<()> {
        let bytes = encode(config)?;
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

/// What a file says. One that cannot be read is reported and left alone.
fn find(path: &Path) -> Option<Found> {
    let name = path.file_name()?.to_str()?.to_owned();
    let bytes = fs::read(path).inspect_err(|error| {
        tracing::error!(
            resource = name,
            %error,
            "it was up, and what was remembered of it cannot be read: rbdadm up {name}"
        );
    });
    let bytes = bytes.ok()?;
    Some(match parse(&bytes) {
        Content::Config(config) if config.name == name => Found::Config(config),
        Content::Config(config) => Found::Other {
            config: Some(PathBuf::from(config.config_path)),
            name,
        },
        Content::Other(config) => Found::Other { name, config },
    })
}

/// What is in a file.
#[derive(Debug, PartialEq)]
enum Content {
    Config(Box<ResourceConfig>),
    /// Something else, and where it came from if that can be told.
    Other(Option<PathBuf>),
}

fn parse(bytes: &[u8]) -> Content {
    let Some((head, rest)) = split_head(bytes) else {
        return Content::Other(None);
    };
    let config = line(head, CONFIG).map(PathBuf::from);
    if line(head, LAYOUT) != Some(&layout()) {
        return Content::Other(config);
    }
    decode(rest).map_or(Content::Other(config), |config| {
        Content::Config(Box::new(config))
    })
}

/// The lines in front, and what follows the empty one.
fn split_head(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let mut windows = bytes.windows(END_OF_HEAD.len());
    let end = windows.position(|window| window == END_OF_HEAD)?;
    let (head, rest) = bytes.split_at(end);
    let head = str::from_utf8(head).ok()?;
    Some((head, rest.get(END_OF_HEAD.len()..)?))
}

fn line<'a>(head: &'a str, word: &str) -> Option<&'a str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))
}

fn decode(bytes: &[u8]) -> Option<ResourceConfig> {
    let (header, body) = bytes.split_first_chunk()?;
    let length = frame::body_length(header).ok()?;
    frame::decode(body.get(..length)?).ok()
}

fn encode(config: &ResourceConfig) -> io::Result<Vec<u8>> {
    let mut bytes = format!("{LAYOUT} {}\n{CONFIG} {}", layout(), config.config_path).into_bytes();
    bytes.extend_from_slice(END_OF_HEAD);
    bytes.extend(frame::encode(config).map_err(io::Error::other)?);
    Ok(bytes)
}

/// How this program lays a configuration out.
fn layout() -> String {
    let mut digest = Sha256::new();
    for text in rbd_protocol::control::LAYOUT {
        digest.update(text);
    }
    let digest = digest.finalize();
    let bytes = digest.iter().take(LAYOUT_BYTES);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn is_unfinished(path: &Path) -> bool {
    path.file_name()
        .is_none_or(|name| name.as_encoded_bytes().starts_with(UNFINISHED.as_bytes()))
}

/// No resource's name starts with a dot.
const UNFINISHED: &str = ".new-";

/// What the lines in front begin with.
const LAYOUT: &str = "layout";
const CONFIG: &str = "config";

const END_OF_HEAD: &[u8] = b"\n\n";

/// As much of the digest as tells versions apart.
const LAYOUT_BYTES: usize = 16;
