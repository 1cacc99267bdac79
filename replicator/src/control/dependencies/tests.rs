//! Who waits for whom.

use super::*;

fn volume(resource: &str) -> Volume {
    (resource.into(), VolumeNumber(0))
}

fn chain(pairs: &[(&str, &str)]) -> Order {
    let pairs = pairs.iter();
    pairs
        .map(|(one, other)| (volume(one), volume(other)))
        .collect()
}

#[test]
fn a_volume_waits_for_all_it_follows_directly_or_not() {
    let order = chain(&[("c", "b"), ("b", "a")]);
    let waits = |who, busy: &[&str]| {
        let busy = busy.iter().map(|name| volume(name)).collect();
        must_wait(&order, &busy, &volume(who))
    };
    assert!(waits("b", &["a"]));
    assert!(waits("c", &["a"]));
    assert!(waits("c", &["b"]));
    assert!(!waits("c", &["c"]));
    assert!(!waits("a", &["b", "c"]));
    assert!(!waits("b", &["c"]));
    assert!(!waits("d", &["a", "b"]));
}

#[test]
fn a_circle_is_refused_by_name_and_what_leads_into_one_is_not_blamed() {
    assert!(check(&chain(&[("c", "b"), ("b", "a"), ("d", "a")])).is_ok());
    let refused = check(&chain(&[("a", "b"), ("b", "c"), ("c", "a")])).expect_err("a circle");
    assert_eq!(refused.code, RefusalCode::ResyncAfterCycle);
    let said = "each waits for the next: a/0, b/0, c/0, a/0";
    assert_eq!(refused.reason, said);
    let refused = check(&chain(&[("a", "a")])).expect_err("a small one");
    assert_eq!(refused.reason, "each waits for the next: a/0, a/0");
    let refused = check(&chain(&[("a", "c"), ("b", "c"), ("c", "b")])).expect_err("a circle");
    assert_eq!(refused.reason, "each waits for the next: b/0, c/0, b/0");
}
