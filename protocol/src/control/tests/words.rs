//! Numbers, words and texts for people and scripts.

use alloc::collections::BTreeSet;
use alloc::string::ToString;

use super::*;

#[test]
fn every_refusal_has_a_number_of_its_own_and_an_exit_code() {
    use RefusalCode as Code;
    let codes = [
        (Code::StateTwoPrimaries, -1, 11),
        (Code::StateNoUpToDateData, -2, 17),
        (Code::StateOutdatedWhileConnected, -6, 11),
        (Code::StatePeerNotOutdated, -7, 11),
        (Code::StateRefusedByPeer, -10, 11),
        (Code::StateDiskless, -11, 16),
        (Code::StateHeldOpen, -12, 11),
        (Code::StateNeedsConnection, -15, 11),
        (Code::StateLowerThanOutdated, -16, 11),
        (Code::StateTransient, -18, 11),
        (Code::StateConcurrent, -19, 11),
        (Code::StateTimeout, -23, 11),
        (Code::LocalAddressInUse, 102, 10),
        (Code::CannotOpenDisk, 104, 10),
        (Code::CannotOpenMetaDisk, 105, 10),
        (Code::DiskTooSmall, 111, 10),
        (Code::MetaDiskTooSmall, 112, 10),
        (Code::DiskInUse, 114, 10),
        (Code::MetaDataRead, 118, 10),
        (Code::NoMetaData, 119, 10),
        (Code::DiscardWhilePrimary, 123, 10),
        (Code::AlreadyAttached, 124, 10),
        (Code::AlreadyConnected, 125, 10),
        (Code::ResyncAfterCycle, 133, 10),
        (Code::UnknownResource, 158, 10),
        (Code::InvalidRequest, 162, 10),
        (Code::ForeignMetaData, 165, 10),
        (Code::Environment, 20, 20),
    ];
    let mut texts = BTreeSet::new();
    for (code, number, exit) in codes {
        assert_eq!((code.number(), code.exit_code()), (number, exit));
        assert_eq!(code.is_state_change(), number < 0);
        assert!(texts.insert(code.text()), "{}", code.text());
    }
}

#[test]
fn refusals_read_as_scripts_expect_them() {
    let text = |code| Refusal::new(code, "", "").to_string();
    assert_eq!(
        text(RefusalCode::StateNoUpToDateData),
        "State change failed: (-2) Need access to UpToDate data"
    );
    assert_eq!(
        text(RefusalCode::NoMetaData),
        "Failure: (119) No valid meta-data signature found."
    );
}

#[test]
fn what_was_shown_names_the_state_of_both_nodes() {
    let shown = refused_peer().shown(12);
    assert_eq!((shown.own_tenure, shown.tenure), (12, 77));
    assert_eq!(shown.generation_of(VolumeNumber(2)), GenerationId(0x3000));
    assert_eq!(shown.generation_of(VolumeNumber(3)), GenerationId::NONE);
}

#[test]
fn progress_is_a_percentage_whatever_the_counts() {
    let percent = |total, remaining| progress(total, remaining).percent_done();
    let close = |one: f64, other: f64| (one - other).abs() < 1e-9;
    assert!(close(percent(200, 50), 75.0));
    assert!(close(percent(0, 0), 100.0), "there is nothing to do");
    assert!(close(percent(100, 300), 0.0), "more has become dirty");
}

#[test]
fn write_caches_have_words() {
    let words: Vec<&str> = [WriteCache::Volatile, WriteCache::Through]
        .map(WriteCache::word)
        .into();
    assert_eq!(words, ["volatile", "through"]);
}
