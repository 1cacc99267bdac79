//! What is ordered, and what becomes of measurements.

use super::report::{markdown, ratio, read};
use super::{Order, parse};

#[test]
fn orders_are_read_and_others_refused() {
    let read = |words: &str| {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        parse(&words)
    };
    let words = |words: &str| words.split(' ').map(str::to_owned).collect();
    let mut order = Order {
        rounds: 3,
        seconds: 4,
        megabytes: 512,
        targets: words("raw rbd drbd drbd-tuned md md-bitmap md-sync"),
        jobs: words("w1 w32"),
        other: None,
    };
    assert_eq!(
        read("--rounds 3 --size 512 --seconds 4").as_ref(),
        Ok(&order)
    );
    order.targets = words("md rbd rbd-other");
    order.jobs = words("w1");
    order.other = Some("old/rbdd".into());
    let some = "--rounds 3 --size 512 --seconds 4 --targets md,rbd --jobs w1 --other old/rbdd";
    assert_eq!(read(some), Ok(order));
    for wrong in [
        "--rounds",
        "--rounds 0",
        "--seconds two",
        "--turns 3",
        "3",
        "--targets rbd,lvm",
        "--targets rbd-other",
        "--jobs w2",
    ] {
        assert!(read(wrong).is_err(), "{wrong}");
    }
}

const LINES: &str = "0 w32 rbd 100 1.00 10 20 1 1 1 1 0\n\
                     1 w32 rbd 200 2.00 300.0 900.0 10.0 20.0 40.0 60.0 0.50\n\
                     1 w32 md 100 2.00 600.0 900.0 30.0 30.0 100.0 100.0 1.50\n\
                     2 w32 rbd 300 1.00 100.0 900.0 10.0 20.0 40.0 60.0 0.50\n\
                     2 w32 md 100 1.00 400.0 900.0 30.0 30.0 100.0 100.0 1.50\n\
                     3 w32 rbd 500 1.00 100.0 900.0 10.0 20.0 40.0 60.0 0.50\n";

#[test]
fn ratios_are_of_the_same_round_and_the_first_round_is_left_out() {
    let samples = read(LINES).unwrap();
    assert_eq!(samples.len(), 5);
    let rate = ratio(&samples, "w32", "md", |one| f64::from(one.round));
    assert_eq!(rate, Some((1.0, 1.0, 1.0)));
    let text = markdown(&samples);
    let row = "| w32 | rbd | 300 (100–500) | 100 | 900 | 30 | 100 |";
    assert!(text.contains(row), "{text}");
    let ratios = "| w32 | md | 2.50 (2.00–3.00) | 0.38 (0.25–0.50) | 0.50 (0.50–0.50) |";
    assert!(text.contains(ratios), "{text}");
    assert!(text.contains("kept 0.5 (0.5–1.5)"), "{text}");
    assert!(!text.contains("| w1 |"), "nobody measured that: {text}");
}

#[test]
fn a_line_that_is_no_measurement_is_an_error() {
    for wrong in ["", "1 w1 rbd 1 2 3", "1 w1 rbd 1 2 3 4 5 6 7 8 many"] {
        assert!(read(&format!("{wrong}\n")).is_err(), "{wrong}");
    }
}
