//! The opening of a connection between two nodes: who is there, which version is spoken, and, when
//! a shared secret is configured, the proof that both know it.
//!
//! ```text
//! dialer                          acceptor
//!   preamble  ------------------>
//!             <------------------   preamble, or refusal
//!   proof     ------------------>
//!             <------------------   proof (the connection is open), or refusal
//! ```
//!
//! Each proof is a keyed hash over both preambles as sent and over who proves, so that no version,
//! name, channel or session can be altered, and no proof reflected or replayed. The dialer proves
//! first: who cannot prove anything learns nothing but a generic refusal, whichever name was wrong.
//! A link is two connections with the same session, each opened this way. After the opening nothing
//! protects the packets; that is left to the network.
//!
//! These messages never change, so that any two versions can at least tell each other what they
//! speak. Nothing here reads a socket, knows a clock, makes a random number or computes a hash
//! ([`Secret`] does).

mod acceptor;
mod dialer;
mod message;
mod preamble;
mod refusal;
#[cfg(test)]
mod tests;

use alloc::string::String;

pub use acceptor::{AcceptStep, Acceptor, Host, HostPeer};
pub use dialer::{Call, DialStep, Dialer};
pub use message::{MESSAGE_LIMIT, MessageKind};
pub use preamble::{CHALLENGE_BYTES, NAME_LIMIT, Preamble};
pub use refusal::{GreetingError, Reason};

use super::Channel;
use crate::ids::NodeId;

/// Oldest version of the packets this program speaks.
pub const VERSION_MIN: u16 = 1;

/// Newest version of the packets this program speaks.
pub const VERSION_MAX: u16 = 1;

/// Features of the link this program knows. None is optional yet.
pub const FEATURES: u64 = 0;

/// Bytes of a proof.
pub const PROOF_BYTES: usize = 32;

/// A shared secret, able to make and check keyed hashes (HMAC-SHA-256).
pub trait Secret {
    /// The keyed hash of the parts, one after the other.
    fn prove(&self, parts: &[&[u8]]) -> [u8; PROOF_BYTES];

    /// Whether `proof` is that hash, in a time that does not depend on where it differs.
    fn verify(&self, parts: &[&[u8]], proof: &[u8]) -> bool;
}

/// What both ends agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreement {
    /// The version of the packets: the newest both speak.
    pub version: u16,
    /// The features both have.
    pub features: u64,
    /// The peer's number.
    pub peer: NodeId,
    /// The peer's name.
    pub peer_name: String,
    /// Which connection of the link this is.
    pub channel: Channel,
    /// The link it belongs to.
    pub session: u128,
}

/// Who proves: part of what is hashed, so that a proof cannot be sent back to its maker.
#[derive(Clone, Copy)]
enum Prover {
    Dialer,
    Acceptor,
}

/// The two preambles as they crossed the wire, which every proof covers.
#[derive(Debug, Default)]
struct Transcript {
    dialer: alloc::vec::Vec<u8>,
    acceptor: alloc::vec::Vec<u8>,
}

impl Transcript {
    /// Each preamble carries its own length, so the concatenation has one reading only.
    fn parts(&self, prover: Prover) -> [&[u8]; 3] {
        let tag: &[u8] = match prover {
            Prover::Dialer => b"rbd opening, proof of the dialer\n",
            Prover::Acceptor => b"rbd opening, proof of the acceptor\n",
        };
        [tag, &self.dialer, &self.acceptor]
    }

    fn prove<S: Secret>(&self, secret: &S, prover: Prover) -> [u8; PROOF_BYTES] {
        secret.prove(&self.parts(prover))
    }

    fn verify<S: Secret>(&self, secret: &S, prover: Prover, proof: &[u8]) -> bool {
        proof.len() == PROOF_BYTES && secret.verify(&self.parts(prover), proof)
    }
}

/// The newest version in both ranges.
fn common_version(ours: (u16, u16), theirs: (u16, u16)) -> Option<u16> {
    let newest = ours.1.min(theirs.1);
    (newest >= ours.0.max(theirs.0)).then_some(newest)
}
