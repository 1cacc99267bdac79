//! Scripts in the place of tests and simulation, with something wrong in them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::mutants::build::Programs;
use crate::mutants::hunt::hunt;
use crate::mutants::reach::Reach;
use crate::mutants::results::Outcome;

/// Two tests, of which one comes to function 3. Mutant 4 fails there; 8 would fail anywhere.
const TESTS: &str = r#"
if [ "$1" = --list ]; then
    printf 'a: test\nb: test\n\n2 tests, 0 benchmarks\n'
    exit
fi
case " $* " in *" b "*) [ -z "$RBD_MUTANT_NOTES" ] || echo 3 >> "$RBD_MUTANT_NOTES" ;; esac
[ "$RBD_MUTANT" != 8 ] || exit 1
[ "$RBD_MUTANT" != 9 ] || kill -XCPU $$
[ "$RBD_MUTANT" != 10 ] || kill -SEGV $$
[ "$RBD_MUTANT" != 4 ] || { printf 'test b ... FAILED\n'; exec sleep 20; }
"#;

/// Only `power` and `calm` come to function 3. Mutant 6 is found in `calm`; 5 would be elsewhere.
const SIMULATION: &str = r#"
case $2 in
power | calm) [ -z "$RBD_MUTANT_NOTES" ] || echo 3 >> "$RBD_MUTANT_NOTES" ;;
*) [ "$RBD_MUTANT" != 5 ] || exit 2 ;;
esac
[ "$2 $RBD_MUTANT" != "calm 6" ] || { echo "seed 2: at 1: bad"; exit 2; }
[ "$*" = "--profile $2 --jobs 1 --seeds 0..7" ] || exit 1
"#;

fn programs(directory: &Path, tests: &str) -> Programs {
    let script = |name: &str, text: &str| -> PathBuf {
        let path = directory.join(name);
        // A shell writes it: while a file is open here, a test beside this one may start a
        // program that inherits it, and what is open for writing cannot be run.
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "printf '#!/bin/sh\\n%s' \"$1\" > \"$0\"; chmod 755 \"$0\"",
        ]);
        let status = shell.arg(&path).arg(text).status().expect("a shell");
        assert!(status.success());
        path
    };
    let functions = [4, 5, 6, 7, 9, 10].map(|id| (id, 3));
    let tests = (script("tests", tests), directory.to_owned());
    Programs {
        tests: BTreeMap::from([("program".to_owned(), tests)]),
        simulation: script("simulation", SIMULATION),
        functions: functions.into_iter().chain([(8, 8)]).collect(),
    }
}

#[test]
fn a_mutant_is_looked_for_where_its_function_is_come_to_and_nowhere_else() {
    let directory = tempfile::tempdir().expect("a directory");
    let programs = programs(directory.path(), TESTS);
    let reach = Reach::measure(&programs, directory.path(), 7).expect("nothing is wrong");
    let batches = reach.batches(3);
    let names: Vec<&String> = batches.iter().flat_map(|batch| &batch.names).collect();
    assert_eq!(names, ["b"]);
    let profiles: Vec<&str> = reach.profiles(3).map(|(profile, _)| profile).collect();
    assert_eq!(profiles, ["power", "calm"]);
    let hunt_all = |id, skip_tests| hunt(&programs, &reach, id, 7, skip_tests);
    let hunt = |id| hunt_all(id, false);
    let missed = Ok(Outcome::Missed { seeds: 7 });
    assert_eq!(hunt(4), Ok(Outcome::Tested { test: "b".into() }));
    assert_eq!(hunt_all(4, true), missed);
    assert_eq!(hunt(5), missed);
    let simulated = Outcome::Simulated {
        profile: "calm".into(),
        what: "seed 2: at 1: bad".into(),
    };
    assert_eq!(hunt(6), Ok(simulated));
    assert_eq!(hunt(7), missed);
    assert_eq!(hunt(8), missed);
    let endless = Outcome::Endless {
        place: "program".into(),
    };
    assert_eq!(hunt(9), Ok(endless));
    let Ok(Outcome::Tested { test }) = hunt(10) else {
        panic!("a program that dies is not well");
    };
    assert!(test.starts_with("program ends with signal: 11"), "{test}");
    assert!(hunt(11).is_err());
}

#[test]
fn without_seeds_the_simulation_is_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let programs = programs(directory.path(), TESTS);
    let reach = Reach::measure(&programs, directory.path(), 0).expect("nothing is wrong");
    assert_eq!(reach.profiles(3).count(), 0);
    let outcome = hunt(&programs, &reach, 6, 0, false);
    assert_eq!(outcome, Ok(Outcome::Missed { seeds: 0 }));
}

#[test]
fn what_fails_without_a_mutant_finds_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let programs = programs(directory.path(), &format!("{TESTS}\nexit 1\n"));
    let measured = Reach::measure(&programs, directory.path(), 7);
    let message = measured.expect_err("a test fails");
    assert!(message.contains("without any mutant"), "{message}");
}
