//! Names and option data as long as they may be, and one byte longer.

use alloc::format;

use super::*;

const TOO_BIG: &[u8; 4] = b"\x80\0\0\x09";
const UNKNOWN: &[u8; 4] = b"\x80\0\0\x06";

/// The data of GO for an export of this name.
fn named(name: &[u8]) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap().to_be_bytes();
    [&length, name, b"\0\0"].concat()
}

#[test]
fn a_name_of_4096_bytes_is_looked_up_and_a_longer_one_is_not() {
    let longest = [b'x'; 4096];
    let (out, end) = usual(&[&option(7, &named(&longest))]);
    let text = format!("no export is named \"{}", "x".repeat(4096));
    assert_eq!(out, reply(7, UNKNOWN, &text.as_bytes()[..4096]));
    assert_eq!(end, Ok(Step::More));
    let (out, end) = usual(&[&option(7, &named(&[b'x'; 4097]))]);
    let text = b"export name of 4097 bytes is longer than 4096";
    assert_eq!(out, reply(7, TOO_BIG, text));
    assert_eq!(end, Ok(Step::More));
    // EXPORT_NAME has no room for an error: unknown closes, too long is an offence.
    let (_, end) = usual(&[&option(1, &longest)]);
    assert_eq!(end, Ok(Step::Close));
    let (_, end) = usual(&[&option(1, &[b'x'; 4097])]);
    assert_eq!(end, Err(HandshakeError::NameLength(4097)));
}

#[test]
fn option_data_of_64_kib_is_kept_and_more_is_thrown_away_up_to_1_mib() {
    let go = option(7, b"\0\0\0\x02r0\0\0");
    // Of the two context options: name, number of queries, and one long query.
    let listed = |length: usize| {
        let query = vec![b'x'; length - 14];
        let query_length = u32::try_from(query.len()).unwrap().to_be_bytes();
        let data = [b"\0\0\0\x02r0\0\0\0\x01", &query_length[..], &query].concat();
        assert_eq!(data.len(), length);
        let (out, end) = usual(&[&option(8, b""), &option(9, &data), &go]);
        let after = acknowledged(8).len();
        (out[after..].to_vec(), end)
    };
    let (out, end) = listed(64 << 10);
    let found = acknowledged(9);
    assert_eq!(out[..found.len()], found);
    served(end);
    let text = b"option 9 has more than 65536 bytes of data";
    let refused = reply(9, TOO_BIG, text);
    for length in [(64 << 10) + 1, 1 << 20] {
        let (out, end) = listed(length);
        assert_eq!(out[..refused.len()], refused);
        served(end);
    }
    let length = (1 << 20) + 1;
    let (_, end) = usual(&[&option(9, &vec![0; length])]);
    let length = u32::try_from(length).unwrap();
    let option = 9;
    assert_eq!(end, Err(HandshakeError::OptionLength { option, length }));
}
