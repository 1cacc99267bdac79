//! Negotiation with an NBD client: any bytes, cut anywhere, come to the same replies and the same
//! end, and what is put out never outgrows what was asked.

use rbd_protocol::nbd::{
    BlockSizes, ExportInfo, Exports, Features, Handshake, HandshakeError, Lookup, Policy, Step,
};

use crate::input::Input;

/// First byte: policy and magic; the rest is what the client sends.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mode = input.u8();
    let bytes = if mode & 2 == 0 {
        options(mode, &mut input)
    } else {
        input.rest().to_vec()
    };
    let policy = Policy {
        require_block_size: mode & 1 == 1,
    };
    let whole = negotiate(policy, &bytes, usize::MAX);
    for piece in [1, 5] {
        assert_eq!(
            negotiate(policy, &bytes, piece),
            whole,
            "in pieces of {piece}"
        );
    }
    assert!(
        whole.out.len() <= 512 + 64 * bytes.len(),
        "{} bytes put out for {} taken in",
        whole.out.len(),
        bytes.len()
    );
    if let Ok(Some(Step::Serve(session))) = &whole.end {
        let name = session.export_name();
        assert!(
            matches!(Shop.lookup(name), Lookup::Serve(info) if info.size == session.size()),
            "serves {name}, which is not to be had"
        );
    }
}

/// Options with magic and length in place: number, length and data of each are the fuzzer's.
fn options(mode: u8, input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, mode >> 2 & 3];
    while !input.is_over() {
        let number = input.u8();
        let length = usize::from(input.u8());
        let data = input.bytes(length);
        bytes.extend_from_slice(b"IHAVEOPT");
        bytes.extend_from_slice(&u32::from(number).to_be_bytes());
        let length = u32::try_from(data.len()).unwrap_or(0);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(data);
    }
    bytes
}

#[derive(Debug, PartialEq)]
struct Negotiated {
    end: Result<Option<Step>, HandshakeError>,
    out: Vec<u8>,
    used: usize,
}

fn negotiate(policy: Policy, bytes: &[u8], piece: usize) -> Negotiated {
    let mut handshake = Handshake::new(policy);
    let mut done = Negotiated {
        end: Ok(None),
        out: Vec::new(),
        used: 0,
    };
    let greeted = handshake.feed(&[], &Shop, &mut done.out);
    assert_eq!(greeted, Ok((0, Step::More)), "the server speaks first");
    while done.used < bytes.len() {
        let end = bytes.len().min(done.used.saturating_add(piece));
        match handshake.feed(&bytes[done.used..end], &Shop, &mut done.out) {
            Ok((used, Step::More)) => {
                assert_eq!(
                    used,
                    end - done.used,
                    "bytes are left although more are wanted"
                );
                done.used += used;
            }
            Ok((used, step)) => {
                done.used += used;
                done.end = Ok(Some(step));
                break;
            }
            Err(error) => {
                done.used = 0;
                done.end = Err(error);
                break;
            }
        }
    }
    done
}

/// A few exports of every kind.
pub(super) struct Shop;

impl Exports for Shop {
    fn lookup(&self, name: &str) -> Lookup {
        let serve = |size, minimum, features| {
            Lookup::Serve(ExportInfo {
                name: name.into(),
                description: "a volume".into(),
                size,
                features,
                block_sizes: BlockSizes::new(minimum, 4096, 1 << 20).expect("possible sizes"),
            })
        };
        match name {
            "" | "r0" => serve(1 << 20, 512, Features::default()),
            "r0/1" => serve(u64::MAX, 1, everything()),
            "r0/2" => serve(0, 4096, everything()),
            "r0/3" => Lookup::Refuse("Secondary; alpha is Primary".into()),
            _ => Lookup::Unknown,
        }
    }

    fn list(&self) -> Vec<(String, String)> {
        ["r0", "r0/1", "r0/2", "r0/3"]
            .map(|name| (name.into(), "a volume".into()))
            .into()
    }
}

fn everything() -> Features {
    Features {
        read_only: false,
        rotational: true,
        trim: true,
        write_zeroes: true,
        fast_zero: true,
        multi_conn: true,
    }
}
