//! Dials a peer until a link stands.

use std::rc::Rc;
use std::time::Duration;

use rbd_protocol::control::PeerConfig;
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Channel;
use rbd_protocol::peer::greeting::{Call, Dialer, GreetingError};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::greet::{OpenError, SharedSecret, open_dialled};
use super::seat::{self, Failure};
use super::{Local, Shared, socket};
use crate::control::system::{jittered, random_bytes};
use crate::control::task::Task;

/// Pause before the first attempt after a link was lost; doubled after each failure up to
/// `connect-int`, so that a short interruption is over soon and a long one costs little.
pub(super) const FIRST_PAUSE_MS: u64 = 250;

/// Starts dialling after a pause.
pub(super) fn start(shared: &Rc<Shared>, peer: NodeId, pause_ms: u64) -> Task {
    Task::spawn(dial(Rc::clone(shared), peer, pause_ms))
}

async fn dial(shared: Rc<Shared>, peer: NodeId, first_pause_ms: u64) {
    let mut pause_ms = first_pause_ms;
    loop {
        sleep(Duration::from_millis(jittered(pause_ms))).await;
        let local = shared.local();
        let Some(config) = local.peer(peer) else {
            return;
        };
        let attempt = timeout(ATTEMPT_DEADLINE, attempt(&shared, &local, config)).await;
        match attempt.unwrap_or_else(|_| Err(too_late())) {
            Ok((data, control)) => {
                tracing::info!(
                    resource = shared.resource,
                    peer = config.name,
                    "link to {} at {} opened",
                    config.name,
                    config.address
                );
                match (socket::hand_over(data), socket::hand_over(control)) {
                    (Ok(data), Ok(control)) => {
                        seat::hand_over(&shared, peer, data, control);
                        return;
                    }
                    (Err(error), _) | (_, Err(error)) => {
                        report(&shared, config, &error.into());
                    }
                }
            }
            Err(error) => report(&shared, config, &error),
        }
        seat::set_reached(&shared, peer, false);
        let longest_ms = u64::from(config.net.connect_interval_ms);
        pause_ms = (pause_ms * 2).clamp(FIRST_PAUSE_MS.min(longest_ms), longest_ms);
    }
}

/// One attempt: both connections, one after the other, under one session.
async fn attempt(
    shared: &Shared,
    local: &Local,
    peer: &PeerConfig,
) -> Result<(TcpStream, TcpStream), OpenError> {
    let session = u128::from_ne_bytes(random_bytes());
    let data = open(shared, local, peer, Channel::Data, session).await?;
    let control = open(shared, local, peer, Channel::Control, session).await?;
    Ok((data, control))
}

async fn open(
    shared: &Shared,
    local: &Local,
    peer: &PeerConfig,
    channel: Channel,
    session: u128,
) -> Result<TcpStream, OpenError> {
    let address = peer.address.parse().map_err(std::io::Error::other)?;
    let mut stream = socket::connect(local.listen, address, &peer.net).await?;
    seat::set_reached(shared, peer.node_id, true);
    let call = Call {
        resource: shared.resource.clone(),
        node_name: local.node_name.clone(),
        node_id: local.node_id,
        peer_name: peer.name.clone(),
        peer_id: peer.node_id,
        channel,
        session,
        challenge: random_bytes(),
    };
    let secret = peer.net.shared_secret.as_deref().map(SharedSecret::new);
    let mut out = Vec::new();
    let dialer = Dialer::new(call, secret, &mut out);
    open_dialled(&mut stream, dialer, out).await?;
    Ok(stream)
}

/// One line for each new cause; an unreachable peer is not worth one every few seconds.
fn report(shared: &Shared, peer: &PeerConfig, error: &OpenError) {
    let resource = &*shared.resource;
    let (name, address) = (&*peer.name, &*peer.address);
    let text = format!("no link to {name} at {address}: {error}");
    let failure = Failure {
        cause: error.to_string(),
        is_refusal: matches!(error, OpenError::Greeting(_)),
    };
    let is_passing = matches!(error, OpenError::Greeting(GreetingError::Refused { reason, .. })
        if reason.is_passing());
    if is_passing || !seat::is_news(shared, peer.node_id, failure) {
        tracing::debug!(resource, peer = name, "{text}");
    } else if let OpenError::Greeting(_) = error {
        tracing::warn!(resource, peer = name, "{text}");
    } else {
        tracing::info!(resource, peer = name, "{text}; will keep trying");
    }
}

fn too_late() -> OpenError {
    OpenError::Network(std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!("no answer within {} s", ATTEMPT_DEADLINE.as_secs()),
    ))
}

/// How long one attempt may take, from the first packet to both connections open.
const ATTEMPT_DEADLINE: Duration = Duration::from_secs(5);
