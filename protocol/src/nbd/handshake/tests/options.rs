//! Every option but the metadata contexts: its answer, its refusals, what it leads to.

use alloc::format;

use super::*;

#[test]
fn server_speaks_first() {
    let mut handshake = Handshake::new(Policy::default());
    let mut out = Vec::new();
    for _ in 0..2 {
        let step = handshake.feed(&[], &OneExport::usual(), &mut out);
        assert_eq!(step, Ok((0, Step::More)));
        assert_eq!(out, GREETING);
    }
}

#[test]
fn client_flags_that_were_not_offered_end_the_connection() {
    for flags in [4_u32, 7, 1 << 16, u32::MAX] {
        let (out, end) = negotiate(
            Policy::default(),
            OneExport::usual(),
            &[&flags.to_be_bytes()],
        );
        assert_eq!(end, Err(HandshakeError::ClientFlags(flags)));
        assert!(out.is_empty());
    }
}

#[test]
fn client_without_fixed_newstyle_may_only_name_an_export() {
    let (out, end) = negotiate(
        Policy::default(),
        OneExport::usual(),
        &[b"\0\0\0\0", &option(3, b"")],
    );
    assert_eq!(end, Err(HandshakeError::NotFixedNewstyle(3)));
    assert!(out.is_empty());
    let (_, end) = negotiate(
        Policy::default(),
        OneExport::usual(),
        &[b"\0\0\0\0", &option(1, b"r0")],
    );
    served(end);
}

#[test]
fn wrong_option_magic_ends_the_connection() {
    let (_, end) = usual(&[b"IHAVEOPS\0\0\0\x03\0\0\0\0"]);
    assert_eq!(end, Err(HandshakeError::OptionMagic(0x4948_4156_454f_5053)));
}

#[test]
fn export_name_is_answered_with_size_flags_and_padding() {
    let described = [SIZE, OFFERED].concat();
    let (out, end) = usual(&[&option(1, b"r0")]);
    assert_eq!(out, described);
    assert_eq!(served(end).export_name(), "r0/0");

    let padded: &[&[u8]] = &[b"\0\0\0\x01", &option(1, b"")];
    let (out, end) = negotiate(Policy::default(), OneExport::usual(), padded);
    assert_eq!(out, [&described[..], &[0; 124]].concat());
    let session = served(end);
    assert!(!session.has_structured_replies());
    assert_eq!(session.allocation_context(), None);
    assert_eq!(session.size(), 1 << 30);
}

#[test]
fn export_name_of_nothing_served_closes_without_a_word() {
    for name in [&b"r1"[..], b"r2"] {
        let (out, end) = usual(&[&option(1, name)]);
        assert_eq!((out, end), (Vec::new(), Ok(Step::Close)));
    }
    for name in [&b"r\xff"[..], b"r\0"] {
        let (out, end) = usual(&[&option(1, name)]);
        assert_eq!(
            (out, end),
            (Vec::new(), Err(HandshakeError::NameNotText(2)))
        );
    }
}

#[test]
fn abort_is_acknowledged_whatever_comes_with_it() {
    for data in [&b""[..], b"bye", &[0; 1 << 20]] {
        let (out, end) = usual(&[&option(2, data)]);
        assert_eq!(out, acknowledged(2));
        assert_eq!(end, Ok(Step::Close));
    }
}

#[test]
fn list_names_every_export_the_protocol_can_carry() {
    let (out, end) = usual(&[&option(3, b"")]);
    let expected = [
        reply(3, b"\0\0\0\x02", b"\0\0\0\x04r0/0disk"),
        reply(3, b"\0\0\0\x02", b"\0\0\0\x02r1"),
        acknowledged(3),
    ];
    assert_eq!(out, expected.concat());
    assert_eq!(end, Ok(Step::More));
}

#[test]
fn options_without_data_refuse_data() {
    for number in [3, 8] {
        let text = format!("option {number} takes no data, 1 bytes came");
        let (out, end) = usual(&[&option(number, b"x"), &option(1, b"r0")]);
        let refused = reply(number, b"\x80\0\0\x03", text.as_bytes());
        assert_eq!(out, [&refused, SIZE, OFFERED].concat());
        assert!(!served(end).has_structured_replies());
    }
}

#[test]
fn options_not_served_are_unsupported_and_negotiation_goes_on() {
    // PEEK_EXPORT, STARTTLS, EXTENDED_HEADERS, and nothing known.
    for number in [0, 4, 5, 11, 200] {
        let text = format!("option {number} is not supported");
        let (out, end) = usual(&[&option(number, b"abc"), &option(2, b"")]);
        let refused = reply(number, b"\x80\0\0\x01", text.as_bytes());
        assert_eq!(out, [refused, acknowledged(2)].concat());
        assert_eq!(end, Ok(Step::Close));
    }
}

#[test]
fn info_tells_what_is_asked_and_go_tells_the_same_and_serves() {
    let data = b"\0\0\0\x02r0\0\x05\0\x01\0\x02\0\x03\0\x00\x12\x34";
    for number in [6, 7] {
        let (out, end) = usual(&[&option(number, data)]);
        let sizes = b"\0\x03\0\0\x02\0\0\0\x10\0\0\x10\0\0";
        let expected = [
            reply(number, b"\0\0\0\x03", sizes),
            reply(number, b"\0\0\0\x03", &[b"\0\0", SIZE, OFFERED].concat()),
            reply(number, b"\0\0\0\x03", b"\0\x01r0/0"),
            reply(number, b"\0\0\0\x03", b"\0\x02disk"),
            acknowledged(number),
        ];
        assert_eq!(out, expected.concat());
        if number == 6 {
            assert_eq!(end, Ok(Step::More));
        } else {
            drop(served(end));
        }
    }
}

#[test]
fn go_without_requests_tells_export_and_block_sizes_only() {
    let (out, end) = usual(&[&option(7, b"\0\0\0\0\0\0")]);
    let expected = [
        reply(7, b"\0\0\0\x03", b"\0\x03\0\0\x02\0\0\0\x10\0\0\x10\0\0"),
        reply(7, b"\0\0\0\x03", &[b"\0\0", SIZE, OFFERED].concat()),
        acknowledged(7),
    ];
    assert_eq!(out, expected.concat());
    served(end);
}

#[test]
fn info_and_go_are_refused_with_a_reason() {
    for number in [6, 7] {
        let (out, end) = usual(&[&option(number, b"\0\0\0\x02r1\0\0")]);
        assert_eq!(out, reply(number, b"\x80\0\0\x02", b"not here"));
        assert_eq!(end, Ok(Step::More));
        let (out, _) = usual(&[&option(number, b"\0\0\0\x02r2\0\0")]);
        assert_eq!(
            out,
            reply(number, b"\x80\0\0\x06", b"no export is named \"r2\"")
        );
    }
}

#[test]
fn refusals_are_cut_to_what_a_string_may_hold_between_characters() {
    struct LongWinded;
    impl Exports for LongWinded {
        fn lookup(&self, _: &str) -> Lookup {
            Lookup::Refuse(format!("a{}", "ü".repeat(4096)))
        }
        fn list(&self) -> Vec<(String, String)> {
            Vec::new()
        }
    }
    let mut out = Vec::new();
    let input = [FLAGS, &option(7, b"\0\0\0\0\0\0")].concat();
    let step = Handshake::new(Policy::default()).feed(&input, &LongWinded, &mut out);
    assert!(step.is_ok());
    let text = format!("a{}", "ü".repeat(2047));
    assert_eq!(out[18..], reply(7, b"\x80\0\0\x02", text.as_bytes()));
}

#[test]
fn malformed_info_is_invalid() {
    let too_short = [
        &b""[..],
        b"\0\0\0\0",
        b"\0\0\0\x02r0",
        b"\0\0\0\x02r0\0",
        b"\0\0\0\x03r0x\0",
    ];
    let odd_requests = [
        &b"\0\0\0\0\0\x01"[..],
        b"\0\0\0\0\0\x01\0",
        b"\0\0\0\0\0\0\0",
    ];
    for data in too_short.iter().chain(&odd_requests) {
        let (out, end) = usual(&[&option(7, data)]);
        let text = b"option data ends early or has bytes to spare";
        assert_eq!(out, reply(7, b"\x80\0\0\x03", text), "{data:?}");
        assert_eq!(end, Ok(Step::More));
    }
    let (out, _) = usual(&[&option(7, b"\0\0\0\x02\xffx\0\0")]);
    let text = b"export name is not utf-8 text without nul";
    assert_eq!(out, reply(7, b"\x80\0\0\x03", text));
}

#[test]
fn block_sizes_must_be_asked_for_only_where_the_server_insists() {
    let strict = Policy {
        require_block_size: true,
    };
    let sizes = reply(7, b"\0\0\0\x03", b"\0\x03\0\0\x02\0\0\0\x10\0\0\x10\0\0");
    let refused = reply(
        7,
        b"\x80\0\0\x08",
        b"this export has block sizes that a client must ask for",
    );
    let unasked = option(7, b"\0\0\0\x02r0\0\0");
    let asked = option(7, b"\0\0\0\x02r0\0\x01\0\x03");
    let (out, end) = negotiate(strict, OneExport::usual(), &[FLAGS, &unasked]);
    assert_eq!(out, [sizes, refused].concat());
    assert_eq!(end, Ok(Step::More));
    served(negotiate(strict, OneExport::usual(), &[FLAGS, &unasked, &asked]).1);
    let (out, end) = negotiate(strict, OneExport::usual(), &[FLAGS, &option(1, b"r0")]);
    assert_eq!((out, end), (Vec::new(), Ok(Step::Close)));

    // One size of its own is enough to insist.
    for (minimum, maximum) in [(1, 1 << 20), (512, MAXIMUM_PAYLOAD)] {
        let export = OneExport {
            block_sizes: BlockSizes::new(minimum, 4096, maximum).unwrap(),
            ..OneExport::usual()
        };
        let (_, end) = negotiate(strict, export, &[FLAGS, &option(1, b"r0")]);
        assert_eq!(end, Ok(Step::Close), "{minimum} {maximum}");
    }
    let any = OneExport {
        block_sizes: BlockSizes::UNCONSTRAINED,
        ..OneExport::usual()
    };
    served(negotiate(strict, any, &[FLAGS, &unasked]).1);
    served(negotiate(strict, any, &[FLAGS, &option(1, b"r0")]).1);
}

#[test]
fn structured_replies_bring_the_flag_not_to_fragment() {
    let (out, end) = usual(&[&option(8, b""), &option(8, b""), &option(1, b"r0")]);
    let expected = [
        acknowledged(8),
        acknowledged(8),
        SIZE.into(),
        vec![0x01, 0xed],
    ];
    assert_eq!(out, expected.concat());
    assert!(served(end).has_structured_replies());
}

#[test]
fn features_become_transmission_flags() {
    let nothing = Features::default();
    let all = Features {
        rotational: true,
        trim: true,
        write_zeroes: true,
        fast_zero: true,
        multi_conn: true,
        ..nothing
    };
    let read_only = Features {
        read_only: true,
        ..all
    };
    let fast_zero_alone = Features {
        fast_zero: true,
        ..nothing
    };
    let cases = [
        (nothing, 0x0d),
        (all, 0x097d),
        (read_only, 0x011f),
        (fast_zero_alone, 0x0d),
    ];
    for (features, flags) in cases {
        let export = OneExport {
            features,
            ..OneExport::usual()
        };
        let (out, _) = negotiate(Policy::default(), export, &[FLAGS, &option(1, b"r0")]);
        assert_eq!(
            out,
            [SIZE, &u16::to_be_bytes(flags)].concat(),
            "{features:?}"
        );
    }
}

#[test]
fn block_sizes_that_may_not_be_advertised_cannot_be_made() {
    for minimum in [0, 3, 511, 1 << 17] {
        let sizes = BlockSizes::new(minimum, 1 << 20, 1 << 20);
        assert_eq!(sizes, Err(BlockSizeError::Minimum(minimum)));
    }
    for preferred in [0, 256, 2048, 5000] {
        let sizes = BlockSizes::new(4096, preferred, 1 << 20);
        assert_eq!(sizes, Err(BlockSizeError::Preferred(preferred)));
    }
    for maximum in [0, 4095, 4097, MAXIMUM_PAYLOAD + 512, u32::MAX] {
        let sizes = BlockSizes::new(512, 4096, maximum);
        assert_eq!(sizes, Err(BlockSizeError::MaximumPayload(maximum)));
    }
    assert!(BlockSizes::new(1 << 16, 1 << 16, 1 << 16).is_ok());
    assert!(BlockSizes::new(1, 512, MAXIMUM_PAYLOAD).is_ok());
}
