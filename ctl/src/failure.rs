//! Everything that can keep `rbdadm` from doing what it was asked, with its exit code.
//!
//! The texts are what users and scripts see on standard error. One failure may be several lines:
//! the first says what happened, the next why and what helps.

use std::path::PathBuf;

use rbd_protocol::control::Refusal;

use crate::offline::OfflineError;
use crate::undo::UndoFileError;

/// Why a command, or its part for one target, was not carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The configuration defines no such resource for this node.
    #[error("'{0}' not defined in your config (for this host).")]
    NotDefined(String),
    /// The resource has no such volume.
    #[error("Resource '{resource}' has no volume {volume}")]
    NoVolume { resource: String, volume: u16 },
    /// The resource has no such peer.
    #[error("Not a valid connection ({resource}:{peer}) for this host")]
    NoConnection { resource: String, peer: String },
    /// A part of a resource was named where only a whole one will do.
    #[error("{verb} operates on {scope}, but you specified a specific {given}!")]
    WrongScope {
        verb: &'static str,
        scope: &'static str,
        given: &'static str,
    },
    /// The configuration cannot be used; the text is complete.
    #[error("{text}")]
    Configuration { text: String, code: u8 },
    /// The daemon said no.
    #[error("{}", refused(.resource, .refusal))]
    Refused { resource: String, refusal: Refusal },
    /// `status` was asked for a resource that is not up.
    #[error("{0}: No such resource")]
    NoSuchResource(String),
    /// `role` and its like were asked for a resource that is not up.
    #[error("{0}: Unknown resource\n  it is not up on this node; rbdadm status lists what is")]
    UnknownResource(String),
    /// Nobody listens on the control socket.
    #[error("rbdd is not reachable at {}: {reason}; {help}", .socket.display())]
    Unreachable {
        socket: PathBuf,
        reason: String,
        help: String,
        /// Whether that is certain: the socket is missing, or refuses.
        nobody_listens: bool,
    },
    /// The daemon is there but the conversation with it failed.
    #[error("rbdd at {}: {reason}", .socket.display())]
    Conversation { socket: PathBuf, reason: String },
    /// A wait was over before what it waited for had come.
    #[error("{what}: timed out after {seconds} s, {state}")]
    TimedOut {
        what: String,
        seconds: u64,
        state: String,
    },
    /// Something waited for will not come by itself.
    #[error("{what}: given up, {state}")]
    GivenUp { what: String, state: String },
    /// Work on a disk failed.
    #[error("{what}: {source}")]
    Offline {
        what: String,
        source: Box<OfflineError>,
    },
    /// An undo file was not written, or cannot be used.
    #[error("{what}{source}")]
    UndoFile {
        what: String,
        source: Box<UndoFileError>,
    },
    /// `check` found something that must be mended.
    #[error("{0} check(s) failed")]
    ChecksFailed(usize),
    /// Standard output could not be written.
    #[error("standard output: {0}")]
    Output(std::io::ErrorKind),
}

impl Failure {
    /// The exit code that stands for it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::NotDefined(_)
            | Self::NoVolume { .. }
            | Self::NoConnection { .. }
            | Self::WrongScope { .. } => 1,
            Self::TimedOut { .. } | Self::GivenUp { .. } => 5,
            Self::NoSuchResource(_) | Self::UnknownResource(_) | Self::ChecksFailed(_) => 10,
            Self::Unreachable { .. } | Self::Conversation { .. } | Self::Output(_) => 20,
            Self::Configuration { code, .. } => *code,
            Self::Refused { refusal, .. } => refusal.code.exit_code(),
            Self::Offline { source, .. } => source.exit_code(),
            Self::UndoFile { source, .. } => source.exit_code(),
        }
    }
}

/// DRBD's line, then one with the reason and what helps.
fn refused(resource: &str, refusal: &Refusal) -> String {
    let mut text = format!("{resource}: {refusal}");
    let why = match (refusal.reason.as_str(), refusal.help.as_str()) {
        ("", "") => return text,
        (reason, "") => reason.to_owned(),
        ("", help) => help.to_owned(),
        (reason, help) => format!("{reason}; {help}"),
    };
    text.push_str("\n  ");
    text.push_str(&printable(&why));
    text
}

/// Text that came over the socket, on one line and harmless for a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|character| {
            if character.is_control() {
                ' '
            } else {
                character
            }
        })
        .collect()
}
