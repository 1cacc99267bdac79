//! `connect --tentative`: what a connection would do, without doing it.

use rbd_protocol::control::RefusalCode;
use rbd_protocol::ids::GenerationId;
use rbd_protocol::peer::Hello;
use rbd_protocol::policy::{ResyncConflict, SplitPolicies};
use rbd_protocol::state::{ConnectionState, DiskState};

use super::split_brain::{changed, changed_too, told};
use super::{Bench, GENERATION, config, image};
use crate::{CallId, Command, LinkLoss};

fn ask(bench: &mut Bench) -> CallId {
    bench.command(Command::Connect {
        peer: None,
        discard_my_data: false,
        tentative: true,
    })
}

/// What would come of a connection to a peer that greets like this.
fn forecast(
    image: rbd_protocol::metadata::Image,
    peer: impl FnOnce(&mut Hello),
) -> alloc::string::String {
    let mut bench = Bench::bare(config());
    bench.attach(image);
    let call = ask(&mut bench);
    assert_eq!(bench.reply(call), Some(true));
    let before = (bench.disk_state(), bench.generation());
    bench.meet(|hello| {
        assert!(hello.tentative);
        hello.tentative = false;
        peer(hello);
    });
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    assert_eq!((bench.disk_state(), bench.generation()), before);
    let connection = bench.connection();
    assert_eq!(connection.connection_state, ConnectionState::StandAlone);
    assert_eq!(connection.refused, None);
    connection.tentative.expect("there is an answer")
}

#[test]
fn it_tells_who_would_be_copied_to_whom() {
    assert_eq!(forecast(image(), |_| {}), "volume 0: no resync");
    let behind = forecast(image(), |hello| {
        hello.volumes[0].current = GenerationId(0x2000);
        hello.volumes[0].bitmap = GENERATION;
        hello.volumes[0].disk = DiskState::UpToDate;
    });
    assert_eq!(
        behind,
        "volume 0: would become SyncTarget, what is marked would be copied, on this node 0 bytes"
    );
    let fresh = forecast(image(), |hello| {
        hello.volumes[0].current = GenerationId::JUST_CREATED;
        hello.volumes[0].disk = DiskState::Inconsistent;
    });
    assert_eq!(
        fresh,
        "volume 0: would become SyncSource, everything would be copied"
    );
    let diskless = forecast(image(), |hello| {
        hello.volumes[0].disk = DiskState::Diskless;
    });
    assert_eq!(diskless, "volume 0: a node has no disk, nothing is copied");
    let unrelated = forecast(image(), |hello| {
        hello.volumes[0].current = GenerationId(0x9999);
        hello.volumes[0].disk = DiskState::UpToDate;
    });
    assert_eq!(unrelated, "Unrelated data, aborting!");
}

#[test]
fn a_connection_that_is_wanted_is_not_turned_into_a_question() {
    let mut bench = Bench::alone(config(), image());
    let call = ask(&mut bench);
    let refusal = bench.refusal(call);
    assert_eq!(refusal.code, RefusalCode::InvalidRequest);
    assert!(refusal.help.contains("disconnect"), "{refusal:?}");
    bench.meet(|hello| assert!(!hello.tentative));
    assert_eq!(
        bench.connection().connection_state,
        ConnectionState::Connected
    );
}

#[test]
fn a_refused_connection_stays_refused_and_no_handler_is_called_again() {
    let mut bench = changed(told(SplitPolicies::default(), ResyncConflict::Disconnect));
    bench.meet(changed_too);
    bench.close_dropped();
    let call = ask(&mut bench);
    assert_eq!(bench.reply(call), Some(true));
    bench.meet(|hello| {
        changed_too(hello);
        hello.tentative = false;
    });
    assert_eq!(bench.handlers(), []);
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Commanded));
    let connection = bench.connection();
    assert!(connection.refused.is_some());
    let told = connection.tentative.expect("there is an answer");
    assert!(told.contains("Split-Brain detected"), "{told}");
    // The next handshake is meant again.
    bench.meet(|hello| assert!(!hello.tentative));
}

#[test]
fn a_peer_that_only_asks_is_told_goodbye_and_nothing_happens_here() {
    let mut bench = Bench::alone(config(), image());
    bench.meet(|hello| hello.tentative = true);
    let told = bench.reports();
    let said = told
        .iter()
        .any(|text| text.contains("the peer asked what a connection would do"));
    assert!(said, "{told:?}");
    assert_eq!(bench.close_dropped(), Some(LinkLoss::Goodbye));
    assert_eq!(bench.disk_state(), DiskState::Consistent);
    assert_eq!(bench.connection().tentative, None);
    bench.meet(|_| {});
    assert_eq!(
        bench.disk_state(),
        DiskState::UpToDate,
        "it is still wanted"
    );
}
