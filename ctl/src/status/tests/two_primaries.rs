//! What is shown where both nodes may be Primary.

use rbd_protocol::control::TwoPrimaries;

use super::super::advice::advice;
use super::super::document;
use super::super::explain::explain;
use super::super::sample::healthy;

#[test]
fn two_primaries_with_fencing_and_an_agreement_are_healthy() {
    let mut status = healthy();
    status.connections[0].two_primaries = TwoPrimaries {
        is_configured: true,
        is_agreed: true,
        is_unfenced: false,
        migration_ms: None,
    };
    assert!(advice(&status).is_empty());
}

#[test]
fn the_override_of_fencing_shows_for_as_long_as_it_is_in_force() {
    let mut status = healthy();
    status.connections[0].two_primaries = TwoPrimaries {
        is_configured: true,
        is_agreed: true,
        is_unfenced: true,
        migration_ms: None,
    };
    let lines = advice(&status);
    assert!(
        lines[0].starts_with("beta two Primaries: allow-two-primaries-without-fencing is set"),
        "{lines:?}"
    );
    let text = explain(&status).join("\n");
    assert!(text.contains("each goes on alone"), "{text}");
    let json = serde_json::to_value(document(&[status])).unwrap();
    let connection = &json["resources"][0]["connections"][0];
    assert_eq!(connection["two-primaries-without-fencing"], true);
    assert_eq!(connection["allow-two-primaries"], true);
}

#[test]
fn a_peer_that_has_not_been_told_of_two_primaries_shows() {
    let mut status = healthy();
    status.connections[0].two_primaries.is_configured = true;
    let lines = advice(&status);
    assert!(lines[0].contains("on beta: rbdadm adjust r0"), "{lines:?}");
}

#[test]
fn a_migration_that_is_overdue_says_what_to_do() {
    let mut status = healthy();
    for (left, is_overdue) in [(Some(1), false), (Some(0), true), (None, false)] {
        status.connections[0].two_primaries.migration_ms = left;
        let lines = advice(&status);
        let told = lines
            .iter()
            .any(|line| line.contains("both nodes are in use"));
        assert_eq!(told, is_overdue, "{lines:?}");
    }
}
