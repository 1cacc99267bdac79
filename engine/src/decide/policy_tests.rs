//! The policies for a split brain: over every pair of greetings from a small world, and one by one.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::policy::{SplitPolicies, WithOnePrimary, WithTwoPrimaries, WithoutPrimary};

use super::tests::{doubled, greeting, is_in_use, mirrored, sides};
use super::*;

const OLDER: u64 = 10;
const COMMON: u64 = 11;

/// Every set of policies.
fn all_policies() -> Vec<SplitPolicies> {
    let mut all = Vec::new();
    for without_primary in WithoutPrimary::ALL.iter().copied() {
        for with_one_primary in WithOnePrimary::ALL.iter().copied() {
            for with_two_primaries in WithTwoPrimaries::ALL.iter().copied() {
                for always in [false, true] {
                    all.push(SplitPolicies {
                        without_primary,
                        with_one_primary,
                        with_two_primaries,
                        always,
                    });
                }
            }
        }
    }
    all
}

/// Every greeting of a node that has changes since `COMMON`, or since before it, under its own
/// generation.
fn changed(current: u64) -> Vec<Hello> {
    let mut all = vec![
        greeting(current, COMMON, &[COMMON, OLDER], DiskState::UpToDate),
        greeting(current, OLDER, &[OLDER], DiskState::UpToDate),
        greeting(current, COMMON, &[COMMON, OLDER], DiskState::Inconsistent),
        greeting(current, COMMON, &[COMMON, OLDER], DiskState::Outdated),
    ];
    doubled(&mut all, |hello| hello.role = Role::Primary);
    doubled(&mut all, |hello| hello.discard_my_data = true);
    doubled(&mut all, |hello| hello.volumes[0].was_primary = true);
    let mut counted = Vec::new();
    for dirty_blocks in [0, 2, 3] {
        let mut some = all.clone();
        for hello in &mut some {
            hello.volumes[0].dirty_blocks = dirty_blocks;
        }
        counted.append(&mut some);
    }
    counted
}

fn told(hello: &Hello, policies: SplitPolicies) -> Hello {
    Hello {
        policies,
        ..hello.clone()
    }
}

/// Calls `check` with every pair, both told the same policies, and with one told other ones.
fn for_all_pairs(mut check: impl FnMut(Side<'_>, Side<'_>, Verdict)) -> u64 {
    let (ours, theirs) = (changed(20), changed(21));
    let mut pairs = 0;
    for policies in all_policies() {
        let other = SplitPolicies {
            always: !policies.always,
            ..policies
        };
        for one in &ours {
            let one = told(one, policies);
            for theirs_told in [policies.seen_from_peer(), other] {
                for another in &theirs {
                    let another = told(another, theirs_told);
                    let (own, peer) = sides(&one, &another);
                    check(own, peer, decide(own, peer));
                    pairs += 1;
                }
            }
        }
    }
    pairs
}

#[test]
fn policies_lead_to_mirrored_verdicts_and_never_overwrite_a_primary() {
    let mut resolved = 0_u64;
    let pairs = for_all_pairs(|own, peer, verdict| {
        assert_eq!(decide(peer, own), mirrored(verdict), "D1: {own:?} {peer:?}");
        let (source, target) = match verdict {
            Verdict::Source { .. } => (own, peer),
            Verdict::Target { .. } => (peer, own),
            Verdict::NoSync | Verdict::NoDisk | Verdict::Refuse(_) => return,
        };
        assert!(!is_in_use(target), "D7: {own:?} {peer:?}");
        assert!(source.volume.disk > DiskState::Inconsistent, "S6");
        resolved += 1;
    });
    assert!(pairs >= 1_000_000, "{pairs} pairs");
    assert!(resolved > pairs / 20, "{resolved} of {pairs}");
}

#[test]
fn nothing_is_copied_without_an_order_or_the_same_policy_on_both_nodes() {
    for_all_pairs(|own, peer, verdict| {
        let (source, target) = match verdict {
            Verdict::Source { .. } => (own, peer),
            Verdict::Target { .. } => (peer, own),
            Verdict::NoSync | Verdict::NoDisk | Verdict::Refuse(_) => return,
        };
        let ordered = target.hello.discard_my_data && !source.hello.discard_my_data;
        let torn = target.volume.disk == DiskState::Inconsistent;
        let policies = target.hello.policies;
        let same = policies == source.hello.policies.seen_from_peer();
        let some = match source.hello.role {
            Role::Primary => policies.with_one_primary != WithOnePrimary::Disconnect,
            Role::Secondary | Role::Unknown => {
                policies.without_primary != WithoutPrimary::Disconnect
            }
        };
        let exact = count_from_the_same(own.volume, peer.volume);
        let behind = source.volume.disk == DiskState::Outdated;
        let allowed = same && some && !behind && (exact || policies.always);
        assert!(ordered || torn || allowed, "D2: {own:?} {peer:?}");
    });
}

#[test]
fn only_what_both_count_from_the_same_generation_is_copied_by_bitmap() {
    for_all_pairs(|own, peer, verdict| {
        if let Verdict::Source { full: false } | Verdict::Target { full: false } = verdict {
            assert!(count_from_the_same(own.volume, peer.volume), "D4");
        }
    });
}

#[test]
fn a_side_loses_as_unchanged_only_if_it_is_known_to_have_changed_nothing() {
    let policies = without(WithoutPrimary::DiscardZeroChanges);
    for_all_pairs(|own, peer, verdict| {
        let (source, target) = match verdict {
            Verdict::Source { .. } => (own, peer),
            Verdict::Target { .. } => (peer, own),
            Verdict::NoSync | Verdict::NoDisk | Verdict::Refuse(_) => return,
        };
        let orders = target.hello.discard_my_data || source.hello.discard_my_data;
        let torn = target.volume.disk == DiskState::Inconsistent;
        let both_secondary = source.hello.role != Role::Primary;
        if target.hello.policies.without_primary == policies.without_primary
            && both_secondary
            && !orders
            && !torn
        {
            assert_eq!(target.volume.dirty_blocks, 0);
            assert_eq!(target.volume.bitmap, source.volume.bitmap);
        }
    });
}

fn without(without_primary: WithoutPrimary) -> SplitPolicies {
    SplitPolicies {
        without_primary,
        ..SplitPolicies::default()
    }
}

/// The verdict when both have changed this many blocks and both were told these policies.
fn meet(policies: SplitPolicies, ours: (u64, Role), theirs: (u64, Role)) -> Verdict {
    let mut one = told(
        &greeting(20, COMMON, &[COMMON], DiskState::UpToDate),
        policies,
    );
    let mut other = told(
        &greeting(21, COMMON, &[COMMON], DiskState::UpToDate),
        policies.seen_from_peer(),
    );
    (one.volumes[0].dirty_blocks, one.role) = ours;
    (other.volumes[0].dirty_blocks, other.role) = theirs;
    let (own, peer) = sides(&one, &other);
    decide(own, peer)
}

const PRIMARY: Role = Role::Primary;
const SECONDARY: Role = Role::Secondary;
const SOURCE: Verdict = Verdict::Source { full: false };
const TARGET: Verdict = Verdict::Target { full: false };
const UNRESOLVED: Verdict = Verdict::Refuse(Conflict::SplitBrain);

#[test]
fn without_a_primary_each_policy_picks_its_loser() {
    let two = |policy, ours, theirs| meet(without(policy), (ours, SECONDARY), (theirs, SECONDARY));
    assert_eq!(two(WithoutPrimary::Disconnect, 0, 9), UNRESOLVED);
    assert_eq!(two(WithoutPrimary::DiscardLocal, 9, 9), TARGET);
    assert_eq!(two(WithoutPrimary::DiscardRemote, 9, 9), SOURCE);
    assert_eq!(two(WithoutPrimary::DiscardZeroChanges, 0, 9), TARGET);
    assert_eq!(two(WithoutPrimary::DiscardZeroChanges, 9, 0), SOURCE);
    assert_eq!(two(WithoutPrimary::DiscardZeroChanges, 1, 9), UNRESOLVED);
    assert_eq!(two(WithoutPrimary::DiscardLeastChanges, 1, 9), TARGET);
    assert_eq!(two(WithoutPrimary::DiscardLeastChanges, 9, 1), SOURCE);
    // Nothing tells them apart: the lower node number is kept.
    assert_eq!(two(WithoutPrimary::DiscardLeastChanges, 9, 9), SOURCE);
    assert_eq!(two(WithoutPrimary::DiscardZeroChanges, 0, 0), SOURCE);
    assert_eq!(two(WithoutPrimary::DiscardYoungerPrimary, 1, 9), TARGET);
    assert_eq!(two(WithoutPrimary::DiscardOlderPrimary, 9, 1), SOURCE);
}

#[test]
fn the_older_primary_is_the_node_that_was_primary_when_the_split_began() {
    for (policy, verdict) in [
        (WithoutPrimary::DiscardYoungerPrimary, SOURCE),
        (WithoutPrimary::DiscardOlderPrimary, TARGET),
    ] {
        let mut one = greeting(20, COMMON, &[COMMON], DiskState::UpToDate);
        one.volumes[0].was_primary = true;
        let other = greeting(21, COMMON, &[COMMON], DiskState::UpToDate);
        let (one, other) = (told(&one, without(policy)), told(&other, without(policy)));
        let (own, peer) = sides(&one, &other);
        assert_eq!(decide(own, peer), verdict, "{policy:?}");
    }
}

#[test]
fn with_one_primary_only_the_secondary_can_lose() {
    let one = |with_one_primary, ours, theirs| {
        let policies = SplitPolicies {
            with_one_primary,
            ..without(WithoutPrimary::DiscardLeastChanges)
        };
        meet(policies, (ours, PRIMARY), (theirs, SECONDARY))
    };
    assert_eq!(one(WithOnePrimary::Disconnect, 9, 1), UNRESOLVED);
    assert_eq!(one(WithOnePrimary::Consensus, 9, 1), SOURCE);
    assert_eq!(one(WithOnePrimary::Consensus, 1, 9), UNRESOLVED);
    assert_eq!(one(WithOnePrimary::DiscardSecondary, 1, 9), SOURCE);
    assert_eq!(one(WithOnePrimary::CallPrimaryLost, 9, 1), SOURCE);
    let loses = Verdict::Refuse(Conflict::OwnPrimaryLoses);
    assert_eq!(one(WithOnePrimary::CallPrimaryLost, 1, 9), loses);
}

#[test]
fn of_two_primaries_none_is_overwritten() {
    let two = |with_two_primaries, ours, theirs| {
        let policies = SplitPolicies {
            with_two_primaries,
            ..without(WithoutPrimary::DiscardLeastChanges)
        };
        meet(policies, (ours, PRIMARY), (theirs, PRIMARY))
    };
    let refused = Verdict::Refuse(Conflict::TwoPrimaries);
    assert_eq!(two(WithTwoPrimaries::Disconnect, 1, 9), refused);
    let call = WithTwoPrimaries::CallPrimaryLost;
    let loses = |conflict| Verdict::Refuse(conflict);
    assert_eq!(two(call, 1, 9), loses(Conflict::OwnPrimaryLoses));
    assert_eq!(two(call, 9, 1), loses(Conflict::PeerPrimaryLoses));
}

#[test]
fn data_known_to_be_behind_is_not_kept_by_a_policy() {
    let policies = without(WithoutPrimary::DiscardRemote);
    let outdated = greeting(20, COMMON, &[COMMON], DiskState::Outdated);
    let other = greeting(21, COMMON, &[COMMON], DiskState::UpToDate);
    let (one, other) = (
        told(&outdated, policies),
        told(&other, policies.seen_from_peer()),
    );
    let (own, peer) = sides(&one, &other);
    assert_eq!(decide(own, peer), UNRESOLVED);
}

#[test]
fn policies_that_differ_decide_nothing() {
    let one = told(
        &greeting(20, COMMON, &[COMMON], DiskState::UpToDate),
        without(WithoutPrimary::DiscardLocal),
    );
    // Each says "mine": read from one side, that is two different things.
    let other = told(
        &greeting(21, COMMON, &[COMMON], DiskState::UpToDate),
        without(WithoutPrimary::DiscardLocal),
    );
    let (own, peer) = sides(&one, &other);
    let refused = Verdict::Refuse(Conflict::PoliciesDiffer);
    assert_eq!(decide(own, peer), refused);
}

#[test]
fn a_split_found_in_the_history_needs_leave_and_copies_everything() {
    for (always, verdict) in [(false, UNRESOLVED), (true, Verdict::Target { full: true })] {
        let policies = SplitPolicies {
            always,
            ..without(WithoutPrimary::DiscardLocal)
        };
        let one = greeting(20, COMMON, &[COMMON, OLDER], DiskState::UpToDate);
        let other = greeting(21, OLDER, &[OLDER], DiskState::UpToDate);
        let (one, other) = (
            told(&one, policies),
            told(&other, policies.seen_from_peer()),
        );
        let (own, peer) = sides(&one, &other);
        assert_eq!(decide(own, peer), verdict);
    }
}

#[test]
fn an_order_counts_before_a_policy() {
    let policies = without(WithoutPrimary::DiscardRemote);
    let mut one = told(
        &greeting(20, COMMON, &[COMMON], DiskState::UpToDate),
        policies,
    );
    one.discard_my_data = true;
    let other = greeting(21, COMMON, &[COMMON], DiskState::UpToDate);
    let other = told(&other, policies.seen_from_peer());
    let (own, peer) = sides(&one, &other);
    assert_eq!(decide(own, peer), TARGET);
}
