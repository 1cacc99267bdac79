//! The preamble: what each end says of itself before anything else.
//!
//! ```text
//!  0  oldest version spoken    2
//!  2  newest version spoken    2
//!  4  channel                  1   0 data, 1 control
//!  5  flags                    1   bit 0: a shared secret is configured
//!  6  node-id of the sender    1
//!  7  zero                     1
//!  8  features                 8
//! 16  features insisted on     8
//! 24  session                 16
//! 40  challenge               32
//! 72  resource, sender, intended receiver: each a length (1) and that many bytes of UTF-8
//! ```
//!
//! All integers are big endian. Bytes after the names are ignored, but covered by the proofs.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::message::{self, MessageKind};
use super::refusal::GreetingError;
use crate::ids::NodeId;
use crate::peer::Channel;

/// Bytes of a challenge.
pub const CHALLENGE_BYTES: usize = 32;

/// The longest name of a resource or node, in bytes.
pub const NAME_LIMIT: usize = 255;

/// What one end says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// Oldest and newest version of the packets it speaks.
    pub versions: (u16, u16),
    /// Which connection of the link this is.
    pub channel: Channel,
    /// Whether it has a shared secret and insists on proof.
    pub has_secret: bool,
    /// Its number.
    pub sender_id: NodeId,
    /// Features it has.
    pub features: u64,
    /// Features it will not do without.
    pub required_features: u64,
    /// The link this connection belongs to.
    pub session: u128,
    /// Random, never used twice: makes the proofs of this connection good for this one only.
    pub challenge: [u8; CHALLENGE_BYTES],
    /// The resource.
    pub resource: String,
    /// Its name.
    pub sender: String,
    /// Whom it wants to talk to.
    pub receiver: String,
}

const FLAG_SECRET: u8 = 1;

impl Preamble {
    /// Appends the message.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut body = Vec::with_capacity(128);
        body.extend_from_slice(&self.versions.0.to_be_bytes());
        body.extend_from_slice(&self.versions.1.to_be_bytes());
        body.push(match self.channel {
            Channel::Data => 0,
            Channel::Control => 1,
        });
        body.push(if self.has_secret { FLAG_SECRET } else { 0 });
        body.push(self.sender_id.0);
        body.push(0);
        body.extend_from_slice(&self.features.to_be_bytes());
        body.extend_from_slice(&self.required_features.to_be_bytes());
        body.extend_from_slice(&self.session.to_be_bytes());
        body.extend_from_slice(&self.challenge);
        for name in [&self.resource, &self.sender, &self.receiver] {
            put_name(name, &mut body);
        }
        message::encode(MessageKind::Preamble, &body, out);
    }

    /// Reads the body of the message. Unknown flags are ignored: what must not be overlooked is a
    /// required feature.
    pub(super) fn decode(body: &[u8]) -> Result<Self, GreetingError> {
        let mut fields = Fields(body);
        let versions = (fields.u16()?, fields.u16()?);
        if versions.0 > versions.1 {
            return Err(malformed("its version range is empty"));
        }
        let [channel, flags, sender_id, _] = fields.take::<4>()?;
        let channel = match channel {
            0 => Channel::Data,
            1 => Channel::Control,
            _ => return Err(malformed("its channel is neither data nor control")),
        };
        Ok(Self {
            versions,
            channel,
            has_secret: flags & FLAG_SECRET != 0,
            sender_id: NodeId(sender_id),
            features: u64::from_be_bytes(fields.take()?),
            required_features: u64::from_be_bytes(fields.take()?),
            session: u128::from_be_bytes(fields.take()?),
            challenge: fields.take()?,
            resource: fields.name()?,
            sender: fields.name()?,
            receiver: fields.name()?,
        })
    }
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], GreetingError> {
        let (head, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or_else(|| malformed("it is too short"))?;
        self.0 = rest;
        Ok(*head)
    }

    fn u16(&mut self) -> Result<u16, GreetingError> {
        self.take().map(u16::from_be_bytes)
    }

    fn name(&mut self) -> Result<String, GreetingError> {
        let [length] = self.take()?;
        let (name, rest) = self
            .0
            .split_at_checked(usize::from(length))
            .ok_or_else(|| malformed("a name is cut off"))?;
        self.0 = rest;
        let name = core::str::from_utf8(name).map_err(|_| malformed("a name is not UTF-8"))?;
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(malformed("a name is empty or has control characters"));
        }
        Ok(name.to_string())
    }
}

fn malformed(what: &'static str) -> GreetingError {
    GreetingError::Malformed { what }
}

/// A name longer than the limit is cut and then fits no name at the other end: configurations with
/// such names are refused long before.
fn put_name(name: &str, body: &mut Vec<u8>) {
    let bytes = name.as_bytes();
    let bytes = bytes.get(..NAME_LIMIT).unwrap_or(bytes);
    body.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
    body.extend_from_slice(bytes);
}
