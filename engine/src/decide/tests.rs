//! The decision over every pair of greetings from small domains: total, mirrored, and never more
//! trusting than the greetings allow.
use super::*;
use alloc::vec;
use alloc::vec::Vec;
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::policy::SplitPolicies;

pub(super) const FRESH: u64 = 4;
const TENURE: u64 = 100;

pub(super) fn greeting(current: u64, bitmap: u64, history: &[u64], disk: DiskState) -> Hello {
    Hello {
        role: Role::Secondary,
        incarnation: 1,
        boot: 1,
        seen_incarnation: 0,
        tenure: TENURE,
        condemned_tenure: 0,
        policies: SplitPolicies::default(),
        tentative: false,
        two_primaries: false,
        discard_my_data: false,
        volumes: vec![HelloVolume {
            number: VolumeNumber(0),
            size_bytes: 1 << 20,
            capacity_bytes: 1 << 20,
            block_bytes: 512,
            disk,
            current: GenerationId(current),
            bitmap: GenerationId(bitmap),
            history: history.iter().copied().map(GenerationId).collect(),
            dirty_blocks: 0,
            was_primary: false,
            counted_since: 0,
            crashed_primary: false,
            was_resync_target: disk == DiskState::Inconsistent,
            kept_power: false,
            condemned: GenerationId::NONE,
        }],
    }
}

pub(super) fn sides<'a>(own: &'a Hello, peer: &'a Hello) -> (Side<'a>, Side<'a>) {
    let side = |node, hello: &'a Hello| Side {
        node: NodeId(node),
        hello,
        volume: &hello.volumes[0],
    };
    (side(0, own), side(1, peer))
}

/// Every greeting that differs in generations, disk, role and dirty blocks.
fn by_generations() -> Vec<Hello> {
    let disks = [
        DiskState::Diskless,
        DiskState::Inconsistent,
        DiskState::Outdated,
        DiskState::Consistent,
        DiskState::UpToDate,
    ];
    let mut all = Vec::new();
    for current in [0, FRESH, 10, 11, 12] {
        for bitmap in [0, 10, 11] {
            for history in [&[][..], &[10], &[11], &[11, 10], &[10, 11]] {
                for disk in disks {
                    all.push(greeting(current, bitmap, history, disk));
                }
            }
        }
    }
    doubled(&mut all, |hello| hello.role = Role::Primary);
    doubled(&mut all, |hello| hello.volumes[0].dirty_blocks = 3);
    all
}

/// Every greeting that differs in what was seen, kept and interrupted, under one generation.
fn by_interruptions() -> Vec<Hello> {
    let mut all = Vec::new();
    for bitmap in [0, 10] {
        for disk in [
            DiskState::Inconsistent,
            DiskState::Consistent,
            DiskState::UpToDate,
        ] {
            all.push(greeting(12, bitmap, &[10], disk));
        }
    }
    doubled(&mut all, |hello| hello.role = Role::Primary);
    doubled(&mut all, |hello| hello.volumes[0].dirty_blocks = 3);
    doubled(&mut all, |hello| hello.volumes[0].crashed_primary = true);
    doubled(&mut all, |hello| hello.volumes[0].kept_power = true);
    doubled(&mut all, |hello| hello.seen_incarnation = 7);
    doubled(&mut all, |hello| hello.discard_my_data = true);
    all
}

pub(super) fn doubled(all: &mut Vec<Hello>, change: impl Fn(&mut Hello)) {
    let mut changed = all.clone();
    changed.iter_mut().for_each(change);
    all.append(&mut changed);
}

fn for_all_pairs(check: impl Fn(Side<'_>, Side<'_>, Verdict)) {
    for all in [by_generations(), by_interruptions()] {
        for one in &all {
            for other in &all {
                let (own, peer) = sides(one, other);
                check(own, peer, decide(own, peer));
            }
        }
    }
}

#[test]
fn both_nodes_reach_mirrored_verdicts() {
    for_all_pairs(|own, peer, verdict| {
        assert_eq!(
            decide(peer, own),
            mirrored(verdict),
            "D1: {own:?} and {peer:?}"
        );
    });
}

#[test]
fn no_sync_needs_equal_generations_and_no_dirty_block_or_two_fresh_disks() {
    for_all_pairs(|own, peer, verdict| {
        if verdict != Verdict::NoSync {
            return;
        }
        let (s, p) = (own.volume, peer.volume);
        let both_fresh = is_fresh(s) && is_fresh(p);
        let clean = s.dirty_blocks == 0 && p.dirty_blocks == 0;
        let whole = s.disk > DiskState::Inconsistent && p.disk > DiskState::Inconsistent;
        assert!(
            both_fresh || (s.current == p.current && clean && whole),
            "D4: {own:?} and {peer:?}"
        );
    });
}

#[test]
fn a_primary_is_never_overwritten() {
    for_all_pairs(|own, peer, verdict| {
        let target = match verdict {
            Verdict::Source { .. } => peer,
            Verdict::Target { .. } => own,
            Verdict::NoSync | Verdict::NoDisk | Verdict::Refuse(_) => return,
        };
        assert!(!is_in_use(target), "D7: {own:?} and {peer:?}");
    });
}

/// Whether clients see this disk. Those of a Primary whose disk is not whole are served by the
/// peer.
pub(super) fn is_in_use(side: Side<'_>) -> bool {
    side.hello.role == Role::Primary && side.volume.disk > DiskState::Outdated
}

#[test]
fn a_source_has_complete_data_and_is_no_fresh_disk() {
    for_all_pairs(|own, peer, verdict| {
        let source = match verdict {
            Verdict::Source { .. } => own,
            Verdict::Target { .. } => peer,
            Verdict::NoSync | Verdict::NoDisk | Verdict::Refuse(_) => return,
        };
        assert!(
            source.volume.disk > DiskState::Inconsistent && !is_fresh(source.volume),
            "S6: {own:?} and {peer:?}"
        );
    });
}

#[test]
fn a_resync_by_bitmap_has_a_bitmap_that_counts_from_what_the_target_has() {
    for_all_pairs(|own, peer, verdict| {
        let (source, target) = match verdict {
            Verdict::Source { full: false } => (own.volume, peer.volume),
            Verdict::Target { full: false } => (peer.volume, own.volume),
            _ => return,
        };
        let age = |id| source.history.iter().position(|known| *known == id);
        let in_between = age(target.current)
            .zip(age(source.bitmap))
            .is_some_and(|(current, bitmap)| current < bitmap);
        let by_command = source.bitmap == target.bitmap && !source.bitmap.is_none();
        assert!(
            source.current == target.current
                || source.bitmap == target.current
                || in_between
                || by_command,
            "D4: {own:?} and {peer:?}"
        );
    });
}

#[test]
fn data_without_a_generation_in_common_is_never_joined() {
    let one = greeting(10, 0, &[], DiskState::UpToDate);
    let other = greeting(11, 0, &[], DiskState::UpToDate);
    let (own, peer) = sides(&one, &other);
    assert_eq!(decide(own, peer), Verdict::Refuse(Conflict::Unrelated));
}

#[test]
fn a_survivor_beats_a_crashed_primary() {
    let survivor = greeting(12, 0, &[10], DiskState::UpToDate);
    let mut crashed = greeting(12, 0, &[10], DiskState::Consistent);
    crashed.volumes[0].crashed_primary = true;
    crashed.volumes[0].dirty_blocks = 9;
    let mut uninterrupted = survivor.clone();
    uninterrupted.seen_incarnation = 7;
    let mut restarted = survivor;
    restarted.volumes[0].kept_power = true;
    for survivor in [uninterrupted, restarted] {
        let (own, peer) = sides(&survivor, &crashed);
        assert_eq!(decide(own, peer), Verdict::Source { full: false }, "B7");
    }
}

#[test]
fn changes_on_both_sides_are_a_split_brain_unless_one_gives_up_its_own() {
    let one = greeting(11, 10, &[10], DiskState::UpToDate);
    let mut other = greeting(12, 10, &[10], DiskState::UpToDate);
    let (own, peer) = sides(&one, &other);
    assert_eq!(decide(own, peer), Verdict::Refuse(Conflict::SplitBrain));
    other.discard_my_data = true;
    let (own, peer) = sides(&one, &other);
    assert_eq!(decide(own, peer), Verdict::Source { full: false });
}

/// The same verdict as the other node sees it.
pub(super) fn mirrored(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Source { full } => Verdict::Target { full },
        Verdict::Target { full } => Verdict::Source { full },
        Verdict::Refuse(Conflict::OwnPrimaryLoses) => Verdict::Refuse(Conflict::PeerPrimaryLoses),
        Verdict::Refuse(Conflict::PeerPrimaryLoses) => Verdict::Refuse(Conflict::OwnPrimaryLoses),
        Verdict::NoSync | Verdict::NoDisk | Verdict::Refuse(_) => verdict,
    }
}

/// What both nodes make of their greetings, as this one sees it.
fn seen_by_both(own: &Hello, peer: &Hello) -> Verdict {
    let (s, p) = sides(own, peer);
    let verdict = decide(s, p);
    assert_eq!(decide(p, s), mirrored(verdict));
    verdict
}

fn up(current: u64, bitmap: u64, history: &[u64]) -> Hello {
    greeting(current, bitmap, history, DiskState::UpToDate)
}

/// Whatever the generations say of who has more: each has clients that have seen its own data.
#[test]
fn two_primaries_of_which_one_began_something_alone_are_not_joined() {
    let primary = |mut hello: Hello| {
        (hello.role, hello.two_primaries) = (Role::Primary, true);
        hello
    };
    let old = primary(up(10, 0, &[]));
    assert_eq!(
        seen_by_both(&old, &old),
        Verdict::NoSync,
        "both have the same"
    );
    let refused = Verdict::Refuse(Conflict::TwoPrimaries);
    for began in [up(12, 10, &[]), up(12, 0, &[10]), up(12, 11, &[11, 10])] {
        assert_eq!(seen_by_both(&primary(began.clone()), &old), refused);
        assert_eq!(seen_by_both(&old, &primary(began)), refused);
    }
}

#[test]
fn without_two_disks_that_clients_see_nobody_has_changes_the_other_lacks() {
    let differs = |own: &Hello, peer: &Hello| {
        let (s, p) = sides(own, peer);
        (divergence(s, p), divergence(p, s))
    };
    let (old, newer) = (up(10, 0, &[]), up(12, 10, &[]));
    let own_is_newer = (Divergence::Own, Divergence::Peer);
    assert_eq!(differs(&newer, &old), own_is_newer);
    let neither = (Divergence::Neither, Divergence::Neither);
    let diskless = greeting(0, 0, &[], DiskState::Diskless);
    assert_eq!(differs(&newer, &diskless), neither);
    let mut filling = greeting(12, 10, &[], DiskState::Outdated);
    filling.role = Role::Primary;
    assert_eq!(differs(&filling, &old), neither);
}

/// A Primary without data of its own is served, and filled, by a node that may be behind for all
/// that node knows, and by none that is.
#[test]
fn a_primary_is_filled_by_a_node_that_is_not_known_to_be_behind() {
    let mut filling = greeting(10, 0, &[], DiskState::Outdated);
    filling.role = Role::Primary;
    let server = |disk| greeting(12, 10, &[], disk);
    for disk in [DiskState::Consistent, DiskState::UpToDate] {
        assert_eq!(
            seen_by_both(&filling, &server(disk)),
            Verdict::Target { full: false },
            "{disk}"
        );
    }
    for disk in [DiskState::Inconsistent, DiskState::Outdated] {
        assert_eq!(
            seen_by_both(&filling, &server(disk)),
            Verdict::NoDisk,
            "{disk}"
        );
    }
}
