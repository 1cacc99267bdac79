//! Counting results and judging apt's plans.

use super::packages::objection;
use super::tally::Tally;
use super::{Options, runs};
use crate::workspace::{Package, Workspace};

#[test]
fn results_of_all_test_programs_are_summed() {
    let mut tally = Tally::default();
    tally.line("test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
    tally.line("test a::b ... FAILED");
    tally.line("test result: FAILED. 12 passed; 1 failed; 0 ignored; 0 measured");
    assert_eq!(tally.summary(), "17 passed, 1 failed, 0 skipped");
    assert_eq!(tally.failures, ["a::b"]);
}

#[test]
fn a_test_that_skipped_itself_is_not_counted_as_passed() {
    let mut tally = Tally::default();
    tally.line("test c ... ignored, needs an hour");
    tally.line("test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
    tally.add_skipped("a: no fio here\nskipped: b: not root\na: no fio here\n\n");
    assert_eq!(tally.summary(), "3 passed, 0 failed, 3 skipped");
    assert_eq!(
        tally.skipped,
        ["c: needs an hour", "a: no fio here", "b: not root"]
    );
}

#[test]
fn lines_that_only_look_like_results_count_nothing() {
    let mut tally = Tally::default();
    tally.line("the test result: ok. 5 passed");
    tally.line("test result: what?");
    tally.line("test ");
    assert_eq!(tally.summary(), "0 passed, 0 failed, 0 skipped");
}

#[test]
fn a_plan_that_upgrades_or_removes_is_refused() {
    assert_eq!(
        objection(
            "Inst fio (3.33-3 Debian:12.0 [amd64])\nConf fio (3.33-3)\n",
            false
        ),
        None
    );
    let upgrade = "Inst libc6 [2.36-9] (2.36-10 Debian [amd64])\nInst fio (3.33-3)\n";
    assert_eq!(
        objection(upgrade, false).as_deref(),
        Some("installing it would upgrade libc6")
    );
    assert_eq!(objection(upgrade, true), None);
    let removal = "Remv nano [7.2]\nInst fio (3.33-3)\n";
    for may_upgrade in [false, true] {
        assert_eq!(
            objection(removal, may_upgrade).as_deref(),
            Some("installing it would remove nano")
        );
    }
}

#[test]
fn options_are_known_or_refused() {
    let parse =
        |words: &[&str]| Options::parse(&words.iter().map(|w| (*w).into()).collect::<Vec<_>>());
    assert_eq!(
        parse(&["--quick"]),
        Ok(Options {
            quick: true,
            list: false
        })
    );
    assert!(parse(&["--quack"]).is_err());
}

#[test]
fn process_tests_run_last_and_not_at_all_when_time_is_short() {
    let workspace = Workspace {
        root: "/".into(),
        target_directory: "/".into(),
        packages: vec![Package {
            name: "rbd-tests".to_owned(),
            dependencies: Vec::new(),
            integration_tests: vec!["process_failover".to_owned(), "simulation".to_owned()],
        }],
    };
    let lines = |quick| {
        runs(&workspace, quick)
            .iter()
            .map(crate::process::show)
            .collect::<Vec<_>>()
    };
    let all = lines(false);
    assert_eq!(all.len(), 3);
    assert!(all[0].ends_with("--lib --bins --examples --test simulation"));
    assert!(all[1].ends_with("--doc"));
    assert!(all[2].ends_with("--test process_failover -- --test-threads 2"));
    assert_eq!(lines(true), all[..2]);
}
