//! Runs the opening of one connection on a socket, reading not a byte past its end.

use std::io;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use rbd_protocol::peer::greeting::{
    AcceptStep, Acceptor, Agreement, DialStep, Dialer, GreetingError, MESSAGE_LIMIT, PROOF_BYTES,
    Secret,
};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A `shared-secret`, as the key of HMAC-SHA-256.
#[derive(Clone)]
pub(in crate::control) struct SharedSecret(Hmac<Sha256>);

/// Why a connection was not opened.
#[derive(Debug, thiserror::Error)]
pub(super) enum OpenError {
    /// The network.
    #[error("{0}")]
    Network(#[from] io::Error),
    /// The other end hung up.
    #[error("the peer closed the connection while it was being opened")]
    Closed,
    /// One of the two ends said no.
    #[error("{0}")]
    Greeting(#[from] GreetingError),
}

impl SharedSecret {
    pub(super) fn new(secret: &str) -> Self {
        // Any length of key will do for this hash.
        Self(
            Hmac::new_from_slice(secret.as_bytes())
                .expect("a keyed hash takes a key of any length"),
        )
    }

    fn over(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut hash = self.0.clone();
        for part in parts {
            hash.update(part);
        }
        hash
    }
}

impl Secret for SharedSecret {
    fn prove(&self, parts: &[&[u8]]) -> [u8; PROOF_BYTES] {
        self.over(parts).finalize().into_bytes().into()
    }

    fn verify(&self, parts: &[&[u8]], proof: &[u8]) -> bool {
        self.over(parts).verify_slice(proof).is_ok()
    }
}

impl std::fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedSecret(hidden)")
    }
}

/// Opens a connection this node made. `out` is the dialer's first message.
pub(super) async fn open_dialled(
    stream: &mut TcpStream,
    mut dialer: Dialer<SharedSecret>,
    mut out: Vec<u8>,
) -> Result<Agreement, OpenError> {
    let mut buffer = [0; MESSAGE_LIMIT];
    loop {
        stream.write_all(&out).await?;
        out.clear();
        let input = read(stream, &mut buffer, dialer.needed()).await?;
        match dialer.feed(input, &mut out) {
            Ok((_, DialStep::More)) => {}
            Ok((_, DialStep::Open(agreement))) => return Ok(agreement),
            Err(error) => {
                stream.write_all(&out).await?;
                return Err(error.into());
            }
        }
    }
}

/// Opens a connection another node made, up to the decision whether it is wanted.
pub(super) async fn open_accepted(
    stream: &mut TcpStream,
    acceptor: &mut Acceptor<'_, SharedSecret>,
) -> Result<Agreement, OpenError> {
    let mut buffer = [0; MESSAGE_LIMIT];
    let mut out = Vec::new();
    loop {
        let input = read(stream, &mut buffer, acceptor.needed()).await?;
        let step = acceptor.feed(input, &mut out);
        stream.write_all(&out).await?;
        out.clear();
        if let (_, AcceptStep::Proven(agreement)) = step? {
            return Ok(agreement);
        }
    }
}

async fn read<'a>(
    stream: &mut TcpStream,
    buffer: &'a mut [u8],
    needed: usize,
) -> Result<&'a [u8], OpenError> {
    let length = needed.min(buffer.len());
    let wanted = buffer.get_mut(..length).unwrap_or_default();
    let count = stream.read(wanted).await?;
    if count == 0 {
        return Err(OpenError::Closed);
    }
    Ok(wanted.get(..count).unwrap_or_default())
}
