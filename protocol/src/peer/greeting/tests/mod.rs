//! Openings between two ends in memory: the good day, every refusal, every attack the proofs are
//! there for, and damaged bytes.

mod attacks;
mod bytes;
mod names;

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::ids::NodeId;

/// A keyed hash good enough for tests: every bit of key and message moves every byte.
#[derive(Clone, Debug)]
pub(super) struct TestSecret(pub(super) &'static str);

impl Secret for TestSecret {
    fn prove(&self, parts: &[&[u8]]) -> [u8; PROOF_BYTES] {
        let mut proof = [0; PROOF_BYTES];
        for (index, byte) in proof.iter_mut().enumerate() {
            let mut state = 0xcbf2_9ce4_8422_2325_u64 ^ u64::try_from(index).unwrap();
            for part in [self.0.as_bytes()].iter().chain(parts) {
                for input in *part {
                    state = (state ^ u64::from(*input)).wrapping_mul(0x0100_0000_01b3);
                    state ^= state >> 29;
                }
            }
            *byte = state.to_be_bytes()[0];
        }
        proof
    }

    fn verify(&self, parts: &[&[u8]], proof: &[u8]) -> bool {
        self.prove(parts) == proof
    }
}

pub(super) fn call() -> Call {
    Call {
        resource: "r0".to_string(),
        node_name: "alpha".to_string(),
        node_id: NodeId(0),
        peer_name: "beta".to_string(),
        peer_id: NodeId(1),
        channel: Channel::Data,
        session: 0x1234_5678_9abc_def0,
        challenge: [7; CHALLENGE_BYTES],
    }
}

pub(super) fn host(secret: Option<&'static str>) -> Host<TestSecret> {
    Host {
        resource: "r0".to_string(),
        node_name: "beta".to_string(),
        node_id: NodeId(1),
        peers: vec![HostPeer {
            name: "alpha".to_string(),
            node_id: NodeId(0),
            secret: secret.map(TestSecret),
        }],
    }
}

/// How an opening ended: at the dialer, and at the acceptor.
pub(super) struct Outcome {
    pub(super) dialer: Result<Agreement, GreetingError>,
    pub(super) acceptor: Result<Agreement, GreetingError>,
    /// Everything that crossed, message by message, dialer and acceptor in turn.
    pub(super) wire: Vec<Vec<u8>>,
}

/// Lets the two talk, every message passing through `tamper` with its number.
pub(super) fn talk(
    call: Call,
    secret: Option<&'static str>,
    host: &Host<TestSecret>,
    verdict: Option<Reason>,
    mut tamper: impl FnMut(usize, Vec<u8>) -> Vec<u8>,
) -> Outcome {
    let mut wire = Vec::new();
    let mut send = |bytes: Vec<u8>| {
        let number = wire.len();
        wire.push(bytes.clone());
        tamper(number, bytes)
    };
    let mut out = Vec::new();
    let mut dialer = Dialer::new(call, secret.map(TestSecret), &mut out);
    let mut acceptor = Some(Acceptor::new(host, [9; CHALLENGE_BYTES]));
    let mut accepted = Err(GreetingError::Over);
    let dialled = loop {
        let message = send(core::mem::take(&mut out));
        let mut answer = Vec::new();
        if let Some(mut end) = acceptor.take() {
            match end.feed(&message, &mut answer) {
                Ok((used, AcceptStep::More)) => {
                    assert_eq!(used, message.len());
                    acceptor = Some(end);
                }
                Ok((_, AcceptStep::Proven(agreement))) => match verdict {
                    None => {
                        end.accept(&mut answer);
                        accepted = Ok(agreement);
                    }
                    Some(reason) => end.refuse(reason, &mut answer),
                },
                Err(error) => accepted = Err(error),
            }
        }
        if answer.is_empty() {
            break Err(GreetingError::Over); // the connection was closed
        }
        let answer = send(answer);
        match dialer.feed(&answer, &mut out) {
            Ok((_, DialStep::More)) => {}
            Ok((_, DialStep::Open(agreement))) => break Ok(agreement),
            Err(error) => {
                if let (Some(mut end), false) = (acceptor.take(), out.is_empty()) {
                    accepted = Err(end.feed(&out, &mut Vec::new()).unwrap_err());
                }
                break Err(error);
            }
        }
    };
    Outcome {
        dialer: dialled,
        acceptor: accepted,
        wire,
    }
}

pub(super) fn untouched(_: usize, bytes: Vec<u8>) -> Vec<u8> {
    bytes
}

pub(super) fn refused(reason: Reason) -> Result<Agreement, GreetingError> {
    Err(GreetingError::Refused {
        reason,
        text: reason.to_string(),
    })
}

pub(super) fn declined_as(result: &Result<Agreement, GreetingError>) -> Option<(Reason, &str)> {
    match result {
        Err(GreetingError::Declined { reason, detail }) => Some((*reason, detail)),
        _ => None,
    }
}

#[test]
fn two_ends_with_the_same_secret_open_a_connection() {
    let outcome = talk(call(), Some("s"), &host(Some("s")), None, untouched);
    let at_dialer = outcome.dialer.unwrap();
    let at_acceptor = outcome.acceptor.unwrap();
    assert_eq!(at_dialer.peer_name, "beta");
    assert_eq!(at_acceptor.peer_name, "alpha");
    assert_eq!(at_acceptor.session, call().session);
    assert_eq!(at_acceptor.channel, Channel::Data);
    assert_eq!(at_dialer.version, at_acceptor.version);
    assert_eq!(outcome.wire.len(), 4);
}

#[test]
fn two_ends_without_a_secret_open_a_connection() {
    let outcome = talk(call(), None, &host(None), None, untouched);
    assert!(outcome.dialer.is_ok());
    assert!(outcome.acceptor.is_ok());
}

#[test]
fn another_secret_is_refused_in_general_terms_and_named_at_home() {
    let outcome = talk(call(), Some("s"), &host(Some("t")), None, untouched);
    assert_eq!(outcome.dialer, refused(Reason::NotAuthenticated));
    assert_eq!(outcome.acceptor, Err(GreetingError::WrongSecret));
}

#[test]
fn a_secret_on_one_side_only_is_refused() {
    let outcome = talk(call(), Some("s"), &host(None), None, untouched);
    assert_eq!(outcome.dialer, refused(Reason::SecretOnOneSide));
    let (reason, text) = declined_as(&outcome.acceptor).unwrap();
    assert_eq!(reason, Reason::SecretOnOneSide);
    assert_eq!(text, "alpha has a shared-secret, this node has not");

    let outcome = talk(call(), None, &host(Some("s")), None, untouched);
    assert_eq!(outcome.dialer, refused(Reason::NotAuthenticated));
    let (reason, text) = declined_as(&outcome.acceptor).unwrap();
    assert_eq!(reason, Reason::SecretOnOneSide);
    assert_eq!(text, "alpha has no shared-secret, this node has");
}

#[test]
fn a_proven_caller_is_told_why_it_is_not_wanted() {
    for reason in [Reason::Busy, Reason::NotSeeking, Reason::UnknownSession] {
        let outcome = talk(call(), Some("s"), &host(Some("s")), Some(reason), untouched);
        assert_eq!(outcome.dialer, refused(reason));
    }
}

#[test]
fn what_follows_the_opening_is_left_alone() {
    let host = host(None);
    let mut to_acceptor = Vec::new();
    let mut dialer = Dialer::<TestSecret>::new(call(), None, &mut to_acceptor);
    let mut acceptor = Acceptor::new(&host, [9; CHALLENGE_BYTES]);
    let mut to_dialer = Vec::new();
    acceptor.feed(&to_acceptor, &mut to_dialer).unwrap();
    let mut proof = Vec::new();
    dialer.feed(&to_dialer, &mut proof).unwrap();
    let length = proof.len();
    proof.extend_from_slice(b"packets");
    let (used, step) = acceptor.feed(&proof, &mut Vec::new()).unwrap();
    assert_eq!(used, length);
    assert!(matches!(step, AcceptStep::Proven(_)));
}

#[test]
fn versions_meet_at_the_newest_both_speak() {
    assert_eq!(common_version((1, 3), (2, 5)), Some(3));
    assert_eq!(common_version((2, 5), (1, 3)), Some(3));
    assert_eq!(common_version((1, 1), (1, 1)), Some(1));
    assert_eq!(common_version((1, 1), (2, 5)), None);
    assert_eq!(common_version((4, 5), (1, 3)), None);
}

/// Rewrites the preamble of message `number` and makes its checksum fit again.
pub(super) fn rewrite(bytes: &[u8], change: impl FnOnce(&mut Preamble)) -> Vec<u8> {
    let (_, message) = message::Inbox::default()
        .feed(bytes, &[MessageKind::Preamble])
        .unwrap();
    let mut preamble = Preamble::decode(message.unwrap().body()).unwrap();
    change(&mut preamble);
    let mut out = Vec::new();
    preamble.encode(&mut out);
    out
}

pub(super) fn name(text: &str) -> String {
    text.to_string()
}
