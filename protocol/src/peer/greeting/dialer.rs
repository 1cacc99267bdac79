//! The end that made the connection.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::message::{Inbox, Message, MessageKind};
use super::preamble::{CHALLENGE_BYTES, Preamble};
use super::refusal::{self, GreetingError, Reason};
use super::{Agreement, FEATURES, Prover, Secret, Transcript, VERSION_MAX, VERSION_MIN};
use crate::ids::NodeId;
use crate::peer::Channel;

/// What a dialer wants.
#[derive(Clone, Debug)]
pub struct Call {
    /// The resource.
    pub resource: String,
    /// This node's name.
    pub node_name: String,
    /// This node's number.
    pub node_id: NodeId,
    /// The name of the node it wants to reach.
    pub peer_name: String,
    /// The number that node has in this node's configuration.
    pub peer_id: NodeId,
    /// Which connection of the link this is.
    pub channel: Channel,
    /// Random, the same for both connections of a link.
    pub session: u128,
    /// Random, never used before.
    pub challenge: [u8; CHALLENGE_BYTES],
}

/// Where the dialer stands after some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialStep {
    /// Send what was put out, then feed what comes next.
    More,
    /// The connection is open; the next byte is the first of a packet.
    Open(Agreement),
}

/// The opening of one connection, at the end that made it.
#[derive(Debug)]
pub struct Dialer<S> {
    call: Call,
    secret: Option<S>,
    inbox: Inbox,
    transcript: Transcript,
    state: State,
}

#[derive(Debug)]
enum State {
    AwaitsPreamble,
    AwaitsProof(Agreement),
    Over,
}

impl<S: Secret> Dialer<S> {
    /// An opening that has just begun; its preamble is put out.
    #[must_use]
    pub fn new(call: Call, secret: Option<S>, out: &mut Vec<u8>) -> Self {
        let preamble = Preamble {
            versions: (VERSION_MIN, VERSION_MAX),
            channel: call.channel,
            has_secret: secret.is_some(),
            sender_id: call.node_id,
            features: FEATURES,
            required_features: 0,
            session: call.session,
            challenge: call.challenge,
            resource: call.resource.clone(),
            sender: call.node_name.clone(),
            receiver: call.peer_name.clone(),
        };
        let mut transcript = Transcript::default();
        preamble.encode(&mut transcript.dialer);
        out.extend_from_slice(&transcript.dialer);
        Self {
            call,
            secret,
            inbox: Inbox::default(),
            transcript,
            state: State::AwaitsPreamble,
        }
    }

    /// How many bytes may be read from the connection without touching what follows the opening.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.inbox.needed()
    }

    /// Takes bytes from the peer and appends to `out` what it is to be sent. Tells how many were
    /// used.
    ///
    /// # Errors
    /// When no connection comes about. What was put out is still to be sent.
    pub fn feed(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, DialStep), GreetingError> {
        let expected = match self.state {
            State::AwaitsPreamble => MessageKind::Preamble,
            State::AwaitsProof(_) => MessageKind::Proof,
            State::Over => return Err(GreetingError::Over),
        };
        let (used, message) = self.inbox.feed(input, &[expected, MessageKind::Refusal])?;
        let Some(message) = message else {
            return Ok((used, DialStep::More));
        };
        let state = core::mem::replace(&mut self.state, State::Over);
        if message.kind == MessageKind::Refusal {
            return Err(refusal::decode(message.body()));
        }
        let step = match state {
            State::AwaitsPreamble => self.answer_preamble(message, out),
            State::AwaitsProof(agreement) => self.check_proof(&message, agreement),
            State::Over => Err(GreetingError::Over),
        };
        step.map(|step| (used, step))
    }

    fn answer_preamble(
        &mut self,
        message: Message,
        out: &mut Vec<u8>,
    ) -> Result<DialStep, GreetingError> {
        let preamble = Preamble::decode(message.body())?;
        self.transcript.acceptor = message.bytes;
        let agreement = self.agree(preamble).inspect_err(|error| {
            if let GreetingError::Declined { reason, .. } = error {
                refusal::encode(*reason, out);
            }
        })?;
        let proof = self
            .secret
            .as_ref()
            .map(|secret| self.transcript.prove(secret, Prover::Dialer));
        let body = proof.as_ref().map_or(&[][..], |proof| &proof[..]);
        super::message::encode(MessageKind::Proof, body, out);
        self.state = State::AwaitsProof(agreement);
        Ok(DialStep::More)
    }

    /// Looks whether the answer is one to this call. Versions are left to the acceptor to refuse,
    /// so that it can tell its people, too.
    fn agree(&self, theirs: Preamble) -> Result<Agreement, GreetingError> {
        let call = &self.call;
        let is_answer = theirs.channel == call.channel
            && theirs.session == call.session
            && theirs.resource == call.resource
            && theirs.sender == call.peer_name
            && theirs.receiver == call.node_name;
        if !is_answer || theirs.challenge == call.challenge {
            return Err(GreetingError::Malformed {
                what: "it does not answer this call",
            });
        }
        if theirs.has_secret != self.secret.is_some() {
            return Err(declined(
                Reason::SecretOnOneSide,
                format!("{} of the two nodes has a shared-secret", {
                    if theirs.has_secret {
                        "only the other"
                    } else {
                        "only this one"
                    }
                }),
            ));
        }
        if theirs.sender_id != call.peer_id {
            return Err(declined(
                Reason::NodeIdDiffers,
                format!(
                    "{} says its node-id is {}, the configuration here says {}",
                    theirs.sender, theirs.sender_id, call.peer_id
                ),
            ));
        }
        Ok(Agreement {
            version: super::common_version((VERSION_MIN, VERSION_MAX), theirs.versions)
                .unwrap_or(0),
            features: theirs.features & FEATURES,
            peer: theirs.sender_id,
            peer_name: theirs.sender,
            channel: call.channel,
            session: call.session,
        })
    }

    fn check_proof(
        &self,
        message: &Message,
        agreement: Agreement,
    ) -> Result<DialStep, GreetingError> {
        let proven = match &self.secret {
            Some(secret) => self
                .transcript
                .verify(secret, Prover::Acceptor, message.body()),
            None => message.body().is_empty(),
        };
        if !proven {
            return Err(GreetingError::WrongSecret);
        }
        if agreement.version == 0 {
            return Err(GreetingError::Malformed {
                what: "it accepts without a common version",
            });
        }
        Ok(DialStep::Open(agreement))
    }
}

pub(super) fn declined(reason: Reason, detail: String) -> GreetingError {
    GreetingError::Declined { reason, detail }
}
