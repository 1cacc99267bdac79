//! Unit tests of the configuration language: the option table, suggestions, patterns.

use std::collections::BTreeSet;

use super::files::matches_pattern;
use super::options::{self, Judgement, Verdict, find};
use super::suggest::nearest;
use super::table::option_table;
use super::value::parse;

#[test]
fn every_default_is_a_value_of_its_option_and_raises_no_refusal() {
    for option in options::all().filter(|option| !option.default.is_empty()) {
        let value = parse(option, option.default).unwrap_or_else(|wrong| panic!("{wrong:?}"));
        assert_eq!(
            value.plain(),
            option.default.replace("1M", "1048576"),
            "{}",
            option.name
        );
        assert!(
            !matches!(option.judge(&value), Judgement::Refuse(_)),
            "{}",
            option.name
        );
    }
}

#[test]
fn every_value_a_verdict_excepts_is_a_value_of_its_option() {
    for option in options::all() {
        let excepted = match option.verdict {
            Verdict::Implemented => continue,
            Verdict::Warned { kept, .. } => kept,
            Verdict::Refused { allowed, .. } => allowed,
        };
        for text in excepted {
            let value = parse(option, text).unwrap_or_else(|wrong| panic!("{wrong:?}"));
            assert_eq!(
                option.judge(&value),
                Judgement::Silent,
                "{} {text}",
                option.name
            );
        }
    }
}

#[test]
fn no_section_knows_an_option_twice() {
    let mut seen = BTreeSet::new();
    for option in options::all() {
        for section in option.sections {
            assert!(
                seen.insert((*section, option.name)),
                "{section:?} {}",
                option.name
            );
            assert_eq!(find(*section, option.name), Some(option));
        }
    }
}

#[test]
fn every_number_can_be_as_small_and_as_large_as_its_range_says() {
    for option in options::all() {
        let options::Kind::Number { min, max, .. } = option.kind else {
            continue;
        };
        assert!(parse(option, &min.to_string()).is_ok(), "{}", option.name);
        assert!(parse(option, &max.to_string()).is_ok(), "{}", option.name);
        let wrong = parse(option, &(max + 1).to_string()).unwrap_err();
        assert!(
            wrong.message.contains("Value is too big"),
            "{}",
            wrong.message
        );
    }
}

#[test]
fn the_documentation_has_the_option_table_of_this_program() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let document = std::fs::read_to_string(path).unwrap();
    let table = option_table();
    assert!(
        document.contains(&table),
        "docs/configuration.md should contain:\n{table}"
    );
}

#[test]
fn a_slip_of_the_fingers_finds_the_word_that_was_meant() {
    let words = ["timeout", "ping-timeout", "ping-int", "on"];
    assert_eq!(nearest("tiemout", words), Some("timeout"));
    assert_eq!(nearest("ping_int", words), Some("ping-int"));
    assert_eq!(nearest("PingTimeout", words), Some("ping-timeout"));
    assert_eq!(nearest("xy", words), None);
    assert_eq!(nearest("frobnicate", words), None);
    assert_eq!(nearest(&"timeout".repeat(1000), words), None);
}

#[test]
fn patterns_match_names_as_a_shell_does() {
    for (pattern, name, expected) in [
        ("*.res", "r0.res", true),
        ("*.res", "r0.res.bak", false),
        ("*", "", true),
        ("r?.res", "r10.res", false),
        ("r[0-9].res", "r7.res", true),
        ("r[!0-9].res", "r7.res", false),
        ("[]a]", "]", true),
        ("[a", "[a", false),
        ("*a*b*c", "xxaxxbxxbxxc", true),
        ("*a*b*c", "xxaxxcxxb", false),
        ("größe?", "größe1", true),
    ] {
        assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
    }
    let (stars, letters) = ("*a".repeat(50), "a".repeat(5000));
    assert!(!matches_pattern(&format!("{stars}b"), &letters));
}
