//! The rules of `check` on small texts.

use std::path::Path;

use super::imports;
use super::invariants::invariants;
use super::purity::{contains_word, source_complaints};
use super::scripts::is_script;
use super::tidy::{as_text, is_test, path_complaints, rust_complaints};
use crate::workspace::{Package, Workspace};

fn pure(text: &str) -> Vec<String> {
    source_complaints(Path::new("lib.rs"), text)
}

#[test]
fn std_in_production_code_is_a_complaint_with_its_line() {
    assert_eq!(
        pure("use core::fmt;\nuse std::time;\n"),
        ["lib.rs:2: std::"]
    );
    assert_eq!(pure("    let m: HashMap<u8, u8>;\n"), ["lib.rs:1: HashMap"]);
    assert_eq!(pure("extern crate std;\n"), ["lib.rs:1: extern crate std"]);
}

#[test]
fn std_in_comments_names_and_test_items_is_none() {
    assert!(pure("// std::time would be a clock\n//! std::\n").is_empty());
    assert!(pure("use my_std::time;\n").is_empty());
    assert!(pure("#[cfg(test)]\nextern crate std;\n").is_empty());
    assert!(pure("#[cfg(test)]\nmod tests {\n use std::vec;\n fn f() {}\n}\n").is_empty());
}

#[test]
fn a_test_item_ends_where_its_braces_do() {
    let text = "#[cfg(test)]\nmod tests {\n fn f() { }\n}\nuse std::fs;\n";
    assert_eq!(pure(text), ["lib.rs:5: std::"]);
    let text = "#[cfg(test)]\nmod tests;\nuse std::fs;\n";
    assert_eq!(pure(text), ["lib.rs:3: std::"]);
}

#[test]
fn words_are_found_whole() {
    assert!(contains_word("a HashMap<u8>", "HashMap"));
    assert!(!contains_word("FxHashMap", "HashMap"));
    assert!(!contains_word("HashMapLike", "HashMap"));
    assert!(contains_word("::std::io", "std::"));
}

#[test]
fn a_rust_file_needs_its_header_before_anything_but_attributes() {
    let file = Path::new("engine/src/lib.rs");
    assert!(rust_complaints(file, "//! The mind.\n#![no_std]\n").is_empty());
    assert!(rust_complaints(file, "#![no_std]\n\n//! The mind.\n").is_empty());
    assert_eq!(
        rust_complaints(file, "use core::fmt;\n//! Late.\n").len(),
        1
    );
    assert_eq!(rust_complaints(file, "").len(), 1);
}

#[test]
fn long_files_long_lines_and_unfinished_work_are_complaints() {
    let long = format!("//! x\n{}", "fn f() {}\n".repeat(500));
    assert_eq!(rust_complaints(Path::new("a/src/b.rs"), &long).len(), 1);
    assert!(rust_complaints(Path::new("a/src/tests.rs"), &long).is_empty());
    let wide = format!("//! x\n// {}\n", "é".repeat(98));
    assert_eq!(rust_complaints(Path::new("b.rs"), &wide).len(), 1);
    let marked = format!("//! x\n// {}: later\n", ["FIX", "ME"].concat());
    assert_eq!(rust_complaints(Path::new("b.rs"), &marked).len(), 1);
}

#[test]
fn a_private_path_is_found_only_at_its_beginning() {
    let private = ["/somewhere/".to_owned()];
    let judge = |line: &str| path_complaints(Path::new("a.md"), line, &private).len();
    assert_eq!(judge("see /somewhere/alice/x"), 1);
    assert_eq!(judge("see /srv/somewhere/x"), 0);
    assert_eq!(judge("see $ROOT/somewhere/x"), 0);
}

#[test]
fn only_fixtures_may_be_something_else_than_utf_8() {
    let judge = |path| as_text(Path::new(path), vec![b'a', 0xff]);
    assert!(judge("ctl/tests/corpus/bad/latin-1.res").is_some());
    assert_eq!(judge("ctl/tests/corpus.rs"), None);
    assert_eq!(judge("docs/example.conf"), None);
}

#[test]
fn test_files_are_known_by_their_place() {
    assert!(is_test(Path::new("engine/src/state/tests.rs")));
    assert!(is_test(Path::new("tests/src/cluster.rs")));
    assert!(!is_test(Path::new("engine/src/contests.rs")));
}

#[test]
fn a_script_begins_by_naming_a_shell() {
    assert!(is_script(b"#!/bin/sh\nexit 0\n"));
    assert!(is_script(b"#!/usr/bin/env bash\n"));
    assert!(!is_script(b"#!/usr/bin/python3\n"));
    assert!(!is_script(b"[Unit]\n"));
}

#[test]
fn a_crate_may_import_only_what_its_place_allows() {
    let package = |name: &str, dependencies: &[&str]| Package {
        name: name.to_owned(),
        dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
        integration_tests: Vec::new(),
    };
    let mut workspace = Workspace {
        root: "/".into(),
        target_directory: "/".into(),
        packages: vec![
            package("rbd-protocol", &["crc32fast"]),
            package("rbd-engine", &["rbd-protocol"]),
            package("rbdadm", &["rbd-protocol", "clap"]),
        ],
    };
    assert!(imports::complaints(&workspace).is_empty());
    workspace
        .packages
        .push(package("rbd-replicator", &["rbdadm"]));
    workspace.packages.push(package("surprise", &[]));
    let found = imports::complaints(&workspace);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0], "rbd-replicator must not depend on rbdadm");
}

#[test]
fn a_dependency_without_a_reason_is_a_complaint() {
    let manifest = "[workspace.dependencies]\nours = { path = \"ours\" }\nclap = \"4\"\n\
                    tokio = { version = \"1\" }\n\n[workspace.lints.rust]\nother = \"warn\"\n";
    let found = imports::unexplained(manifest, "| `clap` | MIT | ctl | because |\n");
    assert_eq!(
        found,
        ["docs/decisions/dependencies.md: no row says why we depend on tokio"]
    );
}

#[test]
fn cargo_metadata_is_read_by_kind() {
    let workspace = Workspace::from_metadata(
        r#"{"workspace_root":"/w","target_directory":"/w/target","packages":[{"name":"a",
            "dependencies":[{"name":"b","kind":null},{"name":"c","kind":"dev"}],
            "targets":[{"name":"a","kind":["lib"]},{"name":"process","kind":["test"]}]}]}"#,
    )
    .unwrap();
    let package = &workspace.packages[0];
    assert_eq!(package.dependencies, ["b"]);
    assert_eq!(package.integration_tests, ["process"]);
    assert!(Workspace::from_metadata("{}").is_err());
}

#[test]
fn invariants_are_read_with_who_checks_them() {
    let text = "| Id | Holds | Checked |\n|---|---|---|\n| A1 | so | reg |\n| E6–E8 | so | – |\n";
    let found = invariants(text);
    let found: Vec<(&str, &str)> = found
        .iter()
        .map(|(id, checked)| (id.as_str(), checked.as_str()))
        .collect();
    assert_eq!(
        found,
        [("A1", "reg"), ("E6", "–"), ("E7", "–"), ("E8", "–")]
    );
}
