//! Clients that mean no good, and clients whose bytes arrive in odd pieces.
//!
//! Whatever arrives: no panic, memory in proportion to what was sent, and an outcome that does not
//! depend on how the bytes were cut.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, also in its helpers"
)]

use proptest::collection::vec;
use proptest::prelude::*;
use rbd_protocol::nbd::{
    BlockSizes, ExportInfo, Exports, Features, Handshake, HandshakeError, Lookup,
    MAXIMUM_DISCARDED_OPTION_DATA, MAXIMUM_OPTION_DATA, MAXIMUM_OPTIONS, MAXIMUM_PAYLOAD, Policy,
    Session, Step,
};

const SIZE: u64 = 1 << 30;

struct OneExport;

impl Exports for OneExport {
    fn lookup(&self, name: &str) -> Lookup {
        match name {
            "" | "r0" => Lookup::Serve(ExportInfo {
                name: "r0/0".into(),
                description: "a disk".into(),
                size: SIZE,
                features: Features {
                    trim: true,
                    write_zeroes: true,
                    ..Features::default()
                },
                block_sizes: BlockSizes::new(512, 4096, 1 << 20).unwrap(),
            }),
            "r1" => Lookup::Refuse("not Primary".into()),
            _ => Lookup::Unknown,
        }
    }

    fn list(&self) -> Vec<(String, String)> {
        vec![("r0/0".into(), "a disk".into())]
    }
}

/// All that can be seen of a negotiation.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    end: Result<Step, HandshakeError>,
    used: usize,
    out: Vec<u8>,
}

/// Feeds `input` cut into pieces of the given lengths, over and over.
fn negotiate(input: &[u8], lengths: &[usize]) -> Outcome {
    let mut handshake = Handshake::new(Policy::default());
    let mut out = Vec::new();
    let mut used = 0;
    for length in lengths.iter().cycle() {
        let piece = &input[used..input.len().min(used + length)];
        match handshake.feed(piece, &OneExport, &mut out) {
            Ok((taken, Step::More)) => assert_eq!(taken, piece.len(), "More takes all"),
            Ok((taken, end)) => {
                return Outcome {
                    end: Ok(end),
                    used: used + taken,
                    out,
                };
            }
            Err(error) => {
                return Outcome {
                    end: Err(error),
                    used: 0,
                    out,
                };
            }
        }
        used += piece.len();
        if used == input.len() {
            return Outcome {
                end: Ok(Step::More),
                used,
                out,
            };
        }
    }
    unreachable!("there is at least one length");
}

fn at_once(input: &[u8]) -> Outcome {
    negotiate(input, &[usize::MAX >> 1])
}

fn flags() -> Vec<u8> {
    vec![0, 0, 0, 3]
}

/// An option header that claims `length`, and the data that really follows.
fn option(number: u32, length: u32, data: &[u8]) -> Vec<u8> {
    [
        b"IHAVEOPT",
        &number.to_be_bytes()[..],
        &length.to_be_bytes(),
        data,
    ]
    .concat()
}

fn honest(number: u32, data: &[u8]) -> Vec<u8> {
    option(number, u32::try_from(data.len()).unwrap(), data)
}

fn go(name: &str) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap().to_be_bytes();
    honest(7, &[&length[..], name.as_bytes(), &[0, 1, 0, 3]].concat())
}

fn context(number: u32, name: &str, queries: &[&str]) -> Vec<u8> {
    let prefixed = |text: &str| {
        [
            &u32::try_from(text.len()).unwrap().to_be_bytes(),
            text.as_bytes(),
        ]
        .concat()
    };
    let count = u32::try_from(queries.len()).unwrap().to_be_bytes();
    let queries: Vec<u8> = queries.iter().flat_map(|query| prefixed(query)).collect();
    honest(number, &[prefixed(name), count.to_vec(), queries].concat())
}

/// What a modern client sends, and the first request after it.
fn whole_conversation() -> Vec<u8> {
    let request = [&0x2560_9513_u32.to_be_bytes()[..], &[0; 24]].concat();
    [
        flags(),
        honest(5, b""),
        honest(11, b""),
        honest(8, b""),
        honest(3, b""),
        honest(99, b"who knows"),
        context(9, "r0", &[]),
        context(10, "r0", &["base:allocation", "qemu:dirty"]),
        go("nowhere"),
        go("r1"),
        go("r0"),
        request,
    ]
    .concat()
}

/// The kind of every option reply after the greeting.
fn reply_kinds(out: &[u8]) -> Vec<u32> {
    let mut rest = &out[18..];
    let mut kinds = Vec::new();
    while rest.len() >= 20 {
        assert_eq!(rest[..8], 0x3_e889_0455_65a9_u64.to_be_bytes());
        kinds.push(u32::from_be_bytes(rest[12..16].try_into().unwrap()));
        let length = u32::from_be_bytes(rest[16..20].try_into().unwrap()) as usize;
        rest = &rest[20 + length..];
    }
    assert!(rest.is_empty(), "half a reply");
    kinds
}

const ACK: u32 = 1;
const UNSUPPORTED: u32 = (1 << 31) + 1;
const INVALID: u32 = (1 << 31) + 3;
const TOO_BIG: u32 = (1 << 31) + 9;

#[test]
fn conversation_ends_the_same_byte_by_byte_and_leaves_the_request_alone() {
    let input = whole_conversation();
    let whole = at_once(&input);
    let Ok(Step::Serve(session)) = &whole.end else {
        panic!("{:?}", whole.end)
    };
    assert_eq!(whole.used, input.len() - session.request_header_len());
    assert!(session.allocation_context().is_some() && session.has_structured_replies());
    assert_eq!(negotiate(&input, &[1]), whole);
}

#[test]
fn conversation_cut_at_any_byte_waits_for_more() {
    let input = whole_conversation();
    let negotiation = at_once(&input).used;
    for end in 0..negotiation {
        let outcome = at_once(&input[..end]);
        assert_eq!(outcome.end, Ok(Step::More), "after {end} bytes");
        assert_eq!(outcome.used, end);
    }
}

#[test]
fn lengths_of_names_and_queries_are_not_believed() {
    // The claimed length of a name, against eight bytes that are there.
    for claim in [9_u32, 4096, 4097, 1 << 31, u32::MAX - 4, u32::MAX] {
        for number in [6, 7, 9, 10] {
            let data = [&claim.to_be_bytes()[..], &[0; 8]].concat();
            let outcome = at_once(&[flags(), honest(8, b""), honest(number, &data)].concat());
            assert_eq!(
                reply_kinds(&outcome.out),
                [ACK, INVALID],
                "{claim} in option {number}"
            );
        }
    }
    for (queries, query) in [(1, u32::MAX), (u32::MAX, 0), (2, 4), (1, 5)] {
        let data = [
            [0; 4],
            u32::to_be_bytes(queries),
            u32::to_be_bytes(query),
            *b"base",
        ]
        .concat();
        for number in [9, 10] {
            let outcome = at_once(&[flags(), honest(8, b""), honest(number, &data)].concat());
            assert_eq!(
                reply_kinds(&outcome.out),
                [ACK, INVALID],
                "{queries} of {query}"
            );
        }
    }
}

#[test]
fn name_longer_than_the_protocol_allows_is_too_big() {
    let name = "x".repeat(4097);
    for input in [go(&name), context(9, &name, &[]), context(10, &name, &[])] {
        let outcome = at_once(&[flags(), honest(8, b""), input].concat());
        assert_eq!(reply_kinds(&outcome.out), [ACK, TOO_BIG]);
    }
    for length in [4097, MAXIMUM_OPTION_DATA + 1, u32::MAX] {
        let outcome = at_once(&[flags(), option(1, length, b"x")].concat());
        assert_eq!(outcome.end, Err(HandshakeError::NameLength(length)));
    }
}

#[test]
fn option_data_is_skipped_up_to_a_limit_and_not_beyond() {
    for length in [MAXIMUM_OPTION_DATA + 1, MAXIMUM_DISCARDED_OPTION_DATA] {
        for (number, answer) in [(7, TOO_BIG), (3, TOO_BIG), (8, TOO_BIG), (77, UNSUPPORTED)] {
            let data = vec![b'I'; length as usize];
            let input = [flags(), option(number, length, &data), honest(8, b"")].concat();
            let outcome = negotiate(&input, &[8191]);
            assert_eq!(outcome.end, Ok(Step::More));
            assert_eq!(reply_kinds(&outcome.out), [answer, ACK], "option {number}");
        }
    }
    for length in [MAXIMUM_DISCARDED_OPTION_DATA + 1, u32::MAX] {
        for number in [2, 3, 7, 8, 10, 77] {
            let outcome = at_once(&[flags(), option(number, length, b"")].concat());
            assert_eq!(
                outcome.end,
                Err(HandshakeError::OptionLength {
                    option: number,
                    length
                })
            );
        }
    }
}

#[test]
fn a_million_options_end_after_the_last_one_allowed() {
    let input = [flags(), honest(3, b"").repeat(1_000_000)].concat();
    let outcome = at_once(&input);
    assert_eq!(outcome.end, Err(HandshakeError::TooManyOptions));
    let answered = reply_kinds(&outcome.out)
        .iter()
        .filter(|kind| **kind == ACK)
        .count();
    assert_eq!(answered, MAXIMUM_OPTIONS as usize);
}

#[test]
fn options_in_the_wrong_order_are_errors_and_not_the_end() {
    let input = [
        flags(),
        context(10, "r0", &["base:allocation"]),
        honest(8, b""),
        go("r0"),
    ];
    let outcome = at_once(&input.concat());
    let Ok(Step::Serve(session)) = outcome.end else {
        panic!("{:?}", outcome.end)
    };
    assert_eq!(reply_kinds(&outcome.out)[..2], [INVALID, ACK]);
    assert_eq!(session.allocation_context(), None);
}

#[test]
fn bytes_after_the_end_are_an_error_and_nothing_more() {
    for input in [
        [flags(), go("r0")].concat(),
        [flags(), honest(2, b"")].concat(),
        vec![0xff; 4],
    ] {
        let mut handshake = Handshake::new(Policy::default());
        let mut out = Vec::new();
        drop(handshake.feed(&input, &OneExport, &mut out));
        let length = out.len();
        for _ in 0..3 {
            let again = handshake.feed(&input, &OneExport, &mut out);
            assert_eq!(again, Err(HandshakeError::Over));
        }
        assert_eq!(out.len(), length);
    }
}

fn session(structured: bool) -> Session {
    let first = if structured {
        honest(8, b"")
    } else {
        Vec::new()
    };
    let select = if structured {
        context(10, "r0", &["base:allocation"])
    } else {
        Vec::new()
    };
    match at_once(&[flags(), first, select, go("r0")].concat()).end {
        Ok(Step::Serve(session)) => session,
        end => panic!("{end:?}"),
    }
}

/// Options that make some sense, so that random ones get far.
fn any_option() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![Just("r0"), Just("r1"), Just("r2"), Just("")];
    let queries = vec(
        prop_oneof![
            Just("base:allocation"),
            Just("base:"),
            Just(""),
            Just("x-y:z")
        ],
        0..3,
    );
    prop_oneof![
        (0_u32..14, vec(any::<u8>(), 0..40)).prop_map(|(number, data)| honest(number, &data)),
        (0_u32..14, any::<u32>(), vec(any::<u8>(), 0..40))
            .prop_map(|(number, length, data)| option(number, length, &data)),
        (9_u32..11, name.clone(), queries)
            .prop_map(|(number, name, queries)| context(number, name, &queries)),
        name.prop_map(go),
        (65_500_u32..65_600).prop_map(|length| option(3, length, &vec![0; length as usize])),
        Just(honest(8, b"")),
    ]
}

proptest! {
    #[test]
    fn cutting_makes_no_difference(
        options in vec(any_option(), 0..12),
        lengths in vec(1_usize..300, 1..20),
    ) {
        let input = [flags(), options.concat()].concat();
        prop_assert_eq!(negotiate(&input, &lengths), at_once(&input));
    }

    #[test]
    fn garbage_gets_little_and_breaks_nothing(input in vec(any::<u8>(), 0..2000)) {
        let outcome = at_once(&input);
        prop_assert!(outcome.out.len() <= 18, "nobody sends a magic by chance");
        let tail = at_once(&[flags(), input].concat());
        prop_assert!(tail.out.len() <= 18);
    }

    #[test]
    fn a_flipped_bit_breaks_nothing(at in 0_usize..3000, bit in 0_u8..8) {
        let mut input = whole_conversation();
        let at = at % input.len();
        input[at] ^= 1 << bit;
        prop_assert_eq!(negotiate(&input, &[3, 1, 50]), at_once(&input));
    }

    #[test]
    fn only_headers_of_the_right_length_and_magic_are_requests(header in vec(any::<u8>(), 0..60)) {
        prop_assert!(session(true).decode(&header).is_err());
    }

    #[test]
    fn a_request_that_passes_lies_inside_the_export(
        structured in any::<bool>(),
        flags in prop_oneof![Just(0_u16), Just(1), 0_u16..64, any::<u16>()],
        kind in prop_oneof![0_u16..10, any::<u16>()],
        cookie in any::<u64>(),
        offset in prop_oneof![
            any::<u64>(), 0..=SIZE, (0..=SIZE >> 9).prop_map(|sector| sector << 9),
            (u64::MAX - 8192..=u64::MAX), Just(SIZE - 512),
        ],
        length in prop_oneof![
            any::<u32>(), 0_u32..4, (0_u32..5000).prop_map(|sectors| sectors << 9),
            Just(u32::MAX), Just(MAXIMUM_PAYLOAD), Just(MAXIMUM_PAYLOAD + 1),
        ],
    ) {
        let header = [
            &0x2560_9513_u32.to_be_bytes()[..], &flags.to_be_bytes(), &kind.to_be_bytes(),
            &cookie.to_be_bytes(), &offset.to_be_bytes(), &length.to_be_bytes(),
        ].concat();
        let session = session(structured);
        let Ok(request) = session.decode(&header) else {
            prop_assert!(kind == 1 && length > MAXIMUM_PAYLOAD);
            return Ok(());
        };
        prop_assert_eq!(request.payload_len(), if kind == 1 { length } else { 0 });
        if session.check(&request).is_err() || kind == 2 {
            return Ok(());
        }
        if kind == 3 {
            prop_assert!(offset == 0 && length == 0);
            return Ok(());
        }
        prop_assert!(matches!(kind, 0 | 1 | 4 | 6 | 7));
        prop_assert!(kind != 7 || structured);
        prop_assert!(length > 0 && offset % 512 == 0 && length % 512 == 0);
        prop_assert!(u128::from(offset) + u128::from(length) <= u128::from(SIZE));
        prop_assert!(kind > 1 || length <= 1 << 20);
    }
}
