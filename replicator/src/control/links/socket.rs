//! TCP sockets of links: options, listening, dialling, handing over.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rbd_protocol::control::NetOptions;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Listens for peers.
pub(in crate::control) fn listen(address: SocketAddr, net: &NetOptions) -> io::Result<TcpListener> {
    let socket = new_socket(address, net)?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connects from this node's own address, so that firewalls and routes see the one configured.
pub(super) async fn connect(
    from: Option<SocketAddr>,
    to: SocketAddr,
    net: &NetOptions,
) -> io::Result<TcpStream> {
    let socket = new_socket(to, net)?;
    if let Some(mut from) = from
        && !from.ip().is_unspecified()
        && from.is_ipv4() == to.is_ipv4()
    {
        from.set_port(0);
        socket.bind(from)?;
    }
    let stream = socket.connect(to).await?;
    prepare(&stream, net)?;
    Ok(stream)
}

/// Sets what an accepted connection does not inherit.
pub(super) fn prepare(stream: &TcpStream, net: &NetOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = stream.as_fd();
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    // The engine's pings find a dead peer sooner; this ends what they cannot see. With
    // ko-count 0 a peer is never given up, and the kernel's own limit stays.
    let patience_ms = net.timeout_ms.saturating_mul(net.ko_count);
    if patience_ms > 0 {
        sockopt::set_tcp_user_timeout(socket, patience_ms)?;
    }
    Ok(())
}

/// The bare socket, still non-blocking.
pub(super) fn hand_over(stream: TcpStream) -> io::Result<OwnedFd> {
    Ok(stream.into_std()?.into())
}

/// Buffer sizes must be set before the connection is made: they limit the window offered.
fn new_socket(address: SocketAddr, net: &NetOptions) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if net.send_buffer_bytes > 0 {
        socket.set_send_buffer_size(net.send_buffer_bytes)?;
    }
    if net.receive_buffer_bytes > 0 {
        socket.set_recv_buffer_size(net.receive_buffer_bytes)?;
    }
    Ok(socket)
}

/// More callers than may be opening at once are turned away by us, not by the kernel.
const BACKLOG: u32 = 128;

const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;
