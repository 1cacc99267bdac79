//! What medians and ratios are made of.

use super::{QUORUM, RBD, Setting, markdown, ratio, spread};
use crate::path::fio::Measured;
use crate::path::job::JOBS;
use crate::path::sample::{Figures, Sample};
use crate::statistics::Spread;

fn sample(target: &'static str, round: u64, operations: f64) -> Sample {
    let measured = Measured {
        operations,
        bytes: operations * 4096.0,
        taken_us: 1e6,
        latency_us: 100.0,
        slow_us: 200.0,
        client_us: 0.0,
        client_user_us: 0.0,
    };
    Sample {
        target,
        job: JOBS[0].name,
        round,
        figures: Figures {
            measured,
            daemon_us: None,
            foreign_cores: 0.0,
        },
    }
}

#[test]
fn a_ratio_pairs_measurements_of_the_same_round() {
    // The second round was disturbed and the third has no partner.
    let samples = [
        sample(RBD, 0, 400.0),
        sample(QUORUM, 0, 100.0),
        sample(QUORUM, 1, 10.0),
        sample(RBD, 1, 20.0),
        sample(RBD, 2, 999.0),
    ];
    let rate = |figures: &Figures| Some(figures.measured.per_second());
    let expected = Spread {
        least: 2.0,
        median: 3.0,
        most: 4.0,
    };
    assert_eq!(ratio(&samples, &JOBS[0], RBD, QUORUM, rate), Some(expected));
    assert_eq!(ratio(&samples, &JOBS[1], RBD, QUORUM, rate), None);
    assert_eq!(
        spread(&samples, &JOBS[0], RBD, rate).map(|spread| spread.median),
        Some(400.0)
    );
}

#[test]
fn a_target_that_failed_has_a_row_without_figures() {
    let setting = Setting {
        rounds: 1,
        seconds: 1,
        bytes: 1 << 20,
        versions: Vec::new(),
        warnings: Vec::new(),
        network: "nothing",
        file_system: "none".to_owned(),
        replicas: Vec::new(),
    };
    let text = markdown(
        &setting,
        &[&JOBS[0]],
        &[RBD, QUORUM],
        &[sample(RBD, 0, 400.0)],
    );
    assert!(text.contains("| rw4k_qd1 | rbd | 400 (400–400) "), "{text}");
    assert!(text.contains("| rw4k_qd1 | quorum | – | – "), "{text}");
    assert!(
        text.contains("| rw4k_qd1 | rbd / quorum | – | – | – |"),
        "{text}"
    );
}
