//! The opening of a connection, at either end: arbitrary bytes in arbitrary pieces, and a real
//! opening with somebody in the middle who alters it.
//!
//! However the bytes are cut, the same is put out and the same is decided. With a shared secret an
//! opening that was altered in any way is not completed by the end that saw the alteration.

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Channel;
use rbd_protocol::peer::greeting::{
    AcceptStep, Acceptor, Agreement, Call, DialStep, Dialer, GreetingError, Host, HostPeer,
    PROOF_BYTES, Reason, Secret,
};
use sha2::Sha256;

use crate::frames;
use crate::input::Input;

/// First byte: which end, with or without secrets, sealed or not; the rest is what it hears, or
/// what the one in the middle does.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let secret = (mode & 1 == 1).then_some("secret");
    match mode >> 1 & 3 {
        0 => hear(&heard(mode, input.rest()), |bytes, piece| {
            listen(secret, bytes, piece)
        }),
        1 => hear(&heard(mode, input.rest()), |bytes, piece| {
            dial(secret, bytes, piece)
        }),
        2 => in_the_middle(&mut input, secret, secret),
        _ => in_the_middle(&mut input, secret, Some("another")),
    }
}

fn heard(mode: u8, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if mode & 8 == 0 {
        frames::seal_greetings(&mut bytes);
    }
    bytes
}

/// Everything at once, a byte at a time and in odd pieces must come to the same.
fn hear<T: PartialEq + std::fmt::Debug>(bytes: &[u8], end: impl Fn(&[u8], usize) -> T) {
    let whole = end(bytes, usize::MAX);
    for piece in [1, 7] {
        assert_eq!(end(bytes, piece), whole, "in pieces of {piece}");
    }
}

type Heard<S> = (Result<S, GreetingError>, Vec<u8>, usize);

fn listen(secret: Option<&str>, bytes: &[u8], piece: usize) -> Heard<Option<Agreement>> {
    let host = host(secret);
    let mut acceptor = Acceptor::new(&host, [7; 32]);
    let (mut out, mut used) = (Vec::new(), 0);
    while used < bytes.len() {
        let needed = acceptor.needed();
        let end = bytes.len().min(used.saturating_add(piece));
        match acceptor.feed(&bytes[used..end], &mut out) {
            Ok((count, AcceptStep::More)) => {
                assert!(count <= needed.max(bytes.len()), "more used than there is");
                assert!(count > 0, "nothing used and nothing decided");
                used += count;
            }
            Ok((count, AcceptStep::Proven(agreement))) => {
                check(&agreement);
                acceptor.accept(&mut out);
                return (Ok(Some(agreement)), out, used + count);
            }
            Err(error) => return (Err(error), out, 0),
        }
    }
    (Ok(None), out, used)
}

fn dial(secret: Option<&str>, bytes: &[u8], piece: usize) -> Heard<Option<Agreement>> {
    let mut out = Vec::new();
    let mut dialer = Dialer::new(call(), secret.map(Key::new), &mut out);
    let mut used = 0;
    while used < bytes.len() {
        let end = bytes.len().min(used.saturating_add(piece));
        match dialer.feed(&bytes[used..end], &mut out) {
            Ok((count, DialStep::More)) => {
                assert!(count > 0, "nothing used and nothing decided");
                used += count;
            }
            Ok((count, DialStep::Open(agreement))) => {
                check(&agreement);
                assert!(
                    secret.is_none(),
                    "opened by bytes of somebody who does not know the secret"
                );
                return (Ok(Some(agreement)), out, used + count);
            }
            Err(error) => return (Err(error), out, 0),
        }
    }
    (Ok(None), out, used)
}

fn check(agreement: &Agreement) {
    assert!(agreement.version > 0, "{agreement:?}");
    assert!(!agreement.peer_name.is_empty(), "{agreement:?}");
}

/// A real dialer and a real acceptor; up to four messages cross, and each may be altered.
fn in_the_middle(input: &mut Input<'_>, ours: Option<&str>, theirs: Option<&str>) {
    let host = host(theirs);
    let mut acceptor = Acceptor::new(&host, [9; 32]);
    let mut to_acceptor = Vec::new();
    let mut dialer = Dialer::new(call(), ours.map(Key::new), &mut to_acceptor);
    let mut altered = false;

    let mut to_dialer = Vec::new();
    altered |= alter(input, &mut to_acceptor);
    let first = acceptor.feed(&to_acceptor, &mut to_dialer);
    altered |= alter(input, &mut to_dialer);
    let mut second = Vec::new();
    if !matches!(
        dialer.feed(&to_dialer, &mut second),
        Ok((_, DialStep::More))
    ) {
        return;
    }
    altered |= alter(input, &mut second);
    let mut answer = Vec::new();
    if !matches!(first, Ok((_, AcceptStep::More))) {
        return;
    }
    let proven = acceptor.feed(&second, &mut answer);
    if let Ok((_, AcceptStep::Proven(agreement))) = &proven {
        check(agreement);
        assert!(ours.is_some() == theirs.is_some(), "one end has no secret");
        assert!(ours == theirs, "proven under another secret");
        if ours.is_some() {
            assert!(!altered, "proven although something was altered");
        }
        if input.flag() {
            acceptor.accept(&mut answer);
        } else {
            acceptor.refuse(Reason::Busy, &mut answer);
        }
    }
    let altered_last = alter(input, &mut answer);
    if let Ok((_, DialStep::Open(agreement))) = dialer.feed(&answer, &mut Vec::new()) {
        check(&agreement);
        if ours.is_some() {
            assert!(!altered && !altered_last, "open although altered");
            assert!(proven.is_ok(), "open although the other end is not");
        }
    } else {
        assert!(
            altered || altered_last || ours != theirs || proven.is_err() || !answer_opens(&answer),
            "an opening nobody touched was not completed"
        );
    }
}

/// Whether the message is a proof, rather than a refusal.
fn answer_opens(answer: &[u8]) -> bool {
    answer.get(5) == Some(&2)
}

/// Changes one byte of a message, mends its checksum, and tells whether it differs now.
fn alter(input: &mut Input<'_>, message: &mut [u8]) -> bool {
    let before = message.to_vec();
    for _ in 0..input.u8() % 3 {
        let at = usize::from(input.u16()) % message.len().max(1);
        if let Some(byte) = message.get_mut(at) {
            *byte ^= input.u8();
        }
    }
    frames::seal_greetings(message);
    before != message
}

fn host(secret: Option<&str>) -> Host<Key> {
    Host {
        resource: "r0".into(),
        node_name: "beta".into(),
        node_id: NodeId(1),
        peers: vec![HostPeer {
            name: "alpha".into(),
            node_id: NodeId(0),
            secret: secret.map(Key::new),
        }],
    }
}

fn call() -> Call {
    Call {
        resource: "r0".into(),
        node_name: "alpha".into(),
        node_id: NodeId(0),
        peer_name: "beta".into(),
        peer_id: NodeId(1),
        channel: Channel::Data,
        session: 0x5e55_1011,
        challenge: [3; 32],
    }
}

/// A key of the hash the daemon uses.
struct Key(Hmac<Sha256>);

impl Key {
    fn new(secret: &str) -> Self {
        Self(
            Hmac::new_from_slice(secret.as_bytes())
                .expect("a keyed hash takes a key of any length"),
        )
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut hash = self.0.clone();
        for part in parts {
            hash.update(part);
        }
        hash
    }
}

impl Secret for Key {
    fn prove(&self, parts: &[&[u8]]) -> [u8; PROOF_BYTES] {
        self.over(parts).finalize().into_bytes().into()
    }

    fn verify(&self, parts: &[&[u8]], proof: &[u8]) -> bool {
        self.over(parts).verify_slice(proof).is_ok()
    }
}
