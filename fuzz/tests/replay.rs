//! Every committed input, and some thousand like them, through its target: the regression test of
//! everything fuzzing has found.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rbd_fuzz::mutate::{Chance, mutant};
use rbd_fuzz::{TARGETS, corpus};

/// Mutations per target.
const MUTANTS: u64 = 2_000;

/// What all corpora together may weigh.
const MOST_BYTES: usize = 2 << 20;

/// What one corpus may have.
const MOST_FILES: usize = 400;

#[test]
fn every_committed_input_is_harmless() {
    for target in TARGETS {
        for (name, bytes) in corpus::read(target.name).expect("a corpus") {
            assert!(bytes.len() <= target.longest, "{}/{name}", target.name);
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
            assert!(outcome.is_ok(), "input corpus/{}/{name}", target.name);
        }
    }
}

#[test]
fn mutations_of_them_are_harmless() {
    for target in TARGETS {
        let known: Vec<Vec<u8>> = corpus::read(target.name)
            .expect("a corpus")
            .into_iter()
            .map(|(_, bytes)| bytes)
            .collect();
        for seed in 0..MUTANTS {
            let bytes = mutant(&known, target.longest, &mut Chance::new(seed));
            let outcome = catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes)));
            assert!(outcome.is_ok(), "target {}, {bytes:02x?}", target.name);
        }
    }
}

#[test]
fn the_corpora_stay_small() {
    let mut bytes = 0;
    for target in TARGETS {
        let inputs = corpus::read(target.name).expect("a corpus");
        assert!(!inputs.is_empty(), "{} has none", target.name);
        assert!(inputs.len() <= MOST_FILES, "{}", target.name);
        bytes += inputs.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    }
    assert!(bytes <= MOST_BYTES, "{bytes} bytes");
}
