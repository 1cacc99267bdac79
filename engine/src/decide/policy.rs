//! What the configured policies make of a split brain.
//!
//! Like everything in `decide`, a function of the two greetings as sent: both nodes must have been
//! told the same policies, and what these look at is part of the greetings. No policy makes a
//! Primary the target (D7); where a Primary loses, that is only said.

use rbd_protocol::policy::{WithOnePrimary, WithTwoPrimaries, WithoutPrimary};
use rbd_protocol::state::{DiskState, Role};

use super::{Conflict, Side, Verdict, count_from_the_same, share_an_ancestor};

/// Whose changes are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loser {
    Own,
    Peer,
}

/// Both sides have changes. Who gives up its own, if a policy says so. Data known to be behind is
/// never kept by a policy (S6); a person may have reasons to.
pub(super) fn by_policy(own: Side<'_>, peer: Side<'_>) -> Verdict {
    let verdict = choose(own, peer);
    let source = match verdict {
        Verdict::Source { .. } => own,
        Verdict::Target { .. } => peer,
        Verdict::NoSync | Verdict::NoDisk | Verdict::Refuse(_) => return verdict,
    };
    if source.volume.disk == DiskState::Outdated {
        return Verdict::Refuse(Conflict::SplitBrain);
    }
    verdict
}

fn choose(own: Side<'_>, peer: Side<'_>) -> Verdict {
    let policies = own.hello.policies;
    if policies != peer.hello.policies.seen_from_peer() {
        return Verdict::Refuse(Conflict::PoliciesDiffer);
    }
    let unresolved = Verdict::Refuse(Conflict::SplitBrain);
    let exact = count_from_the_same(own.volume, peer.volume);
    let reaches = exact || policies.always && share_an_ancestor(own.volume, peer.volume);
    if !reaches {
        return unresolved;
    }
    let verdict = |loser| match loser {
        Loser::Own => Verdict::Target { full: !exact },
        Loser::Peer => Verdict::Source { full: !exact },
    };
    let without_primary = || without_primary(own, peer, exact);
    let primary = match (own.hello.role, peer.hello.role) {
        (Role::Primary, Role::Primary) => return with_two_primaries(own, without_primary()),
        (Role::Primary, _) => Loser::Own,
        (_, Role::Primary) => Loser::Peer,
        (_, _) => return without_primary().map_or(unresolved, verdict),
    };
    let secondary = primary.other();
    match policies.with_one_primary {
        WithOnePrimary::Disconnect => unresolved,
        WithOnePrimary::DiscardSecondary => verdict(secondary),
        WithOnePrimary::Consensus => match without_primary() {
            Some(loser) if loser == secondary => verdict(secondary),
            Some(_) | None => unresolved,
        },
        WithOnePrimary::CallPrimaryLost => match without_primary() {
            Some(loser) if loser == secondary => verdict(secondary),
            Some(loser) => lost(loser),
            None => unresolved,
        },
    }
}

fn with_two_primaries(own: Side<'_>, loser: Option<Loser>) -> Verdict {
    match own.hello.policies.with_two_primaries {
        WithTwoPrimaries::Disconnect => Verdict::Refuse(Conflict::TwoPrimaries),
        WithTwoPrimaries::CallPrimaryLost => {
            loser.map_or(Verdict::Refuse(Conflict::TwoPrimaries), lost)
        }
    }
}

fn without_primary(own: Side<'_>, peer: Side<'_>, exact: bool) -> Option<Loser> {
    let (s, p) = (own.volume, peer.volume);
    let younger = match (s.was_primary, p.was_primary) {
        (true, false) => Some(Loser::Peer),
        (false, true) => Some(Loser::Own),
        (true, true) | (false, false) => None,
    };
    let fewest = || fewest_changes(own, peer, exact);
    match own.hello.policies.without_primary {
        WithoutPrimary::Disconnect => None,
        WithoutPrimary::DiscardLocal => Some(Loser::Own),
        WithoutPrimary::DiscardRemote => Some(Loser::Peer),
        WithoutPrimary::DiscardYoungerPrimary => younger.or_else(fewest),
        WithoutPrimary::DiscardOlderPrimary => younger.map(Loser::other).or_else(fewest),
        WithoutPrimary::DiscardZeroChanges if s.dirty_blocks > 0 && p.dirty_blocks > 0 => None,
        WithoutPrimary::DiscardZeroChanges | WithoutPrimary::DiscardLeastChanges => fewest(),
    }
}

/// The side with fewer changes; with equally many, the higher node number. The counts include
/// every region in which a write may have been in flight when a node was interrupted, and every
/// block of a damaged bitmap, so 0 means none. They can only be compared if both began at the same
/// generation: otherwise a node may have changed more than it counts.
fn fewest_changes(own: Side<'_>, peer: Side<'_>, exact: bool) -> Option<Loser> {
    let key = |side: Side<'_>| (side.volume.dirty_blocks, core::cmp::Reverse(side.node));
    exact.then(|| {
        if key(own) < key(peer) {
            Loser::Own
        } else {
            Loser::Peer
        }
    })
}

/// A Primary would have to give up its changes: its handler is called, and nothing is copied.
fn lost(loser: Loser) -> Verdict {
    Verdict::Refuse(match loser {
        Loser::Own => Conflict::OwnPrimaryLoses,
        Loser::Peer => Conflict::PeerPrimaryLoses,
    })
}

impl Loser {
    fn other(self) -> Self {
        match self {
            Self::Own => Self::Peer,
            Self::Peer => Self::Own,
        }
    }
}
