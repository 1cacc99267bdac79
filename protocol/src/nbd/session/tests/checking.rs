//! Which requests may be carried out and what the others are told.

use alloc::string::ToString;

use super::*;

fn refused(session: &Session, flags: u16, kind: u16, offset: u64, length: u32) -> (Errno, Reason) {
    let refusal = session
        .check(&request(flags, kind, offset, length))
        .unwrap_err();
    (refusal.errno, refusal.reason)
}

#[test]
fn whole_requests_inside_the_export_pass() {
    for (flags, kind, offset, length) in [
        (0, 0, 0, 512),
        (FUA | DF, 0, SIZE - (1 << 20), 1 << 20),
        (FUA, 1, SIZE - 512, 512),
        (0, 2, 0, 0),
        (0xffff, 2, 1, 1),
        (FUA, 3, 0, 0),
        (FUA, 4, 0, 0xffff_fe00),
        (FUA | NO_HOLE, 6, 512, 0xffff_fe00),
        (REQ_ONE, 7, 0, 0xffff_fe00),
    ] {
        let request = request(flags, kind, offset, length);
        assert_eq!(structured().check(&request), Ok(()), "{request:?}");
    }
}

#[test]
fn requests_beyond_the_end_fail_by_kind() {
    let cases = [
        (0, Errno::Invalid),
        (1, Errno::NoSpace),
        (4, Errno::Invalid),
        (6, Errno::NoSpace),
        (7, Errno::Invalid),
    ];
    for (kind, errno) in cases {
        for offset in [SIZE - 512, SIZE, u64::MAX - 1023, u64::MAX - 511] {
            let range = ByteRange::new(offset, 1024);
            let reason = Reason::BeyondEnd { range, size: SIZE };
            assert_eq!(
                refused(&structured(), 0, kind, offset, 1024),
                (errno, reason)
            );
        }
    }
}

#[test]
fn range_that_overflows_is_beyond_the_end_of_the_largest_export() {
    let mut largest = export();
    largest.size = u64::MAX;
    largest.block_sizes = BlockSizes::UNCONSTRAINED;
    let session = Session::new(largest, false, None);
    let range = ByteRange::new(u64::MAX, 1);
    let reason = Reason::BeyondEnd {
        range,
        size: u64::MAX,
    };
    assert_eq!(
        refused(&session, 0, 0, u64::MAX, 1),
        (Errno::Invalid, reason)
    );
    assert_eq!(session.check(&request(0, 0, u64::MAX - 1, 1)), Ok(()));
}

#[test]
fn empty_and_unaligned_requests_are_invalid() {
    for kind in [0, 1, 4, 6, 7] {
        assert_eq!(
            refused(&structured(), 0, kind, 0, 0),
            (Errno::Invalid, Reason::ZeroLength)
        );
        for (offset, length) in [(1, 512), (0, 511), (256, 512), (512, 513)] {
            let range = ByteRange::new(offset, length);
            let reason = Reason::Unaligned {
                range,
                minimum: 512,
            };
            assert_eq!(
                refused(&structured(), 0, kind, offset, length),
                (Errno::Invalid, reason)
            );
        }
    }
}

#[test]
fn longer_than_advertised_is_refused_and_asks_for_less_where_that_can_be_said() {
    let length = (1 << 20) + 512;
    let reason = Reason::TooLong {
        length,
        maximum: 1 << 20,
    };
    assert_eq!(
        refused(&structured(), 0, 0, 0, length),
        (Errno::Overflow, reason)
    );
    assert_eq!(
        refused(&simple(), 0, 0, 0, length),
        (Errno::Invalid, reason)
    );
    assert_eq!(
        refused(&structured(), 0, 1, 0, length),
        (Errno::Invalid, reason)
    );
}

#[test]
fn flush_takes_no_range() {
    for (offset, length) in [(0, 512), (512, 0)] {
        let reason = Reason::FlushRange(ByteRange::new(offset, length));
        assert_eq!(
            refused(&simple(), 0, 3, offset, length),
            (Errno::Invalid, reason)
        );
    }
}

#[test]
fn flags_that_do_not_belong_to_the_command_are_invalid() {
    let elsewhere = [
        (0, NO_HOLE | REQ_ONE | FAST_ZERO),
        (1, NO_HOLE | DF | REQ_ONE | FAST_ZERO),
        (3, NO_HOLE | DF | REQ_ONE | FAST_ZERO),
        (4, NO_HOLE | DF | REQ_ONE | FAST_ZERO),
        (6, DF | REQ_ONE | FAST_ZERO),
        (7, NO_HOLE | DF | FAST_ZERO),
    ];
    for (kind, bits) in elsewhere {
        for bit in (0..16).map(|shift| 1 << shift) {
            let length = if kind == 3 { 0 } else { 512 };
            let outcome = structured().check(&request(bit, kind, 0, length));
            let wrong = bits & bit != 0 || bit > FAST_ZERO;
            let expected = if wrong {
                Some(Reason::Flags(bit))
            } else {
                None
            };
            assert_eq!(
                outcome.err().map(|refusal| refusal.reason),
                expected,
                "{kind} {bit:#x}"
            );
        }
    }
    // Not to fragment needs structured replies; to be fast has to be offered.
    assert_eq!(refused(&simple(), DF, 0, 0, 512).1, Reason::Flags(DF));
    let fast = with(|features| features.fast_zero = true);
    assert_eq!(fast.check(&request(FAST_ZERO, 6, 0, 512)), Ok(()));
}

#[test]
fn commands_that_were_not_offered_are_invalid() {
    let none = with(|features| *features = Features::default());
    for (session, kind) in [
        (&none, 4),
        (&none, 6),
        (&none, 5),
        (&none, 8),
        (&none, 0xffff),
    ] {
        let expected = (Errno::Invalid, Reason::CommandNotOffered(kind));
        assert_eq!(refused(session, 0, kind, 0, 512), expected);
    }
    assert_eq!(
        refused(&simple(), 0, 7, 0, 512),
        (Errno::Invalid, Reason::NoMetaContext)
    );
}

#[test]
fn read_only_export_permits_no_write() {
    let session = with(|features| features.read_only = true);
    for kind in [1, 4, 6] {
        assert_eq!(
            refused(&session, 0, kind, 0, 512),
            (Errno::NotPermitted, Reason::ReadOnly)
        );
    }
    for (kind, length) in [(0, 512), (3, 0), (7, 512)] {
        assert_eq!(session.check(&request(0, kind, 0, length)), Ok(()));
    }
}

#[test]
fn refusals_say_the_number_that_was_wrong() {
    let text = |flags, kind, offset, length| {
        let refusal = structured()
            .check(&request(flags, kind, offset, length))
            .unwrap_err();
        refusal.to_string()
    };
    assert_eq!(
        text(0, 0, SIZE, 512),
        "range 8589934592+512 ends beyond 8589934592"
    );
    assert_eq!(text(0, 1, 3, 512), "range 3+512 is not aligned to 512");
    assert_eq!(
        text(0, 1, 0, 2 << 20),
        "length 2097152 is more than 1048576"
    );
    assert_eq!(text(64, 1, 0, 512), "command flags 0x0040 do not apply");
    assert_eq!(text(0, 99, 0, 512), "command 99 is not offered");
    assert_eq!(text(0, 3, 512, 0), "flush of range 512+0");
}

#[test]
fn a_client_that_does_not_negotiate_has_simple_replies_and_what_the_export_offers() {
    let session = Session::without_negotiation(export());
    assert_eq!(session, simple());
    // Has flags, flush, FUA, trim, write zeroes; not: multi-conn, structured replies' DF.
    assert_eq!(session.transmission_flags(), 0b0110_1101);
}
