//! Who may talk to whom about what, and what each is told if not.

use super::*;

fn outcome_of(change: impl FnOnce(&mut Call), secret: Option<&'static str>) -> Outcome {
    let mut call = call();
    change(&mut call);
    talk(call, secret, &host(secret), None, untouched)
}

#[test]
fn another_resource_is_refused() {
    for secret in [None, Some("s")] {
        let outcome = outcome_of(|call| call.resource = name("r1"), secret);
        assert_eq!(outcome.dialer, refused(Reason::UnknownResource));
        let (reason, text) = declined_as(&outcome.acceptor).unwrap();
        assert_eq!(reason, Reason::UnknownResource);
        assert_eq!(text, "alpha wants resource r1, this address serves r0");
    }
}

#[test]
fn another_receiver_is_refused() {
    for secret in [None, Some("s")] {
        let outcome = outcome_of(|call| call.peer_name = name("gamma"), secret);
        assert_eq!(outcome.dialer, refused(Reason::WrongReceiver));
        let (_, text) = declined_as(&outcome.acceptor).unwrap();
        assert_eq!(text, "alpha wants to talk to gamma, this is beta");
    }
}

#[test]
fn an_unknown_node_is_refused() {
    for secret in [None, Some("s")] {
        let outcome = outcome_of(|call| call.node_name = name("gamma"), secret);
        assert_eq!(outcome.dialer, refused(Reason::UnknownPeer));
        let (_, text) = declined_as(&outcome.acceptor).unwrap();
        assert_eq!(text, "gamma is not a peer of resource r0");
    }
}

#[test]
fn a_node_that_calls_itself_is_refused() {
    let outcome = outcome_of(|call| call.node_name = name("beta"), None);
    assert_eq!(outcome.dialer, refused(Reason::UnknownPeer));
}

#[test]
fn a_differing_node_id_is_refused_at_either_end() {
    let outcome = outcome_of(|call| call.node_id = NodeId(5), None);
    assert_eq!(outcome.dialer, refused(Reason::NodeIdDiffers));
    let (_, text) = declined_as(&outcome.acceptor).unwrap();
    assert_eq!(
        text,
        "alpha says its node-id is 5, the configuration here says 0"
    );

    let outcome = outcome_of(|call| call.peer_id = NodeId(5), None);
    let (_, text) = declined_as(&outcome.dialer).unwrap();
    assert_eq!(
        text,
        "beta says its node-id is 1, the configuration here says 5"
    );
    assert_eq!(outcome.acceptor, refused(Reason::NodeIdDiffers));
}

#[test]
fn versions_that_do_not_meet_are_refused_at_both_ends() {
    let newer = |number, bytes: Vec<u8>| {
        if number == 0 {
            rewrite(&bytes, |preamble| preamble.versions = (7, 9))
        } else {
            bytes
        }
    };
    let outcome = talk(call(), None, &host(None), None, newer);
    assert_eq!(outcome.dialer, refused(Reason::NoCommonVersion));
    let (reason, text) = declined_as(&outcome.acceptor).unwrap();
    assert_eq!(reason, Reason::NoCommonVersion);
    assert_eq!(
        text,
        "alpha speaks protocol versions 7 to 9, this node 1 to 1"
    );
}

#[test]
fn a_feature_insisted_on_and_missing_is_refused() {
    let insists = |number, bytes: Vec<u8>| {
        if number == 0 {
            rewrite(&bytes, |preamble| preamble.required_features = 1 << 63)
        } else {
            bytes
        }
    };
    let outcome = talk(call(), None, &host(None), None, insists);
    assert_eq!(outcome.dialer, refused(Reason::FeatureMissing));
}

#[test]
fn features_only_one_end_knows_are_not_agreed_on() {
    let offers = |_, bytes: Vec<u8>| match bytes[4..6] {
        [0, 1] => rewrite(&bytes, |preamble| preamble.features = u64::MAX),
        _ => bytes,
    };
    let outcome = talk(call(), None, &host(None), None, offers);
    assert_eq!(outcome.dialer.unwrap().features, FEATURES);
    assert_eq!(outcome.acceptor.unwrap().features, FEATURES);
}

#[test]
fn each_peer_has_a_secret_of_its_own() {
    let mut host = host(Some("s"));
    for (name, node_id, secret) in [("delta", 3, Some("t")), ("gamma", 2, None)] {
        let node_id = NodeId(node_id);
        let secret = secret.map(TestSecret);
        let name = name.to_string();
        host.peers.push(HostPeer {
            name,
            node_id,
            secret,
        });
    }
    for peer in &host.peers {
        let mut call = call();
        call.node_name.clone_from(&peer.name);
        call.node_id = peer.node_id;
        for secret in [Some("s"), Some("t"), None] {
            let outcome = talk(call.clone(), secret, &host, None, untouched);
            let is_its_own = peer.secret.as_ref().map(|secret| secret.0) == secret;
            assert_eq!(
                outcome.dialer.is_ok(),
                is_its_own,
                "{} {secret:?}",
                peer.name
            );
            assert_eq!(outcome.acceptor.is_ok(), is_its_own);
        }
    }
}

#[test]
fn only_a_busy_peer_and_a_link_that_is_gone_pass_by_themselves() {
    for number in 1..=12 {
        let mut body = vec![0, number];
        body.extend_from_slice(b"why");
        let GreetingError::Refused { reason, .. } = refusal::decode(&body) else {
            panic!("{number}");
        };
        assert_eq!(reason.number(), u16::from(number));
        assert_eq!(reason.is_passing(), [10, 11].contains(&number), "{reason}");
    }
}

#[test]
fn a_stranger_cannot_tell_which_name_was_wrong() {
    // With a secret configured and not known to the caller, every wrong name gives the same
    // messages: an echo of what the caller said, then the general refusal.
    let changes: [fn(&mut Call); 4] = [
        |_| {},
        |call| call.resource = name("r1"),
        |call| call.peer_name = name("beth"),
        |call| call.node_name = name("alphb"),
    ];
    for change in changes {
        let mut call = call();
        change(&mut call);
        let outcome = talk(
            call.clone(),
            Some("guess"),
            &host(Some("s")),
            None,
            untouched,
        );
        assert_eq!(outcome.dialer, refused(Reason::NotAuthenticated));
        assert_eq!(outcome.wire.len(), 4);
        let echo = rewrite(&outcome.wire[1], |preamble| {
            assert_eq!(preamble.resource, call.resource);
            assert_eq!(preamble.sender, call.peer_name);
            assert_eq!(preamble.receiver, call.node_name);
        });
        assert_eq!(echo, outcome.wire[1]);
    }
}
