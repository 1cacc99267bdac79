//! What this node is doing about one peer, and every decision about it.
//!
//! Both nodes may dial at the same moment. Then the attempt of the node with the lower node-id
//! wins: an acceptor whose own attempt has reached the peer refuses with *busy* if its number is
//! the lower one, else it gives up its own attempt. A link from a peer that already has one is
//! refused, too, until this node has noticed that the old one is dead.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use rbd_engine::Seek;
use rbd_protocol::ids::NodeId;
use rbd_protocol::peer::Channel;
use rbd_protocol::peer::greeting::{Agreement, Reason};

use super::{Shared, dial};
use crate::control::task::Task;

/// What this node is doing about one peer.
#[derive(Default)]
pub(super) struct Seat {
    wish: Wish,
    /// Dials until a link stands; none while nothing is sought or the peer's attempt is under way.
    dialer: Option<Task>,
    /// This node's attempt has reached the peer and is being opened.
    reached: bool,
    incoming: Option<Half>,
    /// Why the last attempt failed, for people who ask, and so that the same reason is logged once.
    last_failure: Option<Failure>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Failure {
    /// In words.
    pub(in crate::control) cause: String,
    /// The peer was reached, and one of the two said no.
    pub(in crate::control) is_refusal: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    /// No link is wanted (StandAlone).
    #[default]
    Nothing,
    /// A link is wanted.
    Link,
    /// A link was handed over and not reported lost.
    Have,
}

/// The data connection of a link the peer is making, waiting for its control connection.
struct Half {
    session: u128,
    data: OwnedFd,
    /// Gives up waiting.
    _expiry: Task,
}

/// What becomes of a connection whose other end has proven who it is.
pub(super) enum Verdict {
    Accept,
    Refuse(Reason),
}

type Seats = BTreeMap<NodeId, Seat>;

/// A link is wanted from now on.
pub(super) fn start_seeking(shared: &Rc<Shared>, peer: NodeId, seek: Seek) {
    let pause_ms = match seek {
        Seek::Stop | Seek::AtOnce => 0,
        Seek::Soon => dial::FIRST_PAUSE_MS,
        Seek::Patiently => {
            let local = shared.local();
            let interval_ms = local
                .peer(peer)
                .map_or(0, |peer| peer.net.connect_interval_ms);
            PATIENCE * u64::from(interval_ms)
        }
    };
    let at_once = pause_ms == 0;
    let mut seats = shared.seats.borrow_mut();
    let seat = seats.entry(peer).or_default();
    seat.wish = Wish::Link;
    let under_way = seat.incoming.is_some() || seat.reached;
    if under_way || (seat.dialer.is_some() && !at_once) {
        return;
    }
    seat.dialer = Some(dial::start(shared, peer, pause_ms));
}

/// No link is wanted until further notice.
pub(super) fn stop_seeking(shared: &Shared, peer: NodeId) {
    let mut seats = shared.seats.borrow_mut();
    let seat = seats.entry(peer).or_default();
    // A link that stands stays the resource's until it reports its loss by seeking again; being
    // told to stop means that no other is wanted after it either.
    *seat = Seat::default();
}

/// This node's attempt has reached the peer, or has ended.
pub(super) fn set_reached(shared: &Shared, peer: NodeId, reached: bool) {
    if let Some(seat) = shared.seats.borrow_mut().get_mut(&peer) {
        seat.reached = reached;
    }
}

/// Whether this failure is another one than the last.
pub(super) fn is_news(shared: &Shared, peer: NodeId, failure: Failure) -> bool {
    let mut seats = shared.seats.borrow_mut();
    let Some(seat) = seats.get_mut(&peer) else {
        return true;
    };
    let is_news = seat.last_failure.as_ref() != Some(&failure);
    seat.last_failure = Some(failure);
    is_news
}

/// Why there is no link although one is wanted; `None` while no attempt has failed.
pub(super) fn last_failure(shared: &Shared, peer: NodeId) -> Option<Failure> {
    let seats = shared.seats.borrow();
    seats.get(&peer)?.last_failure.clone()
}

/// Whether a connection the peer made is wanted. If it is a data connection, this node's own
/// attempt ends here.
pub(super) fn judge(shared: &Shared, own: NodeId, agreement: &Agreement) -> Verdict {
    let mut seats: std::cell::RefMut<'_, Seats> = shared.seats.borrow_mut();
    let Some(seat) = seats.get_mut(&agreement.peer) else {
        return Verdict::Refuse(Reason::NotSeeking);
    };
    match (seat.wish, agreement.channel) {
        (Wish::Nothing, _) => Verdict::Refuse(Reason::NotSeeking),
        (Wish::Have, _) => Verdict::Refuse(Reason::Busy),
        (Wish::Link, Channel::Data) if seat.reached && own < agreement.peer => {
            Verdict::Refuse(Reason::Busy)
        }
        (Wish::Link, Channel::Data) => {
            seat.dialer = None;
            seat.reached = false;
            Verdict::Accept
        }
        (Wish::Link, Channel::Control) => match &seat.incoming {
            Some(half) if half.session == agreement.session => Verdict::Accept,
            _ => Verdict::Refuse(Reason::UnknownSession),
        },
    }
}

/// Keeps the data connection of a link until the control connection follows. A newer one from the
/// same peer replaces an older one: the peer has given that up.
pub(super) fn keep_half(shared: &Rc<Shared>, agreement: &Agreement, data: OwnedFd) {
    let expiry = {
        let shared = Rc::clone(shared);
        let (peer, session) = (agreement.peer, agreement.session);
        Task::spawn(async move {
            tokio::time::sleep(HALF_DEADLINE).await;
            drop_half(&shared, peer, session);
        })
    };
    let mut seats = shared.seats.borrow_mut();
    let seat = seats.entry(agreement.peer).or_default();
    seat.incoming = Some(Half {
        session: agreement.session,
        data,
        _expiry: expiry,
    });
}

/// Completes a link the peer made.
pub(super) fn complete(shared: &Shared, agreement: &Agreement, control: OwnedFd) {
    let half = {
        let mut seats = shared.seats.borrow_mut();
        let seat = seats.entry(agreement.peer).or_default();
        seat.incoming
            .take_if(|half| half.session == agreement.session)
    };
    if let Some(half) = half {
        hand_over(shared, agreement.peer, half.data, control);
    }
}

/// Hands a link to the resource and stops seeking.
pub(super) fn hand_over(shared: &Shared, peer: NodeId, data: OwnedFd, control: OwnedFd) {
    let old = shared.seats.borrow_mut().insert(
        peer,
        Seat {
            wish: Wish::Have,
            ..Seat::default()
        },
    );
    (shared.take)(peer, data, control);
    // Last, because this may be the dialling task itself, which ends here.
    drop(old);
}

/// The other half did not come in time: dial again.
fn drop_half(shared: &Rc<Shared>, peer: NodeId, session: u128) {
    let mut seats = shared.seats.borrow_mut();
    let Some(seat) = seats.get_mut(&peer) else {
        return;
    };
    let expired = seat.incoming.take_if(|half| half.session == session);
    if expired.is_some() && seat.wish == Wish::Link {
        seat.dialer = Some(dial::start(shared, peer, dial::FIRST_PAUSE_MS));
    }
}

/// How many times `connect-int` passes before a peer whose data must not be joined is dialled
/// again.
const PATIENCE: u64 = 6;

/// How long a data connection waits for its control connection.
const HALF_DEADLINE: Duration = Duration::from_secs(5);
