//! The bytes of the driver's netlink family, as `linux/netlink.h`, `linux/genetlink.h` and
//! `linux/nbd-netlink.h` lay them out: bytes ⇄ values, in the byte order of this machine. No
//! socket, no decision.

/// What the driver can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Make a device of a socket.
    Connect,
    /// Let a device go; what it has under way fails.
    Disconnect,
    /// Give a device another socket for one that is dead, or another size.
    Reconfigure,
}

/// What goes along with an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Details<'a> {
    /// Which device; without one the driver chooses a free one.
    pub(crate) device: Option<u32>,
    pub(crate) size_bytes: Option<u64>,
    /// The smallest unit of a request.
    pub(crate) block_bytes: Option<u32>,
    /// What the server can do: the flags of NBD's negotiation.
    pub(crate) flags: Option<u16>,
    /// The descriptor of the driver's end.
    pub(crate) socket: Option<u32>,
    /// The name by which its server knows a device again, and without which the driver gives it to
    /// nobody else.
    pub(crate) backend: Option<&'a str>,
    /// Seconds after which a request that is not answered costs the connection; 0 is never.
    pub(crate) answer_seconds: Option<u64>,
    /// Seconds a device may be without a connection before its requests fail.
    pub(crate) dead_seconds: Option<u64>,
}

/// What has come back for one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0, or a negative error number, once the driver is done.
    pub(crate) result: Option<i32>,
    /// Attributes of the replies before that.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a netlink message is cut off")]
pub(crate) struct CutOff;

impl Order {
    fn number(self) -> u8 {
        match self {
            Self::Connect => 1,
            Self::Disconnect => 2,
            Self::Reconfigure => 3,
        }
    }
}

/// Asks for the number of the driver's family, which is in the answer's [`family`](Answer::family).
pub(crate) fn find_family(sequence: u32) -> Vec<u8> {
    let mut body = vec![GET_FAMILY, 1, 0, 0];
    attribute(&mut body, FAMILY_NAME, FAMILY.as_bytes());
    message(CONTROLLER, sequence, &body)
}

/// An order to the driver.
pub(crate) fn order(family: u16, sequence: u32, order: Order, details: &Details<'_>) -> Vec<u8> {
    let mut body = vec![order.number(), FAMILY_VERSION, 0, 0];
    let mut long = |kind, value: Option<u64>| {
        if let Some(value) = value {
            attribute(&mut body, kind, &value.to_ne_bytes());
        }
    };
    long(SIZE_BYTES, details.size_bytes);
    long(BLOCK_BYTES, details.block_bytes.map(u64::from));
    long(ANSWER_SECONDS, details.answer_seconds);
    long(DEAD_SECONDS, details.dead_seconds);
    long(SERVER_FLAGS, details.flags.map(u64::from));
    if let Some(device) = details.device {
        attribute(&mut body, INDEX, &device.to_ne_bytes());
    }
    if let Some(backend) = details.backend {
        attribute(&mut body, BACKEND, &[backend.as_bytes(), &[0]].concat());
    }
    if let Some(socket) = details.socket {
        let (mut item, mut list) = (Vec::new(), Vec::new());
        attribute(&mut item, SOCKET_DESCRIPTOR, &socket.to_ne_bytes());
        attribute(&mut list, NESTED | SOCKET_ITEM, &item);
        attribute(&mut body, NESTED | SOCKETS, &list);
    }
    message(family, sequence, &body)
}

impl Answer {
    /// Takes what is for this message out of what has been received.
    pub(crate) fn absorb(&mut self, mut bytes: &[u8], sequence: u32) -> Result<(), CutOff> {
        while !bytes.is_empty() {
            let header = bytes.first_chunk::<HEADER>().ok_or(CutOff)?;
            let length = usize::try_from(word(header, 0)).map_err(|_| CutOff)?;
            let body = bytes.get(HEADER..length).ok_or(CutOff)?;
            if word(header, 8) == sequence {
                self.take(half(header, 4), body)?;
            }
            let next = length.next_multiple_of(ALIGNMENT).min(bytes.len());
            bytes = bytes.get(next..).ok_or(CutOff)?;
        }
        Ok(())
    }

    fn take(&mut self, kind: u16, body: &[u8]) -> Result<(), CutOff> {
        if kind == ERROR {
            let result = body.first_chunk().ok_or(CutOff)?;
            self.result = Some(i32::from_ne_bytes(*result));
            return Ok(());
        }
        let mut rest = body.get(GENERIC_HEADER..).ok_or(CutOff)?;
        while !rest.is_empty() {
            let header = rest.first_chunk::<ATTRIBUTE>().ok_or(CutOff)?;
            let length = usize::from(half(header, 0));
            let value = rest.get(ATTRIBUTE..length).ok_or(CutOff)?;
            self.attributes.push((half(header, 2), value.to_vec()));
            let next = length.next_multiple_of(ALIGNMENT).min(rest.len());
            rest = rest.get(next..).ok_or(CutOff)?;
        }
        Ok(())
    }

    /// The number of the family that was asked for.
    pub(crate) fn family(&self) -> Option<u16> {
        let value = self.find(FAMILY_NUMBER)?.first_chunk()?;
        Some(u16::from_ne_bytes(*value))
    }

    /// The number of the device an order was about.
    pub(crate) fn device(&self) -> Option<u32> {
        let value = self.find(INDEX)?.first_chunk()?;
        Some(u32::from_ne_bytes(*value))
    }

    fn find(&self, kind: u16) -> Option<&[u8]> {
        let mut attributes = self.attributes.iter();
        let found = attributes.find(|(one, _)| *one == kind)?;
        Some(&found.1)
    }
}

/// A message that is to be answered.
fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + body.len()).expect("messages are short");
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((REQUEST | ACKNOWLEDGE).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes()); // the kernel knows who sends it
    bytes.extend(body);
    bytes
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(ATTRIBUTE + value.len()).expect("attributes are short");
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let part = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u32::from_ne_bytes(*part.expect("a header is as long as that"))
}

fn half(bytes: &[u8], at: usize) -> u16 {
    let part = bytes.get(at..).and_then(<[u8]>::first_chunk);
    u16::from_ne_bytes(*part.expect("a header is as long as that"))
}

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;

/// Length of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;

/// Length of `struct nlattr`.
const ATTRIBUTE: usize = 4;

const ALIGNMENT: usize = 4;
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const ERROR: u16 = 2;
const NESTED: u16 = 1 << 15;

/// The family that knows the others.
const CONTROLLER: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_NUMBER: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// With the zero that ends it.
const FAMILY: &str = "nbd\0";
const FAMILY_VERSION: u8 = 1;

const INDEX: u16 = 1;
const SIZE_BYTES: u16 = 2;
const BLOCK_BYTES: u16 = 3;
const ANSWER_SECONDS: u16 = 4;
const SERVER_FLAGS: u16 = 5;
const SOCKETS: u16 = 7;
const DEAD_SECONDS: u16 = 8;
const BACKEND: u16 = 10;
const SOCKET_ITEM: u16 = 1;
const SOCKET_DESCRIPTOR: u16 = 1;
