//! Small facts of the control plane.

use super::system;

#[test]
fn a_jittered_pause_stays_within_a_seventh() {
    for _ in 0..1000 {
        let pause = system::jittered(7000);
        assert!((6000..=8000).contains(&pause), "{pause}");
    }
    assert_eq!(system::jittered(0), 0);
}

#[test]
fn this_boot_has_an_identity_that_stays() {
    assert_ne!(system::seed().boot, 0);
    assert_eq!(system::seed().boot, system::seed().boot);
}

#[test]
fn a_boot_nobody_names_is_never_taken_for_an_earlier_one() {
    let named = "8e1a2f64-0000-4000-8000-00000000000a\n";
    let number = 0x8e1a_2f64_0000_4000_8000_0000_0000_000a;
    assert_eq!(system::boot_named(Some(named)), number);
    for unknown in [None, Some(""), Some("no number"), Some("0")] {
        let first = system::boot_named(unknown);
        // A fresh superblock has 0.
        assert!(
            first != 0 && first != system::boot_named(unknown),
            "{unknown:?}"
        );
    }
}
