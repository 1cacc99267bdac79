//! The order to end a split brain: for what it holds, and for what not.

use rbd_protocol::control::{Divergence, RefusalCode, Shown};
use rbd_protocol::ids::NodeId;
use rbd_protocol::state::{ConnectionState, ReplicationState, Role};

use super::split_brain::{
    OWN, TENURE, THEIRS, changed, changed_too, divergence, resolve, shown, split, unchanged,
};
use super::{Bench, config};
use crate::{Command, LinkLoss};

fn replication(bench: &Bench) -> ReplicationState {
    bench.connection().peer_devices[0].replication_state
}

#[test]
fn an_order_to_keep_the_own_data_makes_this_node_the_source() {
    let mut bench = split();
    let seen = shown(&bench);
    let call = resolve(&mut bench, true, seen);
    assert_eq!(bench.reply(call), Some(true));
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connecting
    );
    bench.meet(changed_too);
    let condemned = bench.greeting();
    assert_eq!(condemned.volumes[0].condemned, THEIRS);
    assert_eq!(condemned.condemned_tenure, TENURE);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapS);
}

#[test]
fn an_order_to_keep_the_peers_data_makes_this_node_the_target() {
    let mut bench = split();
    let seen = shown(&bench);
    resolve(&mut bench, false, seen);
    bench.meet(changed_too);
    assert!(bench.greeting().discard_my_data);
    assert_eq!(replication(&bench), ReplicationState::WFBitMapT);
}

#[test]
fn an_order_holds_only_for_what_was_shown() {
    let mut bench = split();
    let mut seen = shown(&bench);
    seen.tenure += 1;
    let call = resolve(&mut bench, true, seen);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateConcurrent);
    // And the peer must still be what it was when the order is carried out.
    let seen = shown(&bench);
    resolve(&mut bench, true, seen);
    bench.meet(|hello| {
        changed_too(hello);
        hello.tenure = TENURE + 1;
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    bench.meet(changed_too);
    assert_eq!(
        bench.close_dropped(),
        Some(LinkLoss::Refused),
        "the order has lapsed with the handshake that knew of it"
    );
}

#[test]
fn an_order_lapses_when_nobody_comes() {
    let mut bench = split();
    let seen = shown(&bench);
    resolve(&mut bench, true, seen);
    bench.wait_ms(31_000);
    bench.meet(changed_too);
    assert!(bench.greeting().volumes[0].condemned.is_none());
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
}

#[test]
fn an_order_needs_a_split_brain() {
    let nothing = Shown {
        own_tenure: 0,
        tenure: 0,
        generations: alloc::vec![],
    };
    let mut bench = Bench::in_sync();
    let call = resolve(&mut bench, true, nothing.clone());
    let refusal = bench.refusal(call);
    assert!(refusal.reason.contains("no split brain"), "{refusal:?}");
    let call = bench.command(Command::Resolve {
        peer: NodeId(9),
        keep_own: true,
        shown: nothing,
        saved: alloc::vec![],
    });
    assert_eq!(bench.refusal(call).code, RefusalCode::InvalidRequest);
}

#[test]
fn an_order_against_the_only_newer_data_is_refused() {
    // The peer is Primary on older data: not joined, but no split brain either.
    let mut bench = changed(config());
    bench.meet(|hello| {
        unchanged(hello);
        hello.role = Role::Primary;
    });
    bench.close_dropped();
    assert_eq!(divergence(&bench), Some(Divergence::Own));
    let seen = shown(&bench);
    let call = resolve(&mut bench, false, seen.clone());
    assert!(bench.refusal(call).reason.contains("no split brain"));
    let call = resolve(&mut bench, true, seen);
    assert_eq!(bench.refusal(call).code, RefusalCode::StateRefusedByPeer);
}

#[test]
fn an_order_that_the_newer_data_speaks_against_is_not_carried_out() {
    let mut bench = changed(config());
    bench.meet(|hello| {
        // What is handed over to be changed is this node's own greeting.
        let own_tenure = hello.tenure;
        unchanged(hello);
        // Given on the peer, for the generation this node has now.
        hello.volumes[0].condemned = OWN;
        hello.condemned_tenure = own_tenure;
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Refused));
    assert!(bench.connection().note.contains("has the newer data"));
    assert!(
        bench
            .connection()
            .refused
            .is_some_and(|refused| refused.was_ordered)
    );
}

#[test]
fn a_primary_does_not_give_up_its_data_to_an_order() {
    let mut bench = changed(config());
    bench.command(Command::Promote { force: true });
    bench.write_metadata();
    assert_eq!(bench.engine.role(), Role::Primary);
    bench.meet(changed_too);
    bench.close_dropped();
    let seen = shown(&bench);
    let call = resolve(&mut bench, false, seen.clone());
    assert_eq!(bench.refusal(call).code, RefusalCode::DiscardWhilePrimary);
    let call = resolve(&mut bench, true, seen);
    assert_eq!(bench.reply(call), Some(true));
}
