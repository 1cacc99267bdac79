//! Small scope, exhaustively; `rbd-exhaust` goes further. `RBD_EXHAUST_STATES` sets how many states
//! after crashes are enough, `RBD_EXHAUST_PAIRS` how many states of two nodes at rest.

use rbd_tests::exhaustive::{Manner, Plan, explore_pairs, retell, search};

/// States after crashes when nobody says otherwise.
const STATES: usize = 60_000;

/// States of two nodes at rest when nobody says otherwise.
const PAIRS: u64 = 2_000;

fn asked<T: std::str::FromStr>(name: &str, otherwise: T) -> T {
    let text = std::env::var(name).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn no_short_sequence_with_any_crash_in_it_loses_anything() {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let enough = asked("RBD_EXHAUST_STATES", STATES);
    let plan = Plan {
        length: 4,
        manners: Manner::all(),
        threads,
        enough,
    };
    match search(&plan) {
        Ok(tally) => {
            println!("{tally}");
            let few = u64::try_from(enough).unwrap_or(u64::MAX) / 2;
            assert!(
                tally.states >= few.min(100_000),
                "too little was gone through: {tally}"
            );
        }
        Err(wrong) => panic!(
            "{}\n{:?}: {}",
            retell(&wrong.case).join("\n"),
            wrong.case,
            wrong.text
        ),
    }
}

#[test]
fn whatever_two_nodes_have_become_their_verdicts_are_mirrored_and_sound() {
    match explore_pairs(asked("RBD_EXHAUST_PAIRS", PAIRS)) {
        Ok(tally) => {
            println!("{tally:?}");
            assert!(
                tally.verdicts > tally.states,
                "hardly anything was decided: {tally:?}"
            );
        }
        Err(wrong) => panic!(
            "{}\n{:?}: {}",
            wrong.story.join("\n"),
            wrong.moves,
            wrong.text
        ),
    }
}
