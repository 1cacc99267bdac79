//! Orders to give up changes: over every pair of a small world of greetings, and one by one.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::policy::SplitPolicies;

use super::*;

const TENURE: u64 = 100;
const OLD: GenerationId = GenerationId(0x50);
const MINE: GenerationId = GenerationId(0x60);
const YOURS: GenerationId = GenerationId(0x70);

fn hello(role: Role) -> Hello {
    Hello {
        role,
        incarnation: 1,
        boot: 1,
        seen_incarnation: 0,
        tenure: TENURE,
        condemned_tenure: 0,
        policies: SplitPolicies::default(),
        tentative: false,
        two_primaries: false,
        discard_my_data: false,
        volumes: Vec::new(),
    }
}

/// A greeting whose orders are for the other node as it is.
fn ordering() -> Hello {
    Hello {
        condemned_tenure: TENURE,
        ..hello(Role::Secondary)
    }
}

fn volume(current: GenerationId, bitmap: GenerationId, dirty_blocks: u64) -> HelloVolume {
    HelloVolume {
        number: VolumeNumber(0),
        size_bytes: 1 << 20,
        capacity_bytes: 1 << 20,
        block_bytes: 512,
        disk: DiskState::UpToDate,
        current,
        bitmap,
        condemned: GenerationId::NONE,
        history: Vec::new(),
        dirty_blocks,
        was_primary: false,
        counted_since: 0,
        crashed_primary: false,
        was_resync_target: false,
        kept_power: false,
    }
}

/// Decides as node 0 and as node 1; the verdicts must mirror each other.
fn both_ways(own: (&Hello, &HelloVolume), peer: (&Hello, &HelloVolume)) -> Verdict {
    let side = |node, (hello, volume)| Side {
        node: NodeId(node),
        hello,
        volume,
    };
    let (own, peer) = (side(0, own), side(1, peer));
    let (here, there) = (decide(own, peer), decide(peer, own));
    assert_eq!(there, tests::mirrored(here), "{own:?} {peer:?}");
    here
}

/// Every volume of a world of three generations.
fn volumes() -> Vec<HelloVolume> {
    let mut all = Vec::new();
    for current in [GenerationId::JUST_CREATED, OLD, MINE, YOURS] {
        for bitmap in [GenerationId::NONE, OLD, MINE] {
            for history in [vec![], vec![OLD]] {
                for disk in [
                    DiskState::Diskless,
                    DiskState::Inconsistent,
                    DiskState::UpToDate,
                ] {
                    for dirty_blocks in [0, 3] {
                        all.push(HelloVolume {
                            disk,
                            history: history.clone(),
                            ..volume(current, bitmap, dirty_blocks)
                        });
                    }
                }
            }
        }
    }
    all
}

/// Every greeting as far as roles and orders go, with the generation it condemns.
fn greetings() -> Vec<(Hello, GenerationId)> {
    let mut all = Vec::new();
    for role in [Role::Primary, Role::Secondary] {
        for discard_my_data in [false, true] {
            for condemned in [GenerationId::NONE, MINE, YOURS] {
                let hello = Hello {
                    discard_my_data,
                    condemned_tenure: TENURE,
                    ..hello(role)
                };
                all.push((hello, condemned));
            }
        }
    }
    all
}

#[test]
fn both_nodes_reach_mirrored_verdicts_and_no_primary_is_overwritten() {
    let (volumes, greetings) = (volumes(), greetings());
    for (own, own_condemns) in &greetings {
        for (peer, peer_condemns) in &greetings {
            for ours in &volumes {
                let ours = HelloVolume {
                    condemned: *own_condemns,
                    ..ours.clone()
                };
                for theirs in &volumes {
                    let theirs = HelloVolume {
                        condemned: *peer_condemns,
                        ..theirs.clone()
                    };
                    let (source, target) = match both_ways((own, &ours), (peer, &theirs)) {
                        Verdict::Source { .. } => ((own, &ours), (peer, &theirs)),
                        Verdict::Target { .. } => ((peer, &theirs), (own, &ours)),
                        Verdict::NoSync | Verdict::NoDisk | Verdict::Refuse(_) => continue,
                    };
                    assert!(
                        target.0.role != Role::Primary || target.1.disk <= DiskState::Outdated,
                        "D7"
                    );
                    assert_eq!(source.1.disk, DiskState::UpToDate);
                    assert_ne!(target.1.condemned, source.1.current);
                }
            }
        }
    }
}

/// Each side has changed something since `OLD`.
fn split() -> (HelloVolume, HelloVolume) {
    (volume(MINE, OLD, 4), volume(YOURS, OLD, 2))
}

#[test]
fn a_split_brain_ends_only_by_an_order() {
    let secondary = hello(Role::Secondary);
    let (ours, theirs) = split();
    let refused = Verdict::Refuse(Conflict::SplitBrain);
    assert_eq!(
        both_ways((&secondary, &ours), (&secondary, &theirs)),
        refused
    );
    let gives_up = Hello {
        discard_my_data: true,
        ..hello(Role::Secondary)
    };
    let verdict = both_ways((&gives_up, &ours), (&secondary, &theirs));
    assert_eq!(verdict, Verdict::Target { full: false });
    let verdict = both_ways((&gives_up, &ours), (&gives_up, &theirs));
    assert_eq!(verdict, refused);
}

#[test]
fn an_order_from_the_other_node_holds_for_the_generation_it_names() {
    let (orders, secondary) = (ordering(), hello(Role::Secondary));
    let (mut ours, theirs) = split();
    ours.condemned = YOURS;
    let verdict = both_ways((&orders, &ours), (&secondary, &theirs));
    assert_eq!(verdict, Verdict::Source { full: false });
    ours.condemned = OLD;
    let verdict = both_ways((&orders, &ours), (&secondary, &theirs));
    assert_eq!(verdict, Verdict::Refuse(Conflict::SplitBrain));
}

#[test]
fn an_order_does_not_outlive_the_tenure_it_was_given_for() {
    let mut promoted_since = hello(Role::Secondary);
    promoted_since.tenure += 1;
    let (mut ours, theirs) = split();
    ours.condemned = YOURS;
    let verdict = both_ways((&ordering(), &ours), (&promoted_since, &theirs));
    assert_eq!(verdict, Verdict::Refuse(Conflict::SplitBrain));
}

#[test]
fn an_order_never_takes_a_primary_s_data() {
    let (orders, primary) = (ordering(), hello(Role::Primary));
    let (mut ours, theirs) = split();
    ours.condemned = YOURS;
    let verdict = both_ways((&orders, &ours), (&primary, &theirs));
    assert_eq!(verdict, Verdict::Refuse(Conflict::PrimaryWouldBeTarget));
}

#[test]
fn an_order_against_the_only_newer_data_is_refused() {
    let secondary = hello(Role::Secondary);
    let ours = HelloVolume {
        condemned: YOURS,
        ..volume(OLD, GenerationId::NONE, 0)
    };
    let theirs = volume(YOURS, OLD, 2);
    let verdict = both_ways((&ordering(), &ours), (&secondary, &theirs));
    assert_eq!(verdict, Verdict::Refuse(Conflict::AgainstOrder));
}

#[test]
fn without_a_common_bitmap_generation_everything_is_copied() {
    let gives_up = Hello {
        discard_my_data: true,
        ..hello(Role::Secondary)
    };
    let secondary = hello(Role::Secondary);
    let (mut ours, theirs) = split();
    ours.bitmap = GenerationId(0x40);
    ours.history = vec![OLD];
    let verdict = both_ways((&gives_up, &ours), (&secondary, &theirs));
    assert_eq!(verdict, Verdict::Target { full: true });
}
