//! What someone between or beside the nodes can try without the secret.

use super::*;

#[test]
fn no_field_of_either_preamble_can_be_altered_on_the_way() {
    let changes: [fn(&mut Preamble); 8] = [
        |preamble| preamble.versions = (1, 2),
        |preamble| preamble.features ^= 1,
        |preamble| preamble.challenge[31] ^= 1,
        |preamble| preamble.session ^= 1,
        |preamble| preamble.channel = Channel::Control,
        |preamble| preamble.sender_id = NodeId(9),
        |preamble| preamble.resource = name("r1"),
        |preamble| preamble.sender = name("gamma"),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        for altered in [0, 1] {
            let tamper = |number, bytes: Vec<u8>| {
                // Message 0 is the dialer's preamble, message 1 the acceptor's.
                if number == altered {
                    rewrite(&bytes, change)
                } else {
                    bytes
                }
            };
            let outcome = talk(call(), Some("s"), &host(Some("s")), None, tamper);
            assert!(outcome.dialer.is_err(), "change {index} of {altered}");
            assert!(outcome.acceptor.is_err(), "change {index} of {altered}");
        }
    }
}

/// Also without a secret, where nothing proves what was altered.
#[test]
fn an_answer_to_another_call_is_none() {
    let changes: [fn(&mut Preamble); 6] = [
        |answer| answer.channel = Channel::Control,
        |answer| answer.session ^= 1,
        |answer| answer.resource = name("r1"),
        |answer| answer.sender = name("gamma"),
        |answer| answer.receiver = name("delta"),
        |answer| answer.challenge = call().challenge,
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let tamper = |number, bytes: Vec<u8>| match number {
            1 => rewrite(&bytes, change),
            _ => bytes,
        };
        let outcome = talk(call(), None, &host(None), None, tamper);
        let what = "it does not answer this call";
        let refused = Err(GreetingError::Malformed { what });
        assert_eq!(outcome.dialer, refused, "change {index}");
    }
}

#[test]
fn hiding_the_secret_flag_opens_nothing() {
    for altered in [0, 1] {
        let tamper = |number, bytes: Vec<u8>| {
            if number == altered {
                rewrite(&bytes, |preamble| preamble.has_secret = false)
            } else {
                bytes
            }
        };
        let outcome = talk(call(), Some("s"), &host(Some("s")), None, tamper);
        assert!(outcome.dialer.is_err());
        assert!(outcome.acceptor.is_err());
    }
}

#[test]
fn the_dialers_own_proof_sent_back_is_not_the_acceptors() {
    let mut proof = Vec::new();
    let outcome = talk(
        call(),
        Some("s"),
        &host(Some("s")),
        None,
        |number, bytes| match number {
            2 => {
                proof = bytes.clone();
                bytes
            }
            3 => proof.clone(),
            _ => bytes,
        },
    );
    assert_eq!(outcome.dialer, Err(GreetingError::WrongSecret));
}

#[test]
fn a_preamble_sent_back_to_its_maker_is_refused() {
    let mut first = Vec::new();
    let outcome = talk(
        call(),
        Some("s"),
        &host(Some("s")),
        None,
        |number, bytes| match number {
            0 => {
                first = bytes.clone();
                bytes
            }
            1 => first.clone(),
            _ => bytes,
        },
    );
    assert!(matches!(
        outcome.dialer,
        Err(GreetingError::Malformed { .. })
    ));
}

#[test]
fn a_recorded_opening_is_worthless_later() {
    let recorded = talk(call(), Some("s"), &host(Some("s")), None, untouched).wire;
    let host = host(Some("s"));
    // The acceptor's challenge is another one this time.
    let mut acceptor = Acceptor::new(&host, [10; CHALLENGE_BYTES]);
    let mut out = Vec::new();
    acceptor.feed(&recorded[0], &mut out).unwrap();
    assert_eq!(
        acceptor.feed(&recorded[2], &mut out),
        Err(GreetingError::WrongSecret)
    );
}

#[test]
fn a_proof_for_the_data_connection_does_not_open_the_control_connection() {
    let recorded = talk(call(), Some("s"), &host(Some("s")), None, untouched).wire;
    let host = host(Some("s"));
    let mut acceptor = Acceptor::new(&host, [9; CHALLENGE_BYTES]);
    let mut out = Vec::new();
    let control = rewrite(&recorded[0], |preamble| preamble.channel = Channel::Control);
    acceptor.feed(&control, &mut out).unwrap();
    assert_eq!(
        acceptor.feed(&recorded[2], &mut out),
        Err(GreetingError::WrongSecret)
    );
}

#[test]
fn an_empty_proof_is_none() {
    let mut empty = Vec::new();
    message::encode(MessageKind::Proof, &[], &mut empty);
    let outcome = talk(
        call(),
        Some("s"),
        &host(Some("s")),
        None,
        |number, bytes| match number {
            2 => empty.clone(),
            _ => bytes,
        },
    );
    assert_eq!(outcome.acceptor, Err(GreetingError::WrongSecret));
    let outcome = talk(
        call(),
        Some("s"),
        &host(Some("s")),
        None,
        |number, bytes| match number {
            3 => empty.clone(),
            _ => bytes,
        },
    );
    assert_eq!(outcome.dialer, Err(GreetingError::WrongSecret));
}
