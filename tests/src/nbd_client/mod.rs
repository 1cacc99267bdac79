//! A small NBD client of our own: one connection, many requests in flight.
//!
//! It exists because a test must know exactly which requests were sent and which were answered
//! when a server dies, and because it must be able to send what a decent client never would. It
//! reconnects never and hides nothing.

mod numbers;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use numbers::{
    CMD_DISC, FLAG_FIXED_NEWSTYLE, FLAG_NO_ZEROES, INFO_EXPORT, INIT_MAGIC, OPT_GO, OPTION_MAGIC,
    OPTION_REPLY_MAGIC, REP_ACK, REP_ERROR, REP_INFO, REQUEST_MAGIC, SIMPLE_REPLY_MAGIC,
};
pub use numbers::{
    CMD_FLAG_FUA, CMD_FLUSH, CMD_READ, CMD_TRIM, CMD_WRITE, CMD_WRITE_ZEROES, EINVAL, EIO, ENOSPC,
    REP_ERR_POLICY, REP_ERR_UNKNOWN,
};

/// Why something did not work.
#[derive(Debug)]
pub enum Error {
    /// The connection broke, or an answer took too long.
    Connection(io::Error),
    /// The server said something NBD does not allow.
    Protocol(String),
    /// The server does not want to serve the export, for this reason.
    Refused {
        /// The number of the option reply.
        kind: u32,
        /// The server's own words.
        text: String,
    },
    /// A request was answered with this error number.
    Request(u32),
}

/// Either kind of stream.
trait Stream: Read + Write + Send + fmt::Debug {}
impl Stream for UnixStream {}
impl Stream for TcpStream {}

/// An export, ready for requests.
#[derive(Debug)]
pub struct Client {
    stream: Box<dyn Stream>,
    size: u64,
    last_cookie: u64,
    /// Requests without an answer yet, with how many bytes their answer brings.
    outstanding: BTreeMap<u64, usize>,
}

/// What to ask of the server.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The command's number.
    pub command: u16,
    /// Its flags.
    pub flags: u16,
    /// Where.
    pub offset: u64,
    /// How much.
    pub length: u32,
    /// The payload of a write.
    pub payload: &'a [u8],
}

/// The answer to one request.
#[derive(Debug)]
pub struct Answer {
    /// Which request.
    pub cookie: u64,
    /// The error number, 0 when there was none.
    pub error: u32,
    /// What was read.
    pub data: Vec<u8>,
}

impl Client {
    /// Connects to a server on a Unix socket. No answer may take longer than `limit`.
    pub fn unix(socket: &Path, export: &str, limit: Duration) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Self::negotiate(Box::new(stream), export)
    }

    /// Connects to a server on a TCP address. No answer may take longer than `limit`.
    pub fn tcp(address: SocketAddr, export: &str, limit: Duration) -> Result<Self, Error> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        stream.set_nodelay(true)?;
        Self::negotiate(Box::new(stream), export)
    }

    fn negotiate(mut stream: Box<dyn Stream>, export: &str) -> Result<Self, Error> {
        greet(&mut *stream)?;
        let mut data = Vec::new();
        data.extend(length(export.as_bytes())?.to_be_bytes());
        data.extend(export.as_bytes());
        data.extend(0_u16.to_be_bytes()); // no wishes for information
        send_option(&mut *stream, OPT_GO, &data)?;
        let mut size = None;
        loop {
            let (kind, data) = option_reply(&mut *stream)?;
            match kind {
                REP_ACK => break,
                REP_INFO if data.len() == 12 && data[..2] == INFO_EXPORT.to_be_bytes() => {
                    size = Some(be64(&data[2..10]));
                }
                REP_INFO => {}
                kind if kind & REP_ERROR != 0 => {
                    let text = String::from_utf8_lossy(&data).into_owned();
                    return Err(Error::Refused { kind, text });
                }
                other => return Err(Error::Protocol(format!("option reply of kind {other}"))),
            }
        }
        let size = size.ok_or_else(|| Error::Protocol("the export was not described".into()))?;
        Ok(Self {
            stream,
            size,
            last_cookie: 0,
            outstanding: BTreeMap::new(),
        })
    }

    /// The export's size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many requests have no answer yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    /// Sends a request; its answer is had from [`Self::answer`].
    pub fn send(&mut self, request: Request<'_>) -> Result<u64, Error> {
        self.last_cookie += 1;
        let mut message = Vec::with_capacity(28 + request.payload.len());
        message.extend(REQUEST_MAGIC.to_be_bytes());
        message.extend(request.flags.to_be_bytes());
        message.extend(request.command.to_be_bytes());
        message.extend(self.last_cookie.to_be_bytes());
        message.extend(request.offset.to_be_bytes());
        message.extend(request.length.to_be_bytes());
        message.extend(request.payload);
        let brings = match request.command {
            CMD_READ => usize::try_from(request.length).unwrap_or(usize::MAX),
            _ => 0,
        };
        // Noted first: a server may have got it although sending failed.
        self.outstanding.insert(self.last_cookie, brings);
        self.stream.write_all(&message)?;
        Ok(self.last_cookie)
    }

    /// Waits for the answer to any request that was sent.
    pub fn answer(&mut self) -> Result<Answer, Error> {
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply)?;
        if be32(&reply[..4]) != SIMPLE_REPLY_MAGIC {
            let magic = be32(&reply[..4]);
            return Err(Error::Protocol(format!("reply magic {magic:#010x}")));
        }
        let (error, cookie) = (be32(&reply[4..8]), be64(&reply[8..]));
        let brings = self
            .outstanding
            .remove(&cookie)
            .ok_or_else(|| Error::Protocol("a reply to a request that was not made".into()))?;
        let mut data = vec![0; if error == 0 { brings } else { 0 }];
        self.stream.read_exact(&mut data)?;
        Ok(Answer {
            cookie,
            error,
            data,
        })
    }

    /// One request and its answer; nothing else may be outstanding.
    pub fn request(&mut self, request: Request<'_>) -> Result<Vec<u8>, Error> {
        self.send(request)?;
        let answer = self.answer()?;
        match answer.error {
            0 => Ok(answer.data),
            number => Err(Error::Request(number)),
        }
    }

    /// Reads so many bytes.
    pub fn read(&mut self, offset: u64, length: u32) -> Result<Vec<u8>, Error> {
        self.request(Request {
            command: CMD_READ,
            flags: 0,
            offset,
            length,
            payload: &[],
        })
    }

    /// Writes all of `data`.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write_with(offset, data, 0)
    }

    /// Writes all of `data` so that it is durable when this returns.
    pub fn write_durably(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write_with(offset, data, CMD_FLAG_FUA)
    }

    /// Makes everything written so far durable.
    pub fn flush(&mut self) -> Result<(), Error> {
        let request = Request {
            command: CMD_FLUSH,
            flags: 0,
            offset: 0,
            length: 0,
            payload: &[],
        };
        self.request(request).map(drop)
    }

    /// Says good-bye; the server answers by closing.
    pub fn disconnect(mut self) -> Result<(), Error> {
        self.send(Request {
            command: CMD_DISC,
            flags: 0,
            offset: 0,
            length: 0,
            payload: &[],
        })?;
        self.stream.read_to_end(&mut Vec::new())?;
        Ok(())
    }

    /// Sends bytes as they are, whatever they mean.
    pub fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    fn write_with(&mut self, offset: u64, data: &[u8], flags: u16) -> Result<(), Error> {
        let request = Request {
            command: CMD_WRITE,
            flags,
            offset,
            length: length(data)?,
            payload: data,
        };
        self.request(request).map(drop)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => write!(f, "connection: {error}"),
            Self::Protocol(what) => write!(f, "not the NBD protocol: {what}"),
            Self::Refused { kind, text } => write!(f, "refused ({kind:#x}): {text}"),
            Self::Request(number) => write!(f, "request failed with error {number}"),
        }
    }
}

impl std::error::Error for Error {}

fn greet(stream: &mut dyn Stream) -> Result<(), Error> {
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    if be64(&greeting[..8]) != INIT_MAGIC || be64(&greeting[8..16]) != OPTION_MAGIC {
        return Err(Error::Protocol("no greeting of a newstyle server".into()));
    }
    let chosen = u32::from(be16(&greeting[16..]) & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES));
    stream.write_all(&chosen.to_be_bytes())?;
    Ok(())
}

fn send_option(stream: &mut dyn Stream, option: u32, data: &[u8]) -> Result<(), Error> {
    let mut message = Vec::new();
    message.extend(OPTION_MAGIC.to_be_bytes());
    message.extend(option.to_be_bytes());
    message.extend(length(data)?.to_be_bytes());
    message.extend(data);
    stream.write_all(&message)?;
    Ok(())
}

fn option_reply(stream: &mut dyn Stream) -> Result<(u32, Vec<u8>), Error> {
    let mut header = [0; 20];
    stream.read_exact(&mut header)?;
    if be64(&header[..8]) != OPTION_REPLY_MAGIC {
        return Err(Error::Protocol("wrong magic in an option reply".into()));
    }
    let length = be32(&header[16..20]);
    if length > MOST_OPTION_BYTES {
        return Err(Error::Protocol(format!("option reply of {length} bytes")));
    }
    let mut data = vec![0; length.try_into().unwrap_or(0)];
    stream.read_exact(&mut data)?;
    Ok((be32(&header[12..16]), data))
}

fn length(data: &[u8]) -> Result<u32, Error> {
    u32::try_from(data.len()).map_err(|_| Error::Protocol("too long for one message".into()))
}

// The callers cut slices of exactly these lengths; anything else would read as zero.
fn be16(bytes: &[u8]) -> u16 {
    bytes.try_into().map_or(0, u16::from_be_bytes)
}

fn be32(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}

/// Far more than any information about an export, far less than could do harm.
const MOST_OPTION_BYTES: u32 = 64 << 10;
