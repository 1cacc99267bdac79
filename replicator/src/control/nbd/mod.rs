//! NBD listeners and the negotiation with clients, up to the first request; from there on a client
//! is its resource's business.
//!
//! All resources share the Unix socket, and every TCP address is listened on once, however many
//! volumes are exported on it.

mod exports;
mod negotiate;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use rbd_protocol::control::{NbdExport, ResourceConfig};
use tokio::net::{TcpListener, TcpSocket, UnixListener};

use super::daemon::Daemon;
use super::task::Task;
use exports::Door;

/// The listeners.
#[derive(Debug, Default)]
pub(super) struct NbdFront {
    unix: RefCell<Option<Task>>,
    tcp: RefCell<BTreeMap<SocketAddr, Task>>,
}

impl NbdFront {
    /// Serves clients of the Unix socket.
    pub(super) fn serve_unix(&self, daemon: &Rc<Daemon>, listener: UnixListener) {
        let task = Task::spawn(negotiate::serve_unix(Rc::clone(daemon), listener));
        *self.unix.borrow_mut() = Some(task);
    }

    /// Listens on the addresses that are not listened on yet.
    ///
    /// # Errors
    /// The address that cannot be had, and why. Those before it are listened on.
    pub(super) fn listen(
        &self,
        daemon: &Rc<Daemon>,
        addresses: &[String],
    ) -> Result<(), (String, io::Error)> {
        for text in addresses {
            let failed = |error| (text.clone(), error);
            let address = text
                .parse()
                .map_err(|error| failed(io::Error::other(error)))?;
            if self.tcp.borrow().contains_key(&address) {
                continue;
            }
            let listener = bind(address).map_err(failed)?;
            let door = Door::Tcp(address);
            let task = Task::spawn(negotiate::serve_tcp(Rc::clone(daemon), listener, door));
            self.tcp.borrow_mut().insert(address, task);
        }
        Ok(())
    }

    /// Stops listening on every address not among these. Clients that are connected stay.
    pub(super) fn keep_only(&self, addresses: &[String]) {
        let wanted: Vec<SocketAddr> = addresses
            .iter()
            .filter_map(|address| address.parse().ok())
            .collect();
        self.tcp
            .borrow_mut()
            .retain(|address, _| wanted.contains(address));
    }

    /// Stops all listening.
    pub(super) fn close(&self) {
        self.unix.borrow_mut().take();
        self.tcp.borrow_mut().clear();
    }
}

/// The TCP addresses a resource is to be exported on.
pub(super) fn tcp_addresses(config: &ResourceConfig) -> Vec<String> {
    let exports = config.volumes.iter().flat_map(|volume| &volume.exports);
    exports
        .filter_map(|export| match export {
            NbdExport::Tcp(address) => Some(address.clone()),
            NbdExport::Unix => None,
        })
        .collect()
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

const BACKLOG: u32 = 128;
