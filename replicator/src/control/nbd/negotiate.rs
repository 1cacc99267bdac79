//! Negotiation with one client on a socket.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rbd_protocol::nbd::{Handshake, HandshakeError, Policy, Session, Step};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::exports::{Door, Snapshot};
use crate::control::daemon::Daemon;
use crate::control::service::Service;
use crate::control::unaccepted::Unaccepted;
use crate::messages::ToResource;
use rbd_protocol::ids::VolumeNumber;

/// A client that has chosen an export.
struct Choice {
    service: Rc<Service>,
    volume: VolumeNumber,
    session: Session,
    /// What came after the negotiation.
    leftover: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
enum NegotiationError {
    #[error("{0}")]
    Socket(#[from] io::Error),
    #[error("{0}")]
    Protocol(#[from] HandshakeError),
    #[error("negotiation not finished within {} s", DEADLINE.as_secs())]
    TooLate,
}

/// Answers clients of the Unix socket.
pub(super) async fn serve_unix(daemon: Rc<Daemon>, listener: UnixListener) {
    let mut negotiations = JoinSet::new();
    let mut unaccepted = Unaccepted::of("NBD clients");
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                unaccepted.pause(&error).await;
                continue;
            }
        };
        if is_full(&mut negotiations, "the Unix socket") {
            continue;
        }
        let daemon = Rc::clone(&daemon);
        negotiations.spawn_local(async move {
            let into_socket = |stream: UnixStream| stream.into_std().map(OwnedFd::from);
            serve(&daemon, Door::Unix, stream, "the Unix socket", into_socket).await;
        });
    }
}

/// Answers clients of a TCP address.
pub(super) async fn serve_tcp(daemon: Rc<Daemon>, listener: TcpListener, door: Door) {
    let mut negotiations = JoinSet::new();
    let mut unaccepted = Unaccepted::of("NBD clients over TCP");
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                unaccepted.pause(&error).await;
                continue;
            }
        };
        let client = address.to_string();
        if is_full(&mut negotiations, &client) {
            continue;
        }
        let daemon = Rc::clone(&daemon);
        negotiations.spawn_local(async move {
            let into_socket = |stream: TcpStream| {
                prepare(&stream)?;
                stream.into_std().map(OwnedFd::from)
            };
            serve(&daemon, door, stream, &client, into_socket).await;
        });
    }
}

/// Sets what a client over TCP needs. One whose machine has vanished keeps the volume open until
/// that is noticed, and with it this node Primary.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    Ok(())
}

fn is_full(negotiations: &mut JoinSet<()>, client: &str) -> bool {
    while negotiations.try_join_next().is_some() {}
    let is_full = negotiations.len() >= NEGOTIATION_LIMIT;
    if is_full {
        tracing::debug!(client, "NBD client turned away: too many are negotiating");
    }
    is_full
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    daemon: &Daemon,
    door: Door,
    mut stream: S,
    client: &str,
    into_socket: impl FnOnce(S) -> io::Result<OwnedFd>,
) {
    let negotiated = timeout(DEADLINE, negotiate(daemon, door, &mut stream)).await;
    match negotiated.unwrap_or(Err(NegotiationError::TooLate)) {
        Ok(Some(choice)) => match into_socket(stream) {
            Ok(socket) => hand_over(choice, socket, client),
            Err(error) => tracing::debug!(client, %error, "NBD client lost"),
        },
        Ok(None) => {}
        Err(error) => tracing::info!(client, "NBD client closed: {error}"),
    }
}

/// Talks until the client has chosen an export or given up.
async fn negotiate<S: AsyncRead + AsyncWrite + Unpin>(
    daemon: &Daemon,
    door: Door,
    stream: &mut S,
) -> Result<Option<Choice>, NegotiationError> {
    let mut handshake = Handshake::new(Policy::default());
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut count = 0;
    loop {
        // What is behind a name may change while the client makes up its mind.
        let exports = Snapshot::take(daemon, door).await;
        let input = buffer.get(..count).unwrap_or_default();
        let mut out = Vec::new();
        let fed = handshake.feed(input, &exports, &mut out);
        stream.write_all(&out).await?;
        let (used, step) = fed?;
        match step {
            Step::More => {}
            Step::Serve(session) => {
                let leftover = input.get(used..).unwrap_or_default().to_vec();
                return Ok(exports.into_chosen().map(|(service, volume)| Choice {
                    service,
                    volume,
                    session,
                    leftover,
                }));
            }
            Step::Close => return Ok(None),
        }
        count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(None);
        }
    }
}

fn hand_over(choice: Choice, socket: OwnedFd, client: &str) {
    let Choice {
        service,
        volume,
        session,
        leftover,
    } = choice;
    tracing::info!(
        resource = service.name,
        volume = volume.0,
        "NBD client from {client}"
    );
    let message = ToResource::Client {
        volume,
        socket,
        session,
        leftover,
    };
    if !service.hand_over(message) {
        tracing::info!(
            resource = service.name,
            "NBD client closed: the resource has just been stopped"
        );
    }
}

/// How long a client may take from connecting to choosing.
const DEADLINE: Duration = Duration::from_secs(10);

/// Clients negotiating at once on one listener.
const NEGOTIATION_LIMIT: usize = 64;

const BUFFER_BYTES: usize = 4096;

/// A machine that says nothing for so long is asked whether it is there, so often, so many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_whose_machine_has_vanished_is_not_counted_as_an_opener_for_hours() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
            let (stream, _) = accepted.unwrap();
            prepare(&stream).unwrap();
            assert!(sockopt::socket_keepalive(&stream).unwrap());
            let probes = sockopt::tcp_keepcnt(&stream).unwrap();
            let noticed = sockopt::tcp_keepidle(&stream).unwrap()
                + sockopt::tcp_keepintvl(&stream).unwrap() * probes;
            assert!(noticed <= Duration::from_secs(60), "{noticed:?}");
            drop(client);
        });
    }
}
