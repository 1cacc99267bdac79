//! What command lines mean, and how wrong ones are refused.

use super::Options;

fn options(line: &str) -> Options {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    Options::new(&words)
}

#[test]
fn a_value_may_follow_its_name_as_a_word_or_after_an_equals_sign() {
    let mut line = options("--rounds 3 --seconds=2 --quiet");
    assert_eq!(line.number("--rounds", 5, 1), Ok(3));
    assert_eq!(line.number("--seconds", 4, 1), Ok(2));
    assert!(line.flag("--quiet"));
    assert_eq!(line.end(), Ok(()));
}

#[test]
fn what_is_not_given_has_its_default() {
    let mut line = options("");
    assert_eq!(line.number("--rounds", 5, 1), Ok(5));
    assert_eq!(line.choice("--jobs", &["a", "b"]), Ok(vec!["a", "b"]));
    assert!(!line.flag("--quiet"));
}

#[test]
fn a_list_keeps_the_order_of_the_known_words() {
    assert_eq!(
        options("--jobs c,a").choice("--jobs", &["a", "b", "c"]),
        Ok(vec!["a", "c"])
    );
}

#[test]
fn a_wrong_value_is_refused_with_what_was_expected() {
    let refusal = options("--rounds 0").number("--rounds", 5, 1);
    assert_eq!(
        refusal,
        Err("--rounds takes a number from 1 on, not '0'".to_owned())
    );
    let refusal = options("--jobs d").choice("--jobs", &["a", "b"]);
    assert_eq!(
        refusal,
        Err("--jobs does not know 'd', only a, b".to_owned())
    );
    let refusal = options("--rounds").number("--rounds", 5, 1);
    assert_eq!(refusal, Err("--rounds needs a value".to_owned()));
}

#[test]
fn an_unknown_word_is_named() {
    assert_eq!(
        options("--fast").end(),
        Err("unknown option '--fast'".to_owned())
    );
}
