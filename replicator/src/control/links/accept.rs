//! Listens for peers. Until a caller has proven who it is, it gets one small buffer, five seconds
//! and one of a few places.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use rbd_engine::Seek;
use rbd_protocol::peer::Channel;
use rbd_protocol::peer::greeting::{Acceptor, Agreement, GreetingError};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::greet::{OpenError, open_accepted};
use super::seat::{self, Verdict};
use super::{Shared, socket};
use crate::control::system::random_bytes;
use crate::control::unaccepted::Unaccepted;

/// Answers calls for as long as the resource is up.
pub(super) async fn accept_calls(shared: Rc<Shared>, listener: TcpListener) {
    let mut openings: JoinSet<IpAddr> = JoinSet::new();
    let mut callers = Callers::default();
    let quiet = Rc::new(Quiet::default());
    let mut unaccepted = Unaccepted::of("peers");
    loop {
        tokio::select! {
            Some(ended) = openings.join_next() => {
                if let Ok(address) = ended {
                    callers.leave(address);
                }
            }
            call = listener.accept() => {
                let (stream, address) = match call {
                    Ok(call) => call,
                    Err(error) => {
                        unaccepted.pause(&error).await;
                        continue;
                    }
                };
                if !callers.take_in(address.ip()) {
                    let what = "turned away: too many connections being opened";
                    quiet.warn(&shared.resource, address, what);
                    continue;
                }
                let (shared, quiet) = (Rc::clone(&shared), Rc::clone(&quiet));
                openings.spawn_local(async move {
                    answer(&shared, stream, address, &quiet).await;
                    address.ip()
                });
            }
        }
    }
}

/// Who is opening connections, and how many each.
#[derive(Debug, Default)]
pub(super) struct Callers {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

impl Callers {
    /// Whether there is place for one more from this address, which then has it.
    pub(super) fn take_in(&mut self, address: IpAddr) -> bool {
        let from_here = self.by_address.get(&address).copied().unwrap_or(0);
        if self.all >= OPENING_LIMIT || from_here >= OPENING_LIMIT_PER_ADDRESS {
            return false; // and leaves no trace: there are more addresses than memory
        }
        self.all += 1;
        self.by_address.insert(address, from_here + 1);
        true
    }

    /// One from this address has come to its end.
    pub(super) fn leave(&mut self, address: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&address) {
            self.all -= 1;
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(super) fn remembered(&self) -> usize {
        self.by_address.len()
    }
}

async fn answer(shared: &Rc<Shared>, mut stream: TcpStream, address: SocketAddr, quiet: &Quiet) {
    let local = shared.local();
    let mut acceptor = Acceptor::new(&local.host, random_bytes());
    let opened = timeout(OPENING_DEADLINE, open_accepted(&mut stream, &mut acceptor)).await;
    let agreement = match opened {
        Ok(Ok(agreement)) => agreement,
        Ok(Err(error)) => return report(shared, address, &error, quiet),
        Err(_) => {
            return quiet.warn(&shared.resource, address, "closed: it did not open in time");
        }
    };
    let options = local
        .peer(agreement.peer)
        .map_or_else(|| local.listener_options(), |peer| peer.net.clone());
    if let Err(error) = socket::prepare(&stream, &options) {
        return report(shared, address, &error.into(), quiet);
    }
    let mut out = Vec::new();
    match seat::judge(shared, local.node_id, &agreement) {
        Verdict::Accept => {
            acceptor.accept(&mut out);
            take(shared, &agreement, stream, &out, address);
        }
        Verdict::Refuse(reason) => {
            tracing::debug!(
                resource = shared.resource,
                peer = agreement.peer_name,
                %reason,
                "link from {address} refused"
            );
            acceptor.refuse(reason, &mut out);
            // It is being closed either way.
            drop(stream.try_write(&out));
        }
    }
}

/// Sends the proof and keeps the connection, in one go: while this waited, the decision could
/// become another. A fresh socket has room for a message this small.
fn take(
    shared: &Rc<Shared>,
    agreement: &Agreement,
    stream: TcpStream,
    proof: &[u8],
    address: SocketAddr,
) {
    let peer = &*agreement.peer_name;
    let resource = &*shared.resource;
    let sent = stream.try_write(proof);
    let is_sent = matches!(sent, Ok(count) if count == proof.len());
    let Some(socket) = socket::hand_over(stream).ok().filter(|_| is_sent) else {
        tracing::debug!(
            resource,
            peer,
            "link from {address} lost while it was opened"
        );
        return seat::start_seeking(shared, agreement.peer, Seek::Soon);
    };
    match agreement.channel {
        Channel::Data => seat::keep_half(shared, agreement, socket),
        Channel::Control => {
            tracing::info!(resource, peer, "link from {peer} at {address} opened");
            seat::complete(shared, agreement, socket);
        }
    }
}

fn report(shared: &Shared, address: SocketAddr, error: &OpenError, quiet: &Quiet) {
    let text = match error {
        OpenError::Greeting(error @ GreetingError::Refused { .. }) => error.to_string(),
        OpenError::Greeting(error) if !error.is_garbage() => format!("refused: {error}"),
        OpenError::Greeting(error) => format!("closed: {error}"),
        // Port scans, health checks, a peer that gave up: nothing to look at.
        OpenError::Network(_) | OpenError::Closed => {
            return tracing::debug!(resource = shared.resource, %address, %error, "not opened");
        }
    };
    quiet.warn(&shared.resource, address, &text);
}

/// A log that cannot be flooded from outside, and does not repeat itself.
#[derive(Default)]
struct Quiet {
    state: RefCell<Said>,
}

/// The last line about strangers.
#[derive(Default)]
struct Said {
    at: Option<Instant>,
    text: String,
    suppressed: u64,
}

impl Quiet {
    fn warn(&self, resource: &str, address: SocketAddr, text: &str) {
        let mut said = self.state.borrow_mut();
        let pause = if said.text == text {
            REPEAT_PAUSE
        } else {
            LOG_PAUSE
        };
        if said.at.is_some_and(|at| at.elapsed() < pause) {
            said.suppressed += 1;
            tracing::debug!(resource, "connection from {address} {text}");
            return;
        }
        let suppressed = said.suppressed;
        *said = Said {
            at: Some(Instant::now()),
            text: text.to_owned(),
            suppressed: 0,
        };
        if suppressed > 0 {
            tracing::warn!(
                resource,
                "connection from {address} {text} ({suppressed} more since the last such line)"
            );
        } else {
            tracing::warn!(resource, "connection from {address} {text}");
        }
    }
}

/// Connections being opened at once, in all and from one address: a peer needs one.
const OPENING_LIMIT: usize = 64;
const OPENING_LIMIT_PER_ADDRESS: usize = 8;

/// How long a caller may take to prove who it is.
const OPENING_DEADLINE: Duration = Duration::from_secs(5);

/// At most one line about strangers in this time.
const LOG_PAUSE: Duration = Duration::from_secs(10);

/// At most one line that says the same as the last: a peer that is configured otherwise calls
/// every few seconds until somebody has read it.
const REPEAT_PAUSE: Duration = Duration::from_secs(600);
