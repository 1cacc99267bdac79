//! What is ordered of the lab, and what its guests are started with.

use std::path::Path;

use super::guest::arguments;
use super::machine::counter_rate;
use super::{Order, pair, parse, too_old};

#[test]
fn orders_are_read_and_others_refused() {
    let read = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        parse(&words)
    };
    assert_eq!(read(&["up"]), Ok(Order::Up));
    assert_eq!(read(&["down"]), Ok(Order::Down));
    assert_eq!(read(&["test"]), Ok(Order::Test(Vec::new())));
    let named = Order::Test(vec!["a".to_owned(), "b".to_owned()]);
    assert_eq!(read(&["test", "a", "b"]), Ok(named));
    for wrong in [&[][..], &["up", "now"], &["sideways"]] {
        assert!(read(wrong).is_err(), "{wrong:?}");
    }
}

#[test]
fn an_emulator_that_cannot_do_it_is_told_before_anything_is_begun() {
    let says = |version: &str| too_old(&format!("QEMU emulator version {version}\nCopyright"));
    assert_eq!(says("10.0.2 (Debian 1:10.0.2+ds-2)"), None);
    assert_eq!(says("9.2.0"), None);
    for version in ["7.2.22 (Debian 1:7.2)", "9.1.5", "", "of its own"] {
        let complaint = says(version).unwrap_or_else(|| panic!("{version} is taken"));
        assert!(complaint.starts_with("needs QEMU 9.2 "), "{complaint}");
    }
    let known = says("7.2.22 (Debian 1:7.2)").unwrap_or_default();
    assert!(known.contains("this is \"7.2.22\""), "{known}");
}

#[test]
fn a_guest_has_no_network_and_keeps_nothing_on_its_root() {
    let words = arguments(Path::new("/cache"), Path::new("/share"), "some-test").join(" ");
    assert!(words.contains("-nic none"), "{words}");
    let root = "file=/cache/root.img,if=none,id=root,format=raw,snapshot=on";
    assert!(words.contains(root), "{words}");
    assert!(words.contains("path=/share,"), "{words}");
    assert!(words.contains("lab.test=some-test "), "{words}");
}

#[test]
fn two_machines_share_networks_and_no_disk() {
    let words = |name| {
        let share = Path::new("/share");
        pair::arguments(Path::new("/cache"), share, name, &pair::LOSSY).join(" ")
    };
    let (alice, bob) = (words("alice"), words("bob"));
    for network in ["cluster", "mirror"] {
        let back = |end| format!("stream,id={network},{end},addr.type=unix");
        assert!(alice.contains(&back("server=on")), "{alice}");
        assert!(bob.contains(&back("server=off,reconnect-ms=500")), "{bob}");
    }
    for disk in ["data", "state"] {
        assert!(alice.contains(&format!("file=alice.disks/{disk},")));
        assert!(bob.contains(&format!("file=bob.disks/{disk},")), "{bob}");
    }
    // What a guest flushes has to get to the disk, and nothing else.
    assert!(!bob.contains("cache=unsafe") && !bob.contains("lab.test="));
}

#[test]
fn a_test_that_wants_two_machines_says_so_in_a_line() {
    assert!(pair::is_wanted("#!/bin/bash\n# On two machines.\n"));
    assert!(!pair::is_wanted("#!/bin/bash\n# Not on two machines.\n"));
}

#[test]
fn a_guest_is_told_its_clock_where_that_is_known() {
    let cpuinfo =
        |flags: &str| format!("cpu MHz\t\t: 2596.122\nflags\t\t: fpu {flags}\ncpu MHz\t: 1.000\n");
    let told = counter_rate(&cpuinfo("constant_tsc hypervisor"));
    assert_eq!(told, " tsc_early_khz=2596122");
    // The speed of a real processor changes, that of its counter does not.
    assert_eq!(counter_rate(&cpuinfo("constant_tsc")), "");
    assert_eq!(counter_rate(""), "");
}
