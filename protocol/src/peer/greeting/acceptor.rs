//! The end that was called.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::dialer::declined;
use super::message::{self, Inbox, Message, MessageKind};
use super::preamble::{CHALLENGE_BYTES, Preamble};
use super::refusal::{self, GreetingError, Reason};
use super::{Agreement, FEATURES, Prover, Secret, Transcript, VERSION_MAX, VERSION_MIN};
use crate::ids::NodeId;

/// Who listens, and for whom.
#[derive(Clone, Debug)]
pub struct Host<S> {
    /// The resource.
    pub resource: String,
    /// This node's name.
    pub node_name: String,
    /// This node's number.
    pub node_id: NodeId,
    /// The nodes that may call.
    pub peers: Vec<HostPeer<S>>,
}

/// A node that may call.
#[derive(Clone, Debug)]
pub struct HostPeer<S> {
    /// Its name.
    pub name: String,
    /// Its number.
    pub node_id: NodeId,
    /// The secret shared with it.
    pub secret: Option<S>,
}

/// Where the acceptor stands after some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptStep {
    /// Send what was put out, then feed what comes next.
    More,
    /// The caller has proven who it is. [`Acceptor::accept`] or [`Acceptor::refuse`] is next.
    Proven(Agreement),
}

/// The opening of one connection, at the end that was called.
#[derive(Debug)]
pub struct Acceptor<'a, S> {
    host: &'a Host<S>,
    challenge: [u8; CHALLENGE_BYTES],
    inbox: Inbox,
    transcript: Transcript,
    state: State<'a, S>,
}

#[derive(Debug)]
enum State<'a, S> {
    AwaitsPreamble,
    AwaitsProof {
        secret: Option<&'a S>,
        verdict: Result<Agreement, GreetingError>,
    },
    Proven {
        secret: Option<&'a S>,
    },
    Over,
}

impl<'a, S: Secret> Acceptor<'a, S> {
    /// An opening of which nothing has arrived yet. `challenge` is random and was never used
    /// before.
    #[must_use]
    pub fn new(host: &'a Host<S>, challenge: [u8; CHALLENGE_BYTES]) -> Self {
        Self {
            host,
            challenge,
            inbox: Inbox::default(),
            transcript: Transcript::default(),
            state: State::AwaitsPreamble,
        }
    }

    /// How many bytes may be read from the connection without touching what follows the opening.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.inbox.needed()
    }

    /// Takes bytes from the caller and appends to `out` what it is to be sent. Tells how many
    /// were used.
    ///
    /// # Errors
    /// When no connection comes about. What was put out is still to be sent.
    pub fn feed(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, AcceptStep), GreetingError> {
        let expected: &[_] = match self.state {
            State::AwaitsPreamble => &[MessageKind::Preamble],
            State::AwaitsProof { .. } => &[MessageKind::Proof, MessageKind::Refusal],
            State::Proven { .. } | State::Over => return Err(GreetingError::Over),
        };
        let (used, message) = self.inbox.feed(input, expected)?;
        let Some(message) = message else {
            return Ok((used, AcceptStep::More));
        };
        let state = core::mem::replace(&mut self.state, State::Over);
        if message.kind == MessageKind::Refusal {
            return Err(refusal::decode(message.body()));
        }
        let step = match state {
            State::AwaitsPreamble => self.answer_preamble(message, out),
            State::AwaitsProof { secret, verdict } => {
                self.check_proof(&message, secret, verdict, out)
            }
            State::Proven { .. } | State::Over => Err(GreetingError::Over),
        };
        step.map(|step| (used, step))
    }

    /// Opens the connection: the caller may send packets once it has read what is put out.
    pub fn accept(self, out: &mut Vec<u8>) {
        let State::Proven { secret } = self.state else {
            return;
        };
        let proof = secret.map(|secret| self.transcript.prove(secret, Prover::Acceptor));
        let body = proof.as_ref().map_or(&[][..], |proof| &proof[..]);
        message::encode(MessageKind::Proof, body, out);
    }

    /// Does not open it, and says why: the caller has proven who it is.
    pub fn refuse(self, reason: Reason, out: &mut Vec<u8>) {
        if matches!(self.state, State::Proven { .. }) {
            refusal::encode(reason, out);
        }
    }

    /// With a secret the answer is the same whatever is wrong, names echoed as claimed; the
    /// verdict is kept until the caller has proven to know it.
    fn answer_preamble(
        &mut self,
        message: Message,
        out: &mut Vec<u8>,
    ) -> Result<AcceptStep, GreetingError> {
        let theirs = Preamble::decode(message.body())?;
        self.transcript.dialer = message.bytes;
        let verdict = self.judge(&theirs);
        let secret = self.secret_for(&theirs.sender);
        if secret.is_some() && !theirs.has_secret {
            refusal::encode(Reason::NotAuthenticated, out);
            return Err(declined(
                Reason::SecretOnOneSide,
                format!("{} has no shared-secret, this node has", theirs.sender),
            ));
        }
        if secret.is_none() {
            let verdict = if theirs.has_secret {
                Err(declined(
                    Reason::SecretOnOneSide,
                    format!("{} has a shared-secret, this node has not", theirs.sender),
                ))
            } else {
                verdict.clone()
            };
            verdict.inspect_err(|error| put_reason(error, out))?;
        }
        let answer = Preamble {
            versions: (VERSION_MIN, VERSION_MAX),
            channel: theirs.channel,
            has_secret: secret.is_some(),
            sender_id: self.host.node_id,
            features: FEATURES,
            required_features: 0,
            session: theirs.session,
            challenge: self.challenge,
            resource: theirs.resource,
            sender: theirs.receiver,
            receiver: theirs.sender,
        };
        answer.encode(&mut self.transcript.acceptor);
        out.extend_from_slice(&self.transcript.acceptor);
        self.state = State::AwaitsProof { secret, verdict };
        Ok(AcceptStep::More)
    }

    /// The caller's secret; for a caller nobody knows, any: it will fail the proof like every
    /// stranger, or turn out to belong to us under a wrong name.
    fn secret_for(&self, name: &str) -> Option<&'a S> {
        let host = self.host;
        match host.peers.iter().find(|peer| peer.name == name) {
            Some(peer) => peer.secret.as_ref(),
            None => host.peers.iter().find_map(|peer| peer.secret.as_ref()),
        }
    }

    fn judge(&self, theirs: &Preamble) -> Result<Agreement, GreetingError> {
        let host = self.host;
        if theirs.resource != host.resource {
            let detail = format!(
                "{} wants resource {}, this address serves {}",
                theirs.sender, theirs.resource, host.resource
            );
            return Err(declined(Reason::UnknownResource, detail));
        }
        let Some(peer) = host.peers.iter().find(|peer| peer.name == theirs.sender) else {
            let detail = format!(
                "{} is not a peer of resource {}",
                theirs.sender, host.resource
            );
            return Err(declined(Reason::UnknownPeer, detail));
        };
        if theirs.receiver != host.node_name {
            let detail = format!(
                "{} wants to talk to {}, this is {}",
                theirs.sender, theirs.receiver, host.node_name
            );
            return Err(declined(Reason::WrongReceiver, detail));
        }
        if theirs.sender_id != peer.node_id {
            let detail = format!(
                "{} says its node-id is {}, the configuration here says {}",
                peer.name, theirs.sender_id, peer.node_id
            );
            return Err(declined(Reason::NodeIdDiffers, detail));
        }
        let version = super::common_version((VERSION_MIN, VERSION_MAX), theirs.versions)
            .ok_or_else(|| {
                let (oldest, newest) = theirs.versions;
                let detail = format!(
                    "{} speaks protocol versions {oldest} to {newest}, \
                     this node {VERSION_MIN} to {VERSION_MAX}",
                    theirs.sender
                );
                declined(Reason::NoCommonVersion, detail)
            })?;
        let missing = theirs.required_features & !FEATURES;
        if missing != 0 {
            let detail = format!("{} insists on features {missing:#x}", theirs.sender);
            return Err(declined(Reason::FeatureMissing, detail));
        }
        Ok(Agreement {
            version,
            features: theirs.features & FEATURES,
            peer: peer.node_id,
            peer_name: peer.name.clone(),
            channel: theirs.channel,
            session: theirs.session,
        })
    }

    fn check_proof(
        &mut self,
        message: &Message,
        secret: Option<&'a S>,
        verdict: Result<Agreement, GreetingError>,
        out: &mut Vec<u8>,
    ) -> Result<AcceptStep, GreetingError> {
        let proven = match secret {
            Some(secret) => self
                .transcript
                .verify(secret, Prover::Dialer, message.body()),
            None => message.body().is_empty(),
        };
        if !proven {
            refusal::encode(Reason::NotAuthenticated, out);
            return Err(verdict.err().unwrap_or(GreetingError::WrongSecret));
        }
        let agreement = verdict.inspect_err(|error| put_reason(error, out))?;
        self.state = State::Proven { secret };
        Ok(AcceptStep::Proven(agreement))
    }
}

fn put_reason(error: &GreetingError, out: &mut Vec<u8>) {
    if let GreetingError::Declined { reason, .. } = error {
        refusal::encode(*reason, out);
    }
}
