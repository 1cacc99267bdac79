//! Frames on the control socket: `"rbdc"`, version, three zero bytes, length (little endian),
//! then that many bytes of `bincode`.

use alloc::vec::Vec;

/// Version of the conversation; both ends must agree exactly.
pub const VERSION: u8 = 1;

/// Bytes in front of the body.
pub const HEADER_BYTES: usize = 12;

/// The longest body either end accepts: a status of several thousand resources.
pub const BODY_LIMIT: u32 = 1 << 20;

const MAGIC: [u8; 4] = *b"rbdc";

/// Why a frame was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first bytes are not a control frame's.
    #[error("not a control frame")]
    NotAFrame,
    /// The other end is of another version.
    #[error("control protocol version {found}, this program speaks {VERSION}")]
    Version {
        /// The version in the frame.
        found: u8,
    },
    /// The frame announces more than a frame may hold.
    #[error("control frame of {length} bytes, the limit is {BODY_LIMIT}")]
    TooLong {
        /// The length announced.
        length: u32,
    },
    /// The body is not a message.
    #[error("malformed control message")]
    Malformed,
}

/// Encodes one message as a frame.
///
/// # Errors
/// When the message is longer than [`BODY_LIMIT`].
pub fn encode<M: bincode::Encode>(message: &M) -> Result<Vec<u8>, FrameError> {
    let body = bincode::encode_to_vec(message, configuration())
        .map_err(|_| FrameError::TooLong { length: u32::MAX })?;
    let length = u32::try_from(body.len()).map_err(|_| FrameError::TooLong { length: u32::MAX })?;
    if length > BODY_LIMIT {
        return Err(FrameError::TooLong { length });
    }
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&[VERSION, 0, 0, 0]);
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// Checks a frame's header and tells how many bytes of body follow.
///
/// # Errors
/// When it is not a frame of this version, or announces too much.
pub fn body_length(header: &[u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let [m0, m1, m2, m3, version, _, _, _, l0, l1, l2, l3] = *header;
    if [m0, m1, m2, m3] != MAGIC {
        return Err(FrameError::NotAFrame);
    }
    if version != VERSION {
        return Err(FrameError::Version { found: version });
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length > BODY_LIMIT {
        return Err(FrameError::TooLong { length });
    }
    usize::try_from(length).map_err(|_| FrameError::TooLong { length })
}

/// Decodes a frame's body; every byte must belong to the message.
///
/// # Errors
/// When the body is not exactly one message.
pub fn decode<M: bincode::Decode<()>>(body: &[u8]) -> Result<M, FrameError> {
    let (message, used) =
        bincode::decode_from_slice(body, configuration()).map_err(|_| FrameError::Malformed)?;
    if used == body.len() {
        Ok(message)
    } else {
        Err(FrameError::Malformed)
    }
}

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<MEMORY_LIMIT>()
}

/// What a message may take in memory, where the limit counts numbers in full and a list's elements
/// as large as they are: bounds what is allocated for bytes that lie, and is more than any body of
/// [`BODY_LIMIT`] that was encoded here needs (measured: 3.4 MiB).
const MEMORY_LIMIT: usize = 16 << 20;
