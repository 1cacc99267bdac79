//! Numbers that cross the wire, and words people see.

use alloc::collections::BTreeSet;
use alloc::string::ToString;

use super::*;
use crate::ids::{GenerationId, NodeId, VolumeNumber};

macro_rules! all_numbers {
    ($type:ident, $count:literal) => {
        let mut words = BTreeSet::new();
        for number in 0..=u8::MAX {
            let state = $type::from_number(number);
            assert_eq!(state.is_some(), number < $count, "{number}");
            let Some(state) = state else { continue };
            assert_eq!(state.number(), number);
            assert_eq!(state.to_string(), state.word());
            assert!(words.insert(state.word()), "{state}");
        }
    };
}

#[test]
fn every_state_has_one_number_and_one_word() {
    all_numbers!(Role, 3);
    all_numbers!(DiskState, 10);
    all_numbers!(ConnectionState, 10);
    all_numbers!(ReplicationState, 13);
}

#[test]
fn what_limits_a_resync_has_a_number_above_zero_and_two_sides() {
    assert_eq!(ResyncLimit::from_number(0), None);
    for number in 1..=5 {
        let limit = ResyncLimit::from_number(number).expect("assigned");
        assert_eq!(limit.number(), number);
        assert_eq!(limit.from_there().from_there(), limit);
    }
    assert_eq!(ResyncLimit::from_number(6), None);
    assert_eq!(ResyncLimit::DiskHere.from_there(), ResyncLimit::DiskOfPeer);
}

#[test]
fn words_are_what_scripts_look_for() {
    assert_eq!(DiskState::UpToDate.word(), "UpToDate");
    assert_eq!(ReplicationState::WFBitMapS.word(), "WFBitMapS");
    assert_eq!(ConnectionState::StandAlone.word(), "StandAlone");
    assert_eq!(alloc::format!("[{:<9}]", Role::Primary), "[Primary  ]");
}

#[test]
fn disk_states_are_ordered_by_what_they_are_good_for() {
    use DiskState::{Consistent, DUnknown, Diskless, Failed, Inconsistent, Outdated, UpToDate};
    let order = [
        Diskless,
        Failed,
        Inconsistent,
        Outdated,
        DUnknown,
        Consistent,
        UpToDate,
    ];
    assert!(order.is_sorted());
}

#[test]
fn identifiers_read_as_numbers_and_in_logs_say_what_they_are() {
    let node = NodeId(3);
    let volume = VolumeNumber(65534);
    let generation = GenerationId(0xA1_0000_0000_00BC);
    assert_eq!(alloc::format!("{node} {volume}"), "3 65534");
    assert_eq!(
        alloc::format!("{node:?}, {volume:?}"),
        "node 3, volume 65534"
    );
    assert_eq!(generation.to_string(), "00A10000000000BC");
    assert_eq!(alloc::format!("{generation:?}"), "00A10000000000BC");
}
