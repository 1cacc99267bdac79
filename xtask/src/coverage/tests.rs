//! What is read from compilers and coverage tools, and what is counted.

use std::path::Path;

use super::lines::Lines;
use super::tools::{says_version, version};
use super::{Options, program};

const LCOV: &str = "\
SF:/w/engine/src/intent.rs
FN:1,x
DA:1,4
DA:2,0
DA:9,1
end_of_record
SF:/w/engine/src/intent/tests.rs
DA:1,0
SF:/w/engine/src/decide/rule_tests.rs
DA:1,0
SF:/w/tests/src/simulation/world.rs
DA:1,0
SF:/elsewhere/protocol/src/lib.rs
DA:1,0
SF:/w/protocol/src/ids.rs
DA:3,0
DA:3,2
";

fn lines() -> Lines {
    Lines::read(LCOV, Path::new("/w"))
}

#[test]
fn lines_of_the_product_are_counted_and_those_of_tests_are_not() {
    let table = lines().table(&["protocol", "engine"]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows,
        [
            vec!["protocol/src/ids.rs", "1", "1", "100.00", "%"],
            vec!["engine/src/intent.rs", "3", "2", "66.67", "%"],
            vec!["protocol:", "all", "1", "1", "100.00", "%"],
            vec!["engine:", "all", "3", "2", "66.67", "%"],
        ]
    );
}

#[test]
fn a_crate_with_too_few_lines_or_none_fails() {
    assert_eq!(lines().verdict(&["protocol", "engine"], 60.0), Ok(()));
    assert_eq!(
        lines().verdict(&["protocol", "engine"], 95.0),
        Err("below 95 %: engine has 66.67 %".to_owned())
    );
    assert!(lines().verdict(&["ctl"], 0.0).is_err());
}

#[test]
fn uncovered_lines_are_named_for_the_files_asked_for() {
    let shown = |part| lines().uncovered(Path::new("/w"), &["protocol", "engine"], part);
    assert_eq!(shown(""), "engine/src/intent.rs:2: \n");
    assert_eq!(shown("ids"), "");
}

#[test]
fn tools_of_another_version_than_the_compilers_are_told_apart() {
    let verbose = "rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
    assert_eq!(version(verbose), Some(("x86_64-unknown-linux-gnu", 22)));
    assert_eq!(version("rustc 1.95.0\n"), None);
    assert!(says_version("Debian LLVM version 22.1.8\n  Optimized", 22));
    assert!(!says_version("Debian LLVM version 14.0.6\n", 22));
    assert!(!says_version("no number", 22));
}

#[test]
fn only_test_programs_of_the_product_and_whole_tests_are_run() {
    let line = |test: bool, directory: &str, kind: &str| {
        format!(
            "{{\"executable\":\"/t/x\",\"manifest_path\":\"/w/{directory}/Cargo.toml\",\
             \"target\":{{\"kind\":[\"{kind}\"]}},\"profile\":{{\"test\":{test}}}}}"
        )
    };
    let found = program(&line(true, "engine", "lib")).expect("it is a test");
    assert_eq!(found.directory, Path::new("/w/engine"));
    assert!(program(&line(true, "tests", "test")).is_some());
    assert!(program(&line(true, "tests", "lib")).is_none());
    assert!(program(&line(false, "tests", "bin")).is_none());
    assert!(program("{\"reason\":\"build-finished\"}").is_none());
}

#[test]
fn options_are_read() {
    let parse = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Options::parse(&words)
    };
    let options = parse(&["--uncovered", "volume", "--seeds", "3"]).expect("they are right");
    assert_eq!(
        (options.seeds, options.uncovered.as_deref()),
        (3, Some("volume"))
    );
    let options = parse(&["--uncovered", "--seeds", "3"]).expect("they are right");
    assert_eq!(options.uncovered.as_deref(), Some(""));
    assert!(parse(&["--seeds"]).is_err());
    assert!(parse(&["--other"]).is_err());
}
