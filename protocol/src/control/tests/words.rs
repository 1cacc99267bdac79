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
        (Code::StateSyncActive, -8, 11),
        (Code::StateRefusedByPeer, -10, 11),
        (Code::StateDiskless, -11, 16),
        (Code::StateHeldOpen, -12, 11),
        (Code::StateNoVerifyAlgorithm, -14, 11),
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
        (Code::ResizeDuringResync, 130, 10),
        (Code::ResyncAfterCycle, 133, 10),
        (Code::PauseIsSet, 134, 10),
        (Code::PauseIsClear, 135, 10),
        (Code::DataNotCurrent, 150, 10),
        (Code::PausedByDependency, 156, 10),
        (Code::PausedByPeer, 157, 10),
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
fn the_time_a_resync_still_takes_is_rounded_up_and_needs_a_rate() {
    let seconds = |remaining, rate| {
        let progress = ResyncProgress {
            rate,
            ..progress(1000, remaining)
        };
        progress.seconds_left()
    };
    assert_eq!(seconds(300, Some(100)), Some(3));
    assert_eq!(seconds(301, Some(100)), Some(4));
    assert_eq!(seconds(0, Some(100)), Some(0));
    assert_eq!(seconds(5, Some(1)), Some(5));
    assert_eq!(seconds(300, Some(0)), None);
    assert_eq!(seconds(300, None), None);
}

#[test]
fn a_verify_is_as_far_as_it_is_within_its_range() {
    let percent = |start_bytes, position_bytes, stop_bytes| {
        let progress = VerifyProgress {
            start_bytes,
            stop_bytes,
            position_bytes,
            differing_blocks: 0,
            elapsed_ms: 0,
        };
        progress.percent_done()
    };
    let close = |one: f64, other: f64| (one - other).abs() < 1e-9;
    assert!(close(percent(1000, 1000, 1400), 0.0));
    assert!(close(percent(1000, 1300, 1400), 75.0));
    assert!(close(percent(1000, 1400, 1400), 100.0));
    assert!(close(percent(1000, 1000, 1000), 100.0), "nothing to do");
}

#[test]
fn two_primaries_count_as_fenced_only_with_fencing_that_waits() {
    let is_without = |two_primaries, fencing| {
        let net = NetOptions {
            two_primaries,
            fencing,
            ..NetOptions::default()
        };
        net.is_two_without_fencing()
    };
    assert!(is_without(true, Fencing::DontCare));
    assert!(is_without(true, Fencing::ResourceOnly));
    assert!(!is_without(true, Fencing::ResourceAndStonith));
    for one in [
        Fencing::DontCare,
        Fencing::ResourceOnly,
        Fencing::ResourceAndStonith,
    ] {
        assert!(!is_without(false, one), "one Primary, {one:?}");
    }
}

#[test]
fn what_is_shown_as_a_word_has_one() {
    let words = [WriteCache::Volatile, WriteCache::Through].map(WriteCache::word);
    assert_eq!(words, ["volatile", "through"]);
    let words = [
        KernelExport::Auto,
        KernelExport::Ublk,
        KernelExport::Nbd,
        KernelExport::None,
    ]
    .map(KernelExport::keyword);
    assert_eq!(words, ["auto", "ublk", "nbd", "none"]);
}
