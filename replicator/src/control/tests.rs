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
