//! Who synchronises from whom: one pure, total function of the two greetings *as sent*.
//!
//! The rules follow DRBD's comparison of generation identifiers, with two differences. A node that
//! was never interrupted since both were in sync beats a crashed Primary (B7). And "nothing to do"
//! must be proven: with equal generations both bitmaps must be empty (D4). Both nodes evaluate the
//! same greetings with the sides exchanged and reach mirrored verdicts (D1).
//!
//! In a split brain an administrator's order counts first, then the configured policies.

mod policy;
mod size;

#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod rule_tests;
#[cfg(test)]
mod size_tests;
#[cfg(test)]
mod tests;

pub(crate) use size::agree;

use rbd_protocol::control::Divergence;
use rbd_protocol::ids::{GenerationId, NodeId};
use rbd_protocol::peer::{Hello, HelloVolume};
use rbd_protocol::state::{DiskState, Role};

/// One node's part of the comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Side<'a> {
    pub(crate) node: NodeId,
    pub(crate) hello: &'a Hello,
    pub(crate) volume: &'a HelloVolume,
}

/// What is to happen to one volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Both replicas are identical.
    NoSync,
    /// At least one node has no disk to replicate to.
    NoDisk,
    /// This node's data is copied to the peer: all of it, or what the joined bitmaps list.
    Source { full: bool },
    /// The peer's data is copied here.
    Target { full: bool },
    /// The data must not be joined.
    Refuse(Conflict),
}

/// Why the data must not be joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// Both nodes have changes the other lacks.
    SplitBrain,
    /// The same, and the nodes have been told different policies for it.
    PoliciesDiffer,
    /// The same, and this node, which is Primary, is to give up its changes by policy.
    OwnPrimaryLoses,
    /// The same, and the peer, which is Primary, is to give up its changes by policy.
    PeerPrimaryLoses,
    /// No generation in common.
    Unrelated,
    /// The same, and of several volumes the policies would keep some from one node and some from
    /// the other.
    VolumesDisagree,
    /// Both nodes are Primary.
    TwoPrimaries,
    /// The node that would be overwritten is Primary.
    PrimaryWouldBeTarget,
    /// The node whose changes an order says to give up is the one with the newer data.
    AgainstOrder,
    /// The node that would be the source has no complete data itself.
    SourceIsInconsistent,
}

/// Decides one volume. `own` is this node's greeting as it was sent, `peer` as it was received.
pub(crate) fn decide(own: Side<'_>, peer: Side<'_>) -> Verdict {
    if own.hello.role == Role::Primary && peer.hello.role == Role::Primary {
        return two_primaries(own, peer);
    }
    if !has_disk(own) || !has_disk(peer) {
        return Verdict::NoDisk;
    }
    if is_filling(own) || is_filling(peer) {
        return fill(own, peer);
    }
    let verdict = match compare(own, peer) {
        Verdict::Refuse(Conflict::SplitBrain) => split_brain(own, peer),
        verdict => verdict,
    };
    let (source, target) = match verdict {
        Verdict::Source { .. } => (own, peer),
        Verdict::Target { .. } => (peer, own),
        Verdict::NoSync | Verdict::NoDisk | Verdict::Refuse(_) => return verdict,
    };
    if is_condemned(source, target) {
        return Verdict::Refuse(Conflict::AgainstOrder);
    }
    if target.hello.role == Role::Primary {
        return Verdict::Refuse(Conflict::PrimaryWouldBeTarget);
    }
    if source.volume.disk <= DiskState::Inconsistent {
        return Verdict::Refuse(Conflict::SourceIsInconsistent);
    }
    verdict
}

/// Whether both sides have changes, whatever is to be done about it.
pub(crate) fn is_split_brain(own: Side<'_>, peer: Side<'_>) -> bool {
    divergence(own, peer) == Divergence::Both
}

/// Whether both sides count their changes from the same generation, so that their bitmaps together
/// tell all that differs (Z15).
pub(crate) fn count_from_the_same(s: &HelloVolume, p: &HelloVolume) -> bool {
    s.bitmap == p.bitmap && !s.bitmap.is_none()
}

/// Who has changes the other lacks, whatever the roles and orders.
pub(crate) fn divergence(own: Side<'_>, peer: Side<'_>) -> Divergence {
    if !has_disk(own) || !has_disk(peer) || is_filling(own) || is_filling(peer) {
        return Divergence::Neither;
    }
    match compare(own, peer) {
        Verdict::Source { .. } => Divergence::Own,
        Verdict::Target { .. } => Divergence::Peer,
        Verdict::NoSync | Verdict::NoDisk => Divergence::Neither,
        Verdict::Refuse(Conflict::SplitBrain) => Divergence::Both,
        Verdict::Refuse(_) => Divergence::Unknown,
    }
}

/// Whether an order given on `judge`'s node says to give up the data `victim` has now. It was given
/// for what was shown then, and a generation may have grown in a later tenure as Primary.
fn is_condemned(victim: Side<'_>, judge: Side<'_>) -> bool {
    !judge.volume.condemned.is_none()
        && judge.volume.condemned == victim.volume.current
        && judge.hello.condemned_tenure == victim.hello.tenure
}

fn has_disk(side: Side<'_>) -> bool {
    side.volume.disk >= DiskState::Inconsistent && side.volume.disk != DiskState::DUnknown
}

fn compare(own: Side<'_>, peer: Side<'_>) -> Verdict {
    let (s, p) = (own.volume, peer.volume);
    match (is_fresh(s), is_fresh(p)) {
        (true, true) => return Verdict::NoSync,
        (true, false) => return Verdict::Target { full: true },
        (false, true) => return Verdict::Source { full: true },
        (false, false) => {}
    }
    if s.current == p.current {
        return equal_generations(own, peer);
    }
    match (s.current == p.bitmap, p.current == s.bitmap) {
        (true, false) => return Verdict::Target { full: false },
        (false, true) => return Verdict::Source { full: false },
        (true, true) => return Verdict::Refuse(Conflict::SplitBrain),
        (false, false) => {}
    }
    match (
        p.history.contains(&s.current),
        s.history.contains(&p.current),
    ) {
        (true, false) => Verdict::Target {
            full: !recorded_since(p, s.current),
        },
        (false, true) => Verdict::Source {
            full: !recorded_since(s, p.current),
        },
        (true, true) => Verdict::Refuse(Conflict::SplitBrain),
        (false, false) if share_an_ancestor(s, p) => Verdict::Refuse(Conflict::SplitBrain),
        (false, false) => Verdict::Refuse(Conflict::Unrelated),
    }
}

/// Whether the volume's bitmap has recorded every change since this older generation was current.
fn recorded_since(volume: &HelloVolume, generation: GenerationId) -> bool {
    let age = |id| volume.history.iter().position(|known| *known == id);
    match (age(generation), age(volume.bitmap)) {
        (Some(generation), Some(bitmap)) => generation < bitmap,
        _ => false,
    }
}

fn equal_generations(own: Side<'_>, peer: Side<'_>) -> Verdict {
    let (s, p) = (own.volume, peer.volume);
    match (
        s.disk == DiskState::Inconsistent,
        p.disk == DiskState::Inconsistent,
    ) {
        (true, false) => return Verdict::Target { full: false },
        (false, true) => return Verdict::Source { full: false },
        (true, true) => return Verdict::Refuse(Conflict::SourceIsInconsistent),
        (false, false) => {}
    }
    if s.dirty_blocks == 0 && p.dirty_blocks == 0 {
        return Verdict::NoSync;
    }
    // Something may differ. The source is, in this order: the Primary; the node that kept its power
    // since both were in sync (B7), be it said to be behind: nobody has gone on without it, or the
    // generations would differ; the node whose data is not known to be behind (S6); the node that
    // was not interrupted; the crashed Primary; the one that knows what it wrote; and when nothing
    // tells them apart, the lower node number.
    let claims: [(bool, bool); 6] = [
        (
            own.hello.role == Role::Primary,
            peer.hello.role == Role::Primary,
        ),
        (s.kept_power, p.kept_power),
        (s.disk != DiskState::Outdated, p.disk != DiskState::Outdated),
        (
            own.hello.seen_incarnation != 0,
            peer.hello.seen_incarnation != 0,
        ),
        (s.crashed_primary, p.crashed_primary),
        (s.dirty_blocks > 0, p.dirty_blocks > 0),
    ];
    for claim in claims {
        match claim {
            (true, false) => return Verdict::Source { full: false },
            (false, true) => return Verdict::Target { full: false },
            (true, true) | (false, false) => {}
        }
    }
    if own.node < peer.node {
        Verdict::Source { full: false }
    } else {
        Verdict::Target { full: false }
    }
}

/// Whether this node is a Primary that the other one serves and that has been given a disk: its
/// clients see the other node's data, and nothing of that disk's.
fn is_filling(side: Side<'_>) -> bool {
    side.hello.role == Role::Primary && side.volume.disk <= DiskState::Outdated
}

/// The disk is filled from the node that serves. Has it anything that node lacks, it is left alone,
/// as if it were not there: nobody has said that this may be given up, and to refuse the connection
/// would take the data from the clients.
fn fill(own: Side<'_>, peer: Side<'_>) -> Verdict {
    let is_own = is_filling(own);
    let (filled, server) = if is_own { (own, peer) } else { (peer, own) };
    if server.volume.disk < DiskState::Consistent || is_condemned(server, filled) {
        return Verdict::NoDisk;
    }
    let same = filled.volume.current == server.volume.current && !is_fresh(server.volume);
    let full = match compare(filled, server) {
        _ if same => false,
        Verdict::Target { full } => full,
        // What a half-copied disk had of its own was given up when the copying began.
        Verdict::Refuse(Conflict::SplitBrain) if is_torn(filled) => true,
        _ => return Verdict::NoDisk,
    };
    if is_own {
        Verdict::Target { full }
    } else {
        Verdict::Source { full }
    }
}

/// Two Primaries are joined only if both may be, and neither has begun anything without the other.
/// Else a policy may say which of them is to stop being one.
fn two_primaries(own: Side<'_>, peer: Side<'_>) -> Verdict {
    if own.hello.two_primaries
        && peer.hello.two_primaries
        && let Some(verdict) = join_two(own, peer)
    {
        return verdict;
    }
    if is_split_brain(own, peer) {
        match policy::by_policy(own, peer) {
            Verdict::Refuse(Conflict::SplitBrain) => {}
            verdict => return verdict,
        }
    }
    Verdict::Refuse(Conflict::TwoPrimaries)
}

/// Two Primaries that have lost sight of each other and gone on with nothing: what was on its way
/// is brought into line from one of them. A Primary without data of its own is served by the other.
fn join_two(own: Side<'_>, peer: Side<'_>) -> Option<Verdict> {
    if !has_disk(own) || !has_disk(peer) {
        return Some(Verdict::NoDisk);
    }
    match (is_filling(own), is_filling(peer)) {
        (true, true) => None,
        (true, false) | (false, true) => Some(fill(own, peer)),
        (false, false) if own.volume.current == peer.volume.current => Some(compare(own, peer)),
        (false, false) => None,
    }
}

/// Both sides have changes. A node told to give up its own, on itself or on the other node, becomes
/// the target, if it is the only one; without an order the policies decide.
fn split_brain(own: Side<'_>, peer: Side<'_>) -> Verdict {
    // What a half-copied disk had of its own was given up when the copying began; by now it is no
    // data at all.
    match (is_torn(own), is_torn(peer)) {
        (true, false) => return Verdict::Target { full: true },
        (false, true) => return Verdict::Source { full: true },
        (true, true) => return Verdict::Refuse(Conflict::SourceIsInconsistent),
        (false, false) => {}
    }
    let full = !count_from_the_same(own.volume, peer.volume);
    let gives_up = |side: Side<'_>, other| side.hello.discard_my_data || is_condemned(side, other);
    match (gives_up(own, peer), gives_up(peer, own)) {
        (true, false) => Verdict::Target { full },
        (false, true) => Verdict::Source { full },
        (true, true) => Verdict::Refuse(Conflict::SplitBrain),
        (false, false) => policy::by_policy(own, peer),
    }
}

fn is_torn(side: Side<'_>) -> bool {
    side.volume.disk == DiskState::Inconsistent
}

fn is_fresh(volume: &HelloVolume) -> bool {
    volume.current == GenerationId::JUST_CREATED || volume.current.is_none()
}

fn share_an_ancestor(s: &HelloVolume, p: &HelloVolume) -> bool {
    let real = |id: &GenerationId| !id.is_none() && *id != GenerationId::JUST_CREATED;
    let ancestors = |volume: &HelloVolume| {
        core::iter::once(volume.bitmap)
            .chain(volume.history.clone())
            .filter(real)
            .collect::<Ids>()
    };
    let (s, p) = (ancestors(s), ancestors(p));
    s.iter().any(|id| p.contains(id))
}

type Ids = alloc::vec::Vec<GenerationId>;
