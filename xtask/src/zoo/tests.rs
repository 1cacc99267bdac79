//! The files of mutants, and what is read of the simulation's words.

use std::path::Path;

use super::Options;
use super::hunt::{failed_seed, failed_test};
use super::mutant::{Finder, Mutant};
use super::table::{category, median};

const FILE: &str = "\
# a comment
story = \"a story\"
invariants = \"A1\"
finder = \"power\"

[[edit]]
file = \"engine/src/lib.rs\"
find = \"this\"
replace = '''
that
  and that
'''
";

#[test]
fn a_mutant_is_read_from_its_file() {
    let mutant = Mutant::parse("one", FILE).expect("it is a good file");
    assert_eq!(
        (mutant.name.as_str(), mutant.invariants.as_str()),
        ("one", "A1")
    );
    assert_eq!(mutant.edits.len(), 1);
    assert_eq!(mutant.edits[0].find, "this");
    assert_eq!(mutant.edits[0].replace, "that\n  and that");
    assert_eq!(
        mutant.finder,
        Finder::Simulation {
            profile: "power".into()
        }
    );
}

#[test]
fn a_test_can_be_the_finder() {
    let text = FILE.replace("\"power\"", "\"test: rbd-engine decide::\"");
    let mutant = Mutant::parse("one", &text).expect("it is a good file");
    assert_eq!(
        mutant.finder,
        Finder::Test {
            package: "rbd-engine".into(),
            filter: "decide::".into()
        }
    );
}

#[test]
fn a_file_that_lacks_something_is_refused_with_what_it_lacks() {
    for (taken, complaint) in [
        ("invariants = \"A1\"\n", "lacks invariants"),
        ("finder = \"power\"\n", "lacks a finder"),
        ("find = \"this\"\n", "lacks a text to find"),
        (
            "'''\nthat\n  and that\n'''",
            "replace: not a string in double quotes",
        ),
        (
            "engine/src",
            "changes something else than the engine and the protocol",
        ),
    ] {
        let text = FILE.replace(taken, "");
        assert_eq!(Mutant::parse("one", &text), Err(complaint.to_owned()));
    }
}

#[test]
fn a_text_that_is_not_there_exactly_once_cannot_be_replaced() {
    let directory = tempfile::tempdir().expect("a directory");
    let source = directory.path().join("engine/src");
    std::fs::create_dir_all(&source).expect("a directory in it");
    let mutant = Mutant::parse("one", FILE).expect("it is a good file");
    for (text, is_applied) in [("nothing", false), ("this", true), ("this this", false)] {
        std::fs::write(source.join("lib.rs"), text).expect("a file");
        assert_eq!(mutant.apply(directory.path()).is_ok(), is_applied);
    }
    assert!(mutant.apply(Path::new("no such place")).is_err());
}

#[test]
fn every_mutant_still_applies() {
    let none: Vec<String> = Vec::new();
    assert_eq!(super::check(&crate::workspace::root()), none);
}

#[test]
fn the_seed_and_the_words_of_a_failure_are_told_apart() {
    let output = "seed 43: at          1.2 : pair-check: block 7 may differ\ntrace\n";
    let (seed, what) = failed_seed(output);
    assert_eq!(seed, Some(43));
    assert!(what.starts_with("pair-check: "), "{what}");
    assert_eq!(category(&what), "pair-check");
}

#[test]
fn the_first_failed_test_is_named() {
    let output = "failures:\n\n---- a::b stdout ----\n    at c::d\n\n\nfailures:\n    a::b\n    \
                  a::c\n\ntest result: FAILED\n";
    assert_eq!(failed_test(output), "a::b");
}

#[test]
fn the_median_is_the_middle_one() {
    assert_eq!(median(vec![9, 1, 5]), 5);
    assert_eq!(median(Vec::new()), 0);
}

#[test]
fn mutants_are_asked_for_by_the_beginning_of_their_names() {
    let options = Options::parse(&["flush".into(), "--seeds".into(), "7".into()]);
    let options = options.expect("good options");
    assert_eq!(options.seeds, 7);
    assert!(options.wants("flush-peer") && !options.wants("read-early"));
    assert!(Options::parse(&["--seeds".into()]).is_err());
    assert!(Options::parse(&["--what".into()]).is_err());
}
