//! Numbers that cross the wire, words of the configuration, and the view from the other node.

use super::*;

macro_rules! all_words {
    ($type:ident) => {
        for policy in $type::ALL {
            assert_eq!($type::from_number(policy.number()), Some(*policy));
            assert_eq!($type::from_word(policy.word()), Some(*policy));
        }
        assert_eq!($type::from_word("violently-as0p"), None);
        assert_eq!($type::from_number(u8::MAX), None);
    };
}

#[test]
fn every_policy_has_one_number_and_one_word() {
    all_words!(WithoutPrimary);
    all_words!(WithOnePrimary);
    all_words!(WithTwoPrimaries);
    all_words!(ResyncConflict);
}

#[test]
fn a_person_decides_unless_something_was_configured() {
    assert!(SplitPolicies::default().is_default());
    let always = SplitPolicies {
        always: true,
        ..SplitPolicies::default()
    };
    assert!(!always.is_default());
}

#[test]
fn local_and_remote_change_places_on_the_other_node() {
    for without_primary in WithoutPrimary::ALL.iter().copied() {
        let policies = SplitPolicies {
            without_primary,
            ..SplitPolicies::default()
        };
        let seen = policies.seen_from_peer();
        assert_eq!(seen.seen_from_peer(), policies);
        let is_one_sided = matches!(
            without_primary,
            WithoutPrimary::DiscardLocal | WithoutPrimary::DiscardRemote
        );
        assert_eq!(seen != policies, is_one_sided, "{without_primary:?}");
    }
}
