//! A very small NBD client: fixed newstyle negotiation, one request at a time, simple replies.
//!
//! Written from the protocol's description alone, so that it is a witness independent of the
//! server it talks to. It never retries and never reconnects.

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// What went wrong with a server.
#[derive(Debug)]
pub(crate) enum Error {
    /// The connection broke, or nothing came within the time limit.
    Connection(io::Error),
    /// The server does not keep the protocol; what it did.
    Protocol(String),
    /// The server will not serve this export; its reason.
    Refused(String),
    /// A request was answered with this error number.
    Request(&'static str, u32),
}

/// An export, ready for requests.
#[derive(Debug)]
pub(crate) struct Client<S> {
    stream: S,
    size: u64,
    flags: u16,
    last_cookie: u64,
}

impl Client<UnixStream> {
    /// Connects to a server on a Unix socket. No answer may take longer than `limit`.
    pub(crate) fn unix(socket: &Path, export: &str, limit: Duration) -> Result<Self, Error> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(limit))?;
        stream.set_write_timeout(Some(limit))?;
        Self::negotiate(stream, export)
    }
}

impl<S: Read + Write> Client<S> {
    /// Opens an export over a fresh connection.
    pub(crate) fn negotiate(mut stream: S, export: &str) -> Result<Self, Error> {
        greet(&mut stream)?;
        let mut data = Vec::new();
        let length = u32::try_from(export.len())
            .map_err(|_| Error::Protocol("the export's name is too long".to_owned()))?;
        data.extend(length.to_be_bytes());
        data.extend(export.as_bytes());
        data.extend(0_u16.to_be_bytes()); // no wishes for information
        send_option(&mut stream, OPT_GO, &data)?;
        let mut described = None;
        loop {
            let (kind, data) = option_reply(&mut stream)?;
            match kind {
                REP_ACK => break,
                REP_INFO if data.len() == 12 && data[..2] == INFO_EXPORT.to_be_bytes() => {
                    described = Some((be64(&data[2..10]), be16(&data[10..12])));
                }
                REP_INFO => {}
                error if error & REP_ERROR != 0 => {
                    let text = String::from_utf8_lossy(&data).into_owned();
                    let text = if text.is_empty() {
                        "no reason given".to_owned()
                    } else {
                        text
                    };
                    return Err(Error::Refused(format!("{}: {text}", option_error(error))));
                }
                other => return Err(Error::Protocol(format!("option reply of kind {other}"))),
            }
        }
        let Some((size, flags)) = described else {
            return Err(Error::Protocol(
                "the export was opened but not described".to_owned(),
            ));
        };
        Ok(Self {
            stream,
            size,
            flags,
            last_cookie: 0,
        })
    }

    /// The export's size in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Reads exactly as many bytes as `buffer` holds.
    pub(crate) fn read(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        self.request("read", CMD_READ, 0, offset, length(buffer)?, &[])?;
        self.stream.read_exact(buffer)?;
        Ok(())
    }

    /// Writes all of `data`.
    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.request("write", CMD_WRITE, 0, offset, length(data)?, data)
    }

    /// Writes all of `data` so that it is durable when this returns.
    pub(crate) fn write_durably(&mut self, offset: u64, data: &[u8]) -> Result<(), Error> {
        if self.flags & FLAG_SEND_FUA == 0 {
            self.write(offset, data)?;
            return self.flush();
        }
        self.request(
            "write",
            CMD_WRITE,
            CMD_FLAG_FUA,
            offset,
            length(data)?,
            data,
        )
    }

    /// Makes everything written so far durable.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        self.request("flush", CMD_FLUSH, 0, 0, 0, &[])
    }

    /// Whether the server offers to write zeroes that are not sent.
    pub(crate) fn can_write_zeroes(&self) -> bool {
        self.flags & FLAG_SEND_WRITE_ZEROES != 0
    }

    /// Writes zeroes without sending them.
    pub(crate) fn write_zeroes(&mut self, offset: u64, length: u32) -> Result<(), Error> {
        self.request("write zeroes", CMD_WRITE_ZEROES, 0, offset, length, &[])
    }

    /// Says good-bye; the server answers by closing.
    pub(crate) fn disconnect(mut self) -> Result<(), Error> {
        self.send(CMD_DISC, 0, 0, 0, &[])
    }

    fn request(
        &mut self,
        name: &'static str,
        command: u16,
        flags: u16,
        offset: u64,
        length: u32,
        payload: &[u8],
    ) -> Result<(), Error> {
        self.send(command, flags, offset, length, payload)?;
        let mut reply = [0; 16];
        self.stream.read_exact(&mut reply)?;
        if be32(&reply[..4]) != SIMPLE_REPLY_MAGIC {
            return Err(Error::Protocol(format!(
                "reply magic {:#010x}",
                be32(&reply[..4])
            )));
        }
        if be64(&reply[8..]) != self.last_cookie {
            return Err(Error::Protocol(
                "a reply to a request that was not made".to_owned(),
            ));
        }
        match be32(&reply[4..8]) {
            0 => Ok(()),
            number => Err(Error::Request(name, number)),
        }
    }

    fn send(
        &mut self,
        command: u16,
        flags: u16,
        offset: u64,
        length: u32,
        payload: &[u8],
    ) -> Result<(), Error> {
        self.last_cookie += 1;
        let mut message = Vec::with_capacity(28 + payload.len());
        message.extend(REQUEST_MAGIC.to_be_bytes());
        message.extend(flags.to_be_bytes());
        message.extend(command.to_be_bytes());
        message.extend(self.last_cookie.to_be_bytes());
        message.extend(offset.to_be_bytes());
        message.extend(length.to_be_bytes());
        message.extend(payload);
        self.stream.write_all(&message)?;
        Ok(())
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
            Self::Refused(reason) => write!(f, "{reason}"),
            Self::Request(name, number) => write!(f, "{name} failed with error {number}"),
        }
    }
}

fn greet<S: Read + Write>(stream: &mut S) -> Result<(), Error> {
    let mut greeting = [0; 18];
    stream.read_exact(&mut greeting)?;
    if be64(&greeting[..8]) != INIT_MAGIC || be64(&greeting[8..16]) != OPTION_MAGIC {
        return Err(Error::Protocol(
            "no greeting of a newstyle server".to_owned(),
        ));
    }
    let offered = be16(&greeting[16..]);
    if offered & FLAG_FIXED_NEWSTYLE == 0 {
        return Err(Error::Protocol(
            "the server is not fixed newstyle".to_owned(),
        ));
    }
    let chosen = u32::from(offered & (FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES));
    stream.write_all(&chosen.to_be_bytes())?;
    Ok(())
}

fn send_option<S: Write>(stream: &mut S, option: u32, data: &[u8]) -> Result<(), Error> {
    let mut message = Vec::new();
    message.extend(OPTION_MAGIC.to_be_bytes());
    message.extend(option.to_be_bytes());
    message.extend(length(data)?.to_be_bytes());
    message.extend(data);
    stream.write_all(&message)?;
    Ok(())
}

fn option_reply<S: Read>(stream: &mut S) -> Result<(u32, Vec<u8>), Error> {
    let mut header = [0; 20];
    stream.read_exact(&mut header)?;
    if be64(&header[..8]) != OPTION_REPLY_MAGIC {
        return Err(Error::Protocol("wrong magic in an option reply".to_owned()));
    }
    let length = be32(&header[16..20]);
    if length > MOST_OPTION_BYTES {
        return Err(Error::Protocol(format!(
            "an option reply of {length} bytes"
        )));
    }
    let mut data = vec![0; length.try_into().unwrap_or(0)];
    stream.read_exact(&mut data)?;
    Ok((be32(&header[12..16]), data))
}

fn option_error(kind: u32) -> String {
    match kind & !REP_ERROR {
        1 => "unsupported".to_owned(),
        2 => "refused by policy".to_owned(),
        3 => "invalid".to_owned(),
        6 => "unknown export".to_owned(),
        7 => "shutting down".to_owned(),
        other => format!("error {other}"),
    }
}

fn length(data: &[u8]) -> Result<u32, Error> {
    u32::try_from(data.len()).map_err(|_| Error::Protocol("too long for one request".to_owned()))
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

const INIT_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
const FLAG_NO_ZEROES: u16 = 1 << 1;
const FLAG_SEND_FUA: u16 = 1 << 3;
const FLAG_SEND_WRITE_ZEROES: u16 = 1 << 6;
const OPT_GO: u32 = 7;
const REP_ACK: u32 = 1;
const REP_INFO: u32 = 3;
const REP_ERROR: u32 = 1 << 31;
const INFO_EXPORT: u16 = 0;
const CMD_READ: u16 = 0;
const CMD_WRITE: u16 = 1;
const CMD_DISC: u16 = 2;
const CMD_FLUSH: u16 = 3;
const CMD_WRITE_ZEROES: u16 = 6;
const CMD_FLAG_FUA: u16 = 1 << 0;

/// Far more than any information about an export, far less than could do harm.
const MOST_OPTION_BYTES: u32 = 64 << 10;
