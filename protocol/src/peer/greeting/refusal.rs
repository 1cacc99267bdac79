//! Why no connection came about: what one end tells the other, and what each tells its people.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use super::message::{self, MessageKind};

/// The longest text of a refusal, in bytes.
pub(super) const TEXT_LIMIT: usize = 255;

/// Why a node does not want a connection. The number is what crosses the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All that is told to someone who has not proven to know the secret.
    NotAuthenticated,
    /// The listener serves another resource.
    UnknownResource,
    /// No node of that name is a peer of the resource.
    UnknownPeer,
    /// The node addressed is another one.
    WrongReceiver,
    /// The two configurations give a node different numbers.
    NodeIdDiffers,
    /// No version of the packets is spoken by both.
    NoCommonVersion,
    /// One end insists on a feature the other lacks.
    FeatureMissing,
    /// Only one end has a shared secret.
    SecretOnOneSide,
    /// The peer does not want a link at present (StandAlone).
    NotSeeking,
    /// The peer has a link or another attempt under way; try again.
    Busy,
    /// A control connection without its data connection.
    UnknownSession,
    /// A reason of a later version.
    Other(u16),
}

impl Reason {
    /// The number that crosses the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::NotAuthenticated => 1,
            Self::UnknownResource => 2,
            Self::UnknownPeer => 3,
            Self::WrongReceiver => 4,
            Self::NodeIdDiffers => 5,
            Self::NoCommonVersion => 6,
            Self::FeatureMissing => 7,
            Self::SecretOnOneSide => 8,
            Self::NotSeeking => 9,
            Self::Busy => 10,
            Self::UnknownSession => 11,
            Self::Other(number) => number,
        }
    }

    fn from_number(number: u16) -> Self {
        match number {
            1 => Self::NotAuthenticated,
            2 => Self::UnknownResource,
            3 => Self::UnknownPeer,
            4 => Self::WrongReceiver,
            5 => Self::NodeIdDiffers,
            6 => Self::NoCommonVersion,
            7 => Self::FeatureMissing,
            8 => Self::SecretOnOneSide,
            9 => Self::NotSeeking,
            10 => Self::Busy,
            11 => Self::UnknownSession,
            other => Self::Other(other),
        }
    }

    /// Whether it passes by itself, without anybody changing anything.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(self, Self::Busy | Self::UnknownSession)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAuthenticated => {
                "not authenticated: shared-secret, resource or node names differ"
            }
            Self::UnknownResource => "it serves another resource on this address",
            Self::UnknownPeer => "it has no peer of this node's name",
            Self::WrongReceiver => "it is another node than the one addressed",
            Self::NodeIdDiffers => "the configurations give a node different numbers",
            Self::NoCommonVersion => "no common protocol version",
            Self::FeatureMissing => "one end insists on a feature the other lacks",
            Self::SecretOnOneSide => "only one of the two nodes has a shared-secret",
            Self::NotSeeking => "it is StandAlone there: run connect on that node",
            Self::Busy => "busy with another connection",
            Self::UnknownSession => "the other connection of the link is gone",
            Self::Other(number) => return write!(f, "reason {number}, unknown to this version"),
        })
    }
}

/// Why the opening of a connection failed. Whatever was put out before is still to be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GreetingError {
    /// The first bytes are not those of any rbd.
    #[error("not an rbd peer: the first bytes are not an opening's")]
    NotAGreeting,
    /// The checksum does not fit.
    #[error("opening message damaged")]
    Damaged,
    /// A message that has no place here.
    #[error("unexpected opening message of kind {number}")]
    UnexpectedMessage {
        /// Its kind's number.
        number: u16,
    },
    /// More than a message of this kind may have.
    #[error("opening message of {length} bytes, the limit is {limit}")]
    TooLong {
        /// The length announced.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// The fields break a rule.
    #[error("malformed opening message: {what}")]
    Malformed {
        /// Which rule.
        what: &'static str,
    },
    /// The other end does not want the connection.
    #[error("refused by the peer: {}", refusal_text(*reason, text))]
    Refused {
        /// Why.
        reason: Reason,
        /// In its own words, if it found some; shown only for reasons this version does not know.
        text: String,
    },
    /// This end does not want it, for a reason the other end may not have been told.
    #[error("{detail}")]
    Declined {
        /// What the other end would be told if it had proven who it is.
        reason: Reason,
        /// For people at this end.
        detail: String,
    },
    /// The other end does not know the secret.
    #[error("wrong shared-secret")]
    WrongSecret,
    /// Bytes after the end.
    #[error("the opening is over")]
    Over,
}

fn refusal_text(reason: Reason, text: &str) -> String {
    match reason {
        Reason::Other(_) if !text.is_empty() => text.to_string(),
        _ => reason.to_string(),
    }
}

impl GreetingError {
    /// Whether the bytes were not those of a peer at all: a scanner, a wrong port.
    #[must_use]
    pub fn is_garbage(&self) -> bool {
        matches!(
            self,
            Self::NotAGreeting
                | Self::Damaged
                | Self::UnexpectedMessage { .. }
                | Self::TooLong { .. }
                | Self::Malformed { .. }
        )
    }
}

/// Appends a refusal.
pub(super) fn encode(reason: Reason, out: &mut Vec<u8>) {
    let mut body = reason.number().to_be_bytes().to_vec();
    let text = reason.to_string();
    body.extend_from_slice(text.as_bytes().get(..TEXT_LIMIT).unwrap_or(text.as_bytes()));
    message::encode(MessageKind::Refusal, &body, out);
}

/// Reads a refusal; text that is not fit to be shown is left out.
pub(super) fn decode(body: &[u8]) -> GreetingError {
    let Some((number, text)) = body.split_first_chunk::<2>() else {
        return GreetingError::Malformed {
            what: "it is too short",
        };
    };
    let text = core::str::from_utf8(text).unwrap_or_default();
    GreetingError::Refused {
        reason: Reason::from_number(u16::from_be_bytes(*number)),
        text: text.chars().filter(|c| !c.is_control()).collect(),
    }
}
