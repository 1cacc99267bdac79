//! Damaged, truncated and foreign bytes.

use super::*;

fn wire() -> Vec<Vec<u8>> {
    talk(call(), Some("s"), &host(Some("s")), None, untouched).wire
}

#[test]
fn any_flipped_bit_ends_the_opening() {
    for (number, message) in wire().into_iter().enumerate() {
        for index in 0..message.len() {
            for bit in 0..8 {
                let flip = |at, mut bytes: Vec<u8>| {
                    if at == number {
                        bytes[index] ^= 1 << bit;
                    }
                    bytes
                };
                // A length that grew leaves its reader waiting, which the talk counts as closed.
                let outcome = talk_or_wait(number, flip);
                assert!(outcome, "message {number} byte {index} bit {bit}");
            }
        }
    }
}

/// Whether the end that got message `number` did not open the connection.
fn talk_or_wait(number: usize, tamper: impl Fn(usize, Vec<u8>) -> Vec<u8>) -> bool {
    let wire = wire();
    let damaged = tamper(number, wire[number].clone());
    let host = host(Some("s"));
    let mut out = Vec::new();
    if number.is_multiple_of(2) {
        let mut acceptor = Acceptor::new(&host, [9; CHALLENGE_BYTES]);
        if number == 2 {
            acceptor.feed(&wire[0], &mut out).unwrap();
        }
        let answer = acceptor.feed(&damaged, &mut out);
        !matches!(answer, Ok((_, AcceptStep::Proven(_)))) && (number == 2 || out.is_empty())
    } else {
        let mut dialer = Dialer::new(call(), Some(TestSecret("s")), &mut out);
        if number == 3 {
            dialer.feed(&wire[1], &mut out).unwrap();
        }
        let answer = dialer.feed(&damaged, &mut out);
        !matches!(answer, Ok((_, DialStep::Open(_))))
    }
}

#[test]
fn a_message_cut_anywhere_is_waited_for_and_fed_in_pieces_makes_no_difference() {
    let host = host(Some("s"));
    let wire = wire();
    let mut acceptor = Acceptor::new(&host, [9; CHALLENGE_BYTES]);
    let mut out = Vec::new();
    for (position, byte) in wire[0].iter().enumerate() {
        assert!(out.is_empty(), "answered after {position} bytes");
        assert!(acceptor.needed() > 0);
        let fed = acceptor.feed(&[*byte], &mut out).unwrap();
        assert_eq!(fed, (1, AcceptStep::More));
    }
    assert_eq!(out, wire[1]);
    let mut step = AcceptStep::More;
    for byte in &wire[2] {
        assert_eq!(step, AcceptStep::More);
        step = acceptor.feed(&[*byte], &mut out).unwrap().1;
    }
    assert!(matches!(step, AcceptStep::Proven(_)));
}

#[test]
fn never_more_than_the_limit_is_asked_for() {
    let host = host(None);
    let acceptor = Acceptor::new(&host, [9; CHALLENGE_BYTES]);
    assert_eq!(acceptor.needed(), 8);
    for length in 0..=u16::MAX {
        let mut acceptor = Acceptor::new(&host, [9; CHALLENGE_BYTES]);
        let mut header = b"rbdg\0\x01".to_vec();
        header.extend_from_slice(&length.to_be_bytes());
        match acceptor.feed(&header, &mut Vec::new()) {
            Ok(_) => assert!(acceptor.needed() + 8 <= MESSAGE_LIMIT),
            Err(error) => {
                assert!(matches!(error, GreetingError::TooLong { .. }));
                assert!(usize::from(length) > MESSAGE_LIMIT - 12);
            }
        }
    }
}

#[test]
fn the_dialer_too_asks_for_what_is_missing_of_a_message_and_no_more() {
    let mut out = Vec::new();
    let mut dialer = Dialer::new(call(), Some(TestSecret("s")), &mut out);
    for message in [&wire()[1], &wire()[3]] {
        for (position, byte) in message.iter().enumerate() {
            let known = if position < 8 { 8 } else { message.len() };
            assert_eq!(dialer.needed(), known - position, "after {position} bytes");
            let (used, _) = dialer.feed(&[*byte], &mut out).unwrap();
            assert_eq!(used, 1);
        }
    }
}

#[test]
fn each_kind_of_message_has_a_limit_of_its_own() {
    let fed = |kind: u16, length: u16| {
        let mut header = b"rbdg".to_vec();
        header.extend_from_slice(&kind.to_be_bytes());
        header.extend_from_slice(&length.to_be_bytes());
        let every = [
            MessageKind::Preamble,
            MessageKind::Proof,
            MessageKind::Refusal,
        ];
        let fed = message::Inbox::default().feed(&header, &every);
        fed.map(|(used, _)| used)
    };
    for (kind, limit) in [(1, 1012), (2, 32), (3, 257)] {
        assert_eq!(fed(kind, limit), Ok(8));
        let (length, limit) = (usize::from(limit) + 1, usize::from(limit));
        let refused = GreetingError::TooLong { length, limit };
        assert_eq!(fed(kind, u16::try_from(length).unwrap()), Err(refused));
    }
}

#[test]
fn another_protocol_is_recognised_from_its_first_bytes() {
    let host = host(None);
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0",
        b"\x16\x03\x01",
        b"rbdp",
        b"x",
    ] {
        let mut acceptor = Acceptor::new(&host, [9; CHALLENGE_BYTES]);
        let mut out = Vec::new();
        let error = acceptor.feed(garbage, &mut out).unwrap_err();
        assert!(matches!(error, GreetingError::NotAGreeting));
        assert!(error.is_garbage());
        assert!(out.is_empty());
    }
}

#[test]
fn a_body_of_any_length_with_a_fitting_checksum_never_panics() {
    let body = &wire()[0][8..];
    for length in 0..body.len() - 4 {
        let mut bytes = Vec::new();
        message::encode(MessageKind::Preamble, &body[..length], &mut bytes);
        let host = host(None);
        let error = Acceptor::new(&host, [9; CHALLENGE_BYTES])
            .feed(&bytes, &mut Vec::new())
            .unwrap_err();
        assert!(matches!(error, GreetingError::Malformed { .. }));
    }
}

#[test]
fn bytes_after_the_names_are_a_later_versions_business() {
    let wire = wire();
    let mut body = wire[0][8..wire[0].len() - 4].to_vec();
    body.extend_from_slice(b"from the future");
    let mut bytes = Vec::new();
    message::encode(MessageKind::Preamble, &body, &mut bytes);
    let host = host(Some("s"));
    let mut acceptor = Acceptor::new(&host, [9; CHALLENGE_BYTES]);
    let fed = acceptor.feed(&bytes, &mut Vec::new()).unwrap();
    assert_eq!(fed, (bytes.len(), AcceptStep::More));
}

#[test]
fn names_that_are_no_names_are_refused() {
    for bad in [&b"\x00"[..], b"\x01\xff", b"\x02a\n"] {
        let wire = wire();
        let mut body = wire[0][8..8 + 72].to_vec();
        for name in [bad, b"\x05alpha", b"\x04beta"] {
            body.extend_from_slice(name);
        }
        let mut bytes = Vec::new();
        message::encode(MessageKind::Preamble, &body, &mut bytes);
        let host = host(None);
        let error = Acceptor::new(&host, [9; CHALLENGE_BYTES])
            .feed(&bytes, &mut Vec::new())
            .unwrap_err();
        assert!(matches!(error, GreetingError::Malformed { .. }));
    }
}

#[test]
fn a_reason_of_a_later_version_is_shown_in_its_own_words() {
    let mut bytes = Vec::new();
    message::encode(
        MessageKind::Refusal,
        b"\x03\xe8the moon is\x07 wrong",
        &mut bytes,
    );
    let mut dialer = Dialer::<TestSecret>::new(call(), None, &mut Vec::new());
    let error = dialer.feed(&bytes, &mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "refused by the peer: the moon is wrong");
}

#[test]
fn a_reason_of_a_later_version_without_words_has_its_number() {
    let mut bytes = Vec::new();
    message::encode(MessageKind::Refusal, b"\x03\xe8", &mut bytes);
    let mut dialer = Dialer::<TestSecret>::new(call(), None, &mut Vec::new());
    let error = dialer.feed(&bytes, &mut Vec::new()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "refused by the peer: reason 1000, unknown to this version"
    );
    assert!(!error.is_garbage(), "it is a peer's");
}

#[test]
fn a_preamble_has_these_bytes() {
    let mut expected = Vec::new();
    expected.extend_from_slice(b"rbdg\0\x01\0\x56"); // preamble of 86 bytes
    expected.extend_from_slice(&[0, 1, 0, 1]); // versions 1 to 1
    expected.extend_from_slice(&[0, 1, 0, 0]); // data, with secret, node 0
    expected.extend_from_slice(&[0; 16]); // features
    expected.extend_from_slice(&0x1234_5678_9abc_def0_u128.to_be_bytes());
    expected.extend_from_slice(&[7; 32]);
    expected.extend_from_slice(b"\x02r0\x05alpha\x04beta");
    let checksum = crc32fast::hash(&expected);
    expected.extend_from_slice(&checksum.to_be_bytes());
    assert_eq!(wire()[0], expected);
}

#[test]
fn a_refusal_has_these_bytes() {
    let mut bytes = Vec::new();
    refusal::encode(Reason::Busy, &mut bytes);
    let text = b"busy with another connection";
    assert_eq!(bytes[..10], *b"rbdg\0\x03\0\x1e\0\x0a");
    assert_eq!(bytes[10..10 + text.len()], *text);
    assert_eq!(bytes.len(), 10 + text.len() + 4);
}
