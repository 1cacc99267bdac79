//! What the command line means.

use super::Options;

fn parse(words: &[&str]) -> Result<Options, String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    Options::parse(&words)
}

#[test]
fn a_target_and_minutes_are_taken_in_any_order() {
    let wanted = parse(&["--minutes", "90", "metadata"]).unwrap();
    assert_eq!(wanted, parse(&["metadata", "--minutes", "90"]).unwrap());
    assert_eq!((wanted.minutes, wanted.keep), (90, false));
    assert_eq!(parse(&["all"]).unwrap().minutes, 5);
}

#[test]
fn what_makes_no_sense_is_refused() {
    for words in [
        &[][..],
        &["--minutes", "5"],
        &["all", "--minutes", "x"],
        &["a", "b"],
    ] {
        assert!(parse(words).is_err(), "{words:?}");
    }
}
