//! Request headers and where the stream is given up.

use alloc::string::ToString;

use super::*;

#[test]
fn request_header_has_28_bytes_in_network_order() {
    let bytes = b"\x25\x60\x95\x13\0\x01\0\x01\x01\x02\x03\x04\x05\x06\x07\x08\
                  \0\0\0\x01\0\0\x20\0\0\0\x10\0";
    assert_eq!(bytes.len(), structured().request_header_len());
    let request = structured().decode(bytes).unwrap();
    assert_eq!(request.cookie, COOKIE);
    assert_eq!(request.kind, RequestKind::Write);
    assert!(request.flags.fua() && !request.flags.no_hole());
    assert_eq!(request.range, ByteRange::new(0x1_0000_2000, 4096));
    assert_eq!(request.payload_len(), 4096);
}

#[test]
fn every_command_and_flag_has_its_number() {
    let kinds = [
        RequestKind::Read,
        RequestKind::Write,
        RequestKind::Disconnect,
        RequestKind::Flush,
        RequestKind::Trim,
        RequestKind::Cache,
        RequestKind::WriteZeroes,
        RequestKind::BlockStatus,
        RequestKind::Unknown(8),
    ];
    for (number, kind) in (0..).zip(kinds) {
        assert_eq!(request(0, number, 0, 512).kind, kind);
        assert_eq!(
            request(0, number, 0, 512).payload_len(),
            if number == 1 { 512 } else { 0 }
        );
    }
    let flags = |bits| request(bits, 0, 0, 512).flags;
    assert!(flags(FUA).fua() && flags(NO_HOLE).no_hole() && flags(DF).df());
    assert!(flags(REQ_ONE).req_one() && flags(FAST_ZERO).fast_zero());
    let others = flags(!(FUA | NO_HOLE | DF | REQ_ONE | FAST_ZERO));
    assert!(!others.fua() && !others.no_hole() && !others.df());
    assert!(!others.req_one() && !others.fast_zero());
}

#[test]
fn stream_that_cannot_be_followed_is_an_error() {
    let mut bytes = header(0, 0, 0, 512);
    assert_eq!(
        simple().decode(&bytes[..27]),
        Err(SessionError::HeaderLength(27))
    );
    assert_eq!(
        simple().decode(&[0; 29]),
        Err(SessionError::HeaderLength(29))
    );
    bytes[0] = 0x26;
    assert_eq!(
        simple().decode(&bytes),
        Err(SessionError::Magic(0x2660_9513))
    );
}

#[test]
fn payload_of_32_mib_is_received_and_one_byte_more_is_not() {
    let most = request(0, 1, 0, MAXIMUM_PAYLOAD);
    assert_eq!(most.payload_len(), MAXIMUM_PAYLOAD);
    let length = MAXIMUM_PAYLOAD + 1;
    let error = simple().decode(&header(0, 1, 0, length)).unwrap_err();
    assert_eq!(
        error,
        SessionError::PayloadTooLong {
            cookie: COOKIE,
            length
        }
    );
    assert_eq!(
        error.to_string(),
        "write payload of 33554433 bytes is more than 33554432"
    );
    assert_eq!(request(0, 0, 0, length).payload_len(), 0);
}
