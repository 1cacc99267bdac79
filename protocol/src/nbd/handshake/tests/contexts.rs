//! Listing and selecting `base:allocation`.

use alloc::vec::Vec;

use super::*;

/// The data of the two context options.
fn queries(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = Vec::new();
    let mut number = |value: usize, text: &str| {
        data.extend_from_slice(&u32::try_from(value).unwrap().to_be_bytes());
        data.extend_from_slice(text.as_bytes());
    };
    number(name.len(), name);
    number(queries.len(), "");
    queries.iter().for_each(|query| number(query.len(), query));
    data
}

#[test]
fn contexts_are_listed_by_name_by_wildcard_and_all_together() {
    let listed = reply(9, b"\0\0\0\x04", b"\0\0\0\0base:allocation");
    let found = [listed, acknowledged(9)].concat();
    for asked in [
        &[][..],
        &["base:allocation"],
        &["base:"],
        &["a:b", "base:", "base:allocation"],
    ] {
        let (out, _) = usual(&[&option(8, b""), &option(9, &queries("r0", asked))]);
        assert_eq!(out, [acknowledged(8), found.clone()].concat(), "{asked:?}");
    }
    for asked in [
        &[""][..],
        &["base"],
        &["base:alloc"],
        &["qemu:", "x-us:dirty"],
    ] {
        let (out, _) = usual(&[&option(8, b""), &option(9, &queries("r0", asked))]);
        assert_eq!(
            out,
            [acknowledged(8), acknowledged(9)].concat(),
            "{asked:?}"
        );
    }
}

#[test]
fn context_is_selected_by_its_full_name_only() {
    let selected = reply(10, b"\0\0\0\x04", b"\0\0\0\x01base:allocation");
    for asked in [
        &["base:allocation"][..],
        &["qemu:", "base:allocation", "base:allocation"],
    ] {
        let set = option(10, &queries("r0", asked));
        let (out, end) = usual(&[&option(8, b""), &set, &option(7, b"\0\0\0\x02r0\0\0")]);
        let expected = [acknowledged(8), selected.clone(), acknowledged(10)].concat();
        assert_eq!(out[..expected.len()], expected);
        assert_eq!(served(end).allocation_context(), Some(1));
    }
    for asked in [&[][..], &["base:"], &[""], &["base:allocation:x"]] {
        let set = option(10, &queries("r0", asked));
        let (out, end) = usual(&[&option(8, b""), &set, &option(7, b"\0\0\0\x02r0\0\0")]);
        let expected = [acknowledged(8), acknowledged(10)].concat();
        assert_eq!(out[..expected.len()], expected);
        assert_eq!(served(end).allocation_context(), None, "{asked:?}");
    }
}

#[test]
fn context_counts_only_for_the_name_it_was_selected_for() {
    let set = |name| option(10, &queries(name, &["base:allocation"]));
    let context = |messages: &[&[u8]]| {
        served(usual(&[&[&option(8, b"")[..]], messages].concat()).1).allocation_context()
    };
    let go = option(7, b"\0\0\0\x02r0\0\0");
    assert_eq!(context(&[&set("r0"), &go]), Some(1));
    assert_eq!(context(&[&set("r0"), &option(1, b"r0")]), Some(1));
    // The default export is the same one, but the client named it otherwise.
    assert_eq!(context(&[&set(""), &go]), None);
    // The last selection counts, also when it fails or selects nothing.
    assert_eq!(context(&[&set(""), &set("r0"), &go]), Some(1));
    assert_eq!(context(&[&set("r0"), &set("r2"), &go]), None);
    assert_eq!(context(&[&set("r0"), &set("r1"), &go]), None);
    assert_eq!(context(&[&set("r0"), &option(10, b"?"), &go]), None);
    assert_eq!(
        context(&[&set("r0"), &option(10, &queries("r0", &[])), &go]),
        None
    );
    // Listing and asking change nothing.
    let list = option(9, &queries("", &[]));
    assert_eq!(
        context(&[&set("r0"), &list, &option(6, b"\0\0\0\0\0\0"), &go]),
        Some(1)
    );
}

#[test]
fn contexts_need_structured_replies_and_an_export_that_is_served() {
    for number in [9, 10] {
        let ask = |name| option(number, &queries(name, &["base:allocation"]));
        let text = b"metadata contexts need structured replies";
        assert_eq!(usual(&[&ask("r0")]).0, reply(number, b"\x80\0\0\x03", text));
        let (out, _) = usual(&[&option(8, b""), &ask("r1"), &ask("r2")]);
        let expected = [
            acknowledged(8),
            reply(number, b"\x80\0\0\x02", b"not here"),
            reply(number, b"\x80\0\0\x06", b"no export is named \"r2\""),
        ];
        assert_eq!(out, expected.concat());
    }
}
