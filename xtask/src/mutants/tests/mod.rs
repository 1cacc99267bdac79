//! Lists, blame, results and tables, on small made-up ones.

mod hunting;
mod weaving;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::Options;
use super::build::{Blame, mutants_of};
use super::hunt::{PROFILES, failed_test};
use super::list::{self, Mutant, Place};
use super::reach::{Reach, Test};
use super::results::{Fingerprint, Outcome, Results, fingerprint};
use super::table::{Table, json};
use super::weave::Arm;

fn listed(name: &str, line: u32) -> String {
    format!(
        r#"{{"name": "engine/src/a.rs:{line}:3: {name}", "file": "engine/src/a.rs",
        "genre": "FnValue", "replacement": "0", "function": {{"return_type": "-> u8",
        "span": {{"start": {{"line": {line}, "column": 1}}, "end": {{"line": 9, "column": 2}}}}}},
        "span": {{"start": {{"line": {line}, "column": 3}}, "end": {{"line": 4, "column": 5}}}}}}"#
    )
}

fn three() -> Vec<Mutant> {
    let list = ["b", "a", "b"].iter().zip(5..);
    let list: Vec<String> = list.map(|(name, line)| listed(name, line)).collect();
    list::read(&format!("[{}]", list.join(","))).expect("a good list")
}

#[test]
fn names_that_last_have_no_line_and_differ() {
    let mutants = three();
    let names: Vec<&str> = mutants
        .iter()
        .map(|one| one.lasting_name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "engine/src/a.rs: b",
            "engine/src/a.rs: a",
            "engine/src/a.rs: b #2"
        ]
    );
    assert_eq!((mutants[2].id, mutants[2].is_body), (3, true));
    assert_eq!(mutants[2].span.start, Place { line: 7, column: 3 });
    let function = mutants[2].function.as_ref().expect("it is in one");
    assert_eq!(function.return_type, "-> u8");
    assert!(list::read("[{\"name\": \"a\"}]").is_err());
    assert!(list::read("cargo").is_err());
}

#[test]
fn who_is_judged_has_a_reason() {
    let text = "# a comment\n\na.rs: b\tno difference\n";
    assert_eq!(list::read_judged(text), Ok(vec!["a.rs: b".to_owned()]));
    assert!(list::read_judged("a.rs: b\n").is_err());
    assert!(list::read_judged("a.rs: b\t \n").is_err());
    assert!(list::judged(&crate::workspace::root()).is_ok());
}

#[test]
fn an_error_is_blamed_on_the_mutants_it_is_in() {
    let arm = |first, last, id| Arm { first, last, id };
    let arms = vec![arm(3, 5, 1), arm(6, 8, 2)];
    let arms = BTreeMap::from([("a.rs".to_owned(), arms)]);
    let line = |level: &str, file: &str, primary: bool, line: u32| {
        format!(
            r#"{{"reason": "compiler-message", "message": {{"level": "{level}", "rendered": "no",
            "spans": [{{"file_name": "{file}", "is_primary": {primary}, "line_start": {line},
            "line_end": {line}}}]}}}}"#
        )
    };
    let blame = |text: &str| mutants_of(text, &arms);
    assert_eq!(
        blame(&line("error", "a.rs", true, 5)),
        Blame::Mutants(vec![1])
    );
    assert_eq!(
        blame(&line("error", "a.rs", true, 6)),
        Blame::Mutants(vec![2])
    );
    let other = Blame::Other("no".to_owned());
    assert_eq!(blame(&line("error", "a.rs", true, 9)), other);
    assert_eq!(blame(&line("error", "b.rs", true, 5)), other);
    assert_eq!(blame(&line("error", "a.rs", false, 5)), other);
    assert_eq!(blame(&line("warning", "a.rs", true, 5)), Blame::Nobody);
    let last = r#"{"reason": "compiler-message", "message": {"level": "error", "spans": [],
        "rendered": "error: aborting due to 2 previous errors"}}"#;
    assert_eq!(blame(last), Blame::Nobody);
}

fn outcomes() -> [Outcome; 5] {
    [
        Outcome::Broken,
        Outcome::Tested { test: "t".into() },
        Outcome::Simulated {
            profile: "swarm".into(),
            what: "seed 3: bad".into(),
        },
        Outcome::Endless {
            place: "calm".into(),
        },
        Outcome::Missed { seeds: 40 },
    ]
}

fn sources(code: &str, tests: &str) -> Fingerprint {
    Fingerprint {
        code: code.into(),
        tests: tests.into(),
    }
}

#[test]
fn results_are_kept_for_as_long_as_the_code_is_the_same() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("deeper/results.jsonl");
    let mut results = Results::open(&path, &sources("one", "")).expect("a new file");
    for (outcome, name) in outcomes().into_iter().zip(0..) {
        results.add(&name.to_string(), outcome).expect("it is kept");
    }
    let mut text = fs::read_to_string(&path).expect("it is there");
    text.push_str("{\"name\": \"5\", \"is\": \"bro");
    fs::write(&path, text).expect("a line cut short");
    let mut again = Results::open(&path, &sources("one", "")).expect("the same file");
    again.add("6", Outcome::Broken).expect("it is kept");
    let again = Results::open(&path, &sources("one", "")).expect("the same file");
    for (outcome, name) in outcomes().iter().zip(0..) {
        assert_eq!(again.of(&name.to_string(), 40), Some(outcome));
    }
    assert_eq!(again.of("5", 1), None);
    assert_eq!(again.of("6", 1), Some(&Outcome::Broken));
    let other = Results::open(&path, &sources("other", "")).expect("other sources");
    assert_eq!(other.of("1", 1), None);
    let other = Results::open(&path, &sources("one", "")).expect("the first sources again");
    assert_eq!(other.of("1", 1), None);
}

#[test]
fn what_was_missed_in_fewer_seeds_is_run_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.jsonl");
    let mut results = Results::open(&path, &sources("one", "")).expect("a new file");
    let missed = Outcome::Missed { seeds: 40 };
    results.add("a", missed.clone()).expect("it is kept");
    assert_eq!(results.of("a", 40), Some(&missed));
    assert_eq!(results.of("a", 41), None);
}

#[test]
fn other_tests_may_find_what_was_missed_and_nothing_else_is_lost() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("results.jsonl");
    let mut results = Results::open(&path, &sources("one", "a")).expect("a new file");
    for (outcome, name) in outcomes().into_iter().zip(0..) {
        results.add(&name.to_string(), outcome).expect("it is kept");
    }
    let other = Results::open(&path, &sources("one", "b")).expect("the same file");
    for (outcome, name) in outcomes().iter().zip(0..) {
        let kept = Some(outcome).filter(|outcome| !matches!(outcome, Outcome::Missed { .. }));
        assert_eq!(other.of(&name.to_string(), 40), kept);
    }
}

#[test]
fn any_change_of_a_source_changes_the_fingerprint() {
    let directory = tempfile::tempdir().expect("a directory");
    let root = directory.path();
    let mut seen = HashSet::new();
    for (file, text) in [
        ("protocol/src/a.rs", "1"),
        ("protocol/src/a.rs", "2"),
        ("engine/src/a.rs", "2"),
        ("engine/src/b.rs", ""),
    ] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(&path, text).expect("a file");
        assert!(seen.insert(fingerprint(root).expect("it can be read")));
    }
    let before = fingerprint(root).expect("it can be read");
    for file in ["engine/src/a/tests.rs", "protocol/tests/b.rs"] {
        let path = root.join(file);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a directory");
        fs::write(&path, "").expect("a file");
        let now = fingerprint(root).expect("it can be read");
        assert_eq!(now.code, before.code);
        assert!(seen.insert(now));
    }
    fs::create_dir_all(root.join("tests")).expect("a directory");
    fs::write(root.join("tests/c.rs"), "3").expect("a file");
    assert!(!seen.insert(fingerprint(root).expect("it can be read")));
}

#[test]
fn the_table_counts_everything_once_and_lists_what_nothing_finds() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut results =
        Results::open(&directory.path().join("r"), &sources("one", "")).expect("a new file");
    let list: Vec<String> = (1..=9).rev().map(|line| listed("b", line)).collect();
    let mutants = list::read(&format!("[{}]", list.join(","))).expect("a good list");
    let mutants: Vec<&Mutant> = mutants.iter().collect();
    let missed = Outcome::Missed { seeds: 40 };
    let outcomes = outcomes().into_iter().chain([missed.clone(), missed]);
    for (mutant, outcome) in mutants.iter().zip(outcomes) {
        results.add(&mutant.name, outcome).expect("it is kept");
    }
    let judged = HashSet::from([mutants[6].lasting_name.clone()]);
    let left_out = BTreeMap::from([(8, "in a constant")]);
    let table = Table::new(&mutants, &left_out, &judged, &results, 40);
    let text = table.text();
    let counts: Vec<&str> = text
        .lines()
        .take(9)
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert_eq!(counts, ["9", "1", "1", "1", "1", "1", "1", "2", "1"]);
    assert!(
        text.ends_with("\nengine/src/a.rs:4: b #6\nengine/src/a.rs:5: b #5\n"),
        "{text}"
    );
    assert!(table.verdict().is_err());
    let json = json(&mutants, &left_out, &judged, &results, 40);
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    assert_eq!(
        (&json[1]["is"], &json[1]["test"]),
        (&"tested".into(), &"t".into())
    );
    assert_eq!(
        (&json[7]["is"], &json[8]["is"]),
        (&"left out".into(), &"not yet run".into())
    );
    assert_eq!(
        (&json[5]["judged"], &json[6]["judged"]),
        (&false.into(), &true.into())
    );
    assert_eq!(json[6]["lasting_name"], "engine/src/a.rs: b #7");
}

#[test]
fn a_run_without_anything_missed_is_a_success() {
    let table = Table::default();
    assert_eq!(table.verdict(), Ok(()));
}

#[test]
fn quick_tests_run_first_and_each_that_comes_to_a_function_runs_once() {
    let test = |(program, time): (&str, u64)| Test {
        time: Duration::from_millis(time),
        program: program.to_owned(),
        name: time.to_string(),
    };
    let all = (1..=19).map(|time| ("a", time));
    let all = all.chain([("b", 20), ("b", 21), ("a", 22)]);
    let reach = Reach::of_tests(7, all.map(test).collect());
    let batches = reach.batches(7);
    let shown: Vec<_> = batches
        .iter()
        .map(|batch| {
            (
                batch.program.as_str(),
                batch.names.len(),
                batch.time.as_millis(),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [("a", 19, 190), ("b", 1, 20), ("b", 1, 21), ("a", 1, 22)]
    );
    assert_eq!(batches[3].names, ["22"]);
    assert_eq!(reach.batches(8), []);
    assert_eq!(reach.profiles(7).count(), 0);
}

#[test]
fn a_failed_test_is_told_from_one_that_passed() {
    assert_eq!(failed_test("test a::b ... FAILED"), Some("a::b"));
    assert_eq!(failed_test("test a - should panic ... FAILED"), Some("a"));
    assert_eq!(failed_test("test a::b ... ok"), None);
    assert_eq!(failed_test("test result: FAILED. 1 passed; 1 failed"), None);
}

#[test]
fn every_profile_in_which_nothing_may_be_found_is_run() {
    let source = crate::workspace::root().join("tests/src/simulation/profile.rs");
    let text = fs::read_to_string(source).expect("the simulation's profiles");
    let names = text.lines().filter_map(|line| {
        let (variant, name) = line.trim().split_once(" => \"")?;
        variant
            .starts_with("Self::")
            .then(|| name.strip_suffix("\","))?
    });
    let mut names: Vec<&str> = names.filter(|name| *name != "fencing-lies").collect();
    let mut profiles = PROFILES.to_vec();
    names.sort_unstable();
    profiles.sort_unstable();
    assert_eq!(profiles, names);
}

#[test]
fn options_are_known_or_refused() {
    let parse = |line: &str| {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Options::parse(&words)
    };
    let options = parse("--part engine --file a.rs --seeds 7 --minutes 3 --list --json b");
    let options = options.expect("good options");
    assert_eq!((options.seeds, options.list), (7, true));
    assert_eq!(options.time, Some(Duration::from_secs(180)));
    assert_eq!(options.json.as_deref(), Some(Path::new("b")));
    assert!(options.wants(&three()[0]));
    assert!(!parse("--part protocol").expect("good").wants(&three()[0]));
    assert!(!parse("--file b.rs").expect("good").wants(&three()[0]));
    assert!(parse("").expect("good").wants(&three()[0]));
    for bad in ["--part ctl", "--seeds", "--seeds x", "--what", "engine"] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}
