//! Reads every configuration of the corpus: good ones resolve for all their hosts and survive
//! being printed, bad and refused ones end in exactly the messages written beside them.
//!
//! With `RBD_WRITE_EXPECTED=1` in the environment the expectations are written instead of
//! compared, to be read by a person before they are committed.

#![expect(clippy::unwrap_used, reason = "helpers of tests may end a test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use rbdadm::config::{self, Config, Diagnostics, MachineFiles, ResolvedResource};

/// The configurations in one directory of the corpus, sorted.
fn configurations(directory: &str) -> Vec<PathBuf> {
    let directory = Path::new("tests/corpus").join(directory);
    let entries = fs::read_dir(directory).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| {
        path.extension()
            .is_some_and(|end| end == "res" || end == "conf")
    });
    paths.sort();
    assert!(!paths.is_empty());
    paths
}

fn headlines(messages: &Diagnostics) -> String {
    messages
        .list()
        .iter()
        .map(|message| message.headline() + "\n")
        .collect()
}

/// Compares with the file of the same name and another ending; an absent one is empty.
fn compare(path: &Path, ending: &str, found: &str) {
    let expected_path = path.with_extension(ending);
    if std::env::var_os("RBD_WRITE_EXPECTED").is_some() {
        if found.is_empty() {
            drop(fs::remove_file(expected_path));
        } else {
            fs::write(expected_path, found).unwrap();
        }
        return;
    }
    let expected = fs::read_to_string(&expected_path).unwrap_or_default();
    assert_eq!(found, expected, "{} differs", expected_path.display());
}

fn load(path: &Path) -> Config {
    config::load(path).unwrap_or_else(|wrong| panic!("{wrong}"))
}

/// Everything the configuration means, for each of its hosts, without the places.
fn meaning(config: &Config) -> Vec<(String, Vec<ResolvedResource>)> {
    let hosts: BTreeSet<&str> = config.host_names().into_iter().collect();
    let each = hosts.into_iter().map(|host| {
        let mut resolved = config
            .resolve(host)
            .unwrap_or_else(|wrong| panic!("{wrong}"));
        for resource in &mut resolved {
            resource.defined_at.file.clear();
            resource.defined_at.line = 0;
            resource.warnings.clear();
        }
        (host.to_owned(), resolved)
    });
    each.collect()
}

#[test]
fn every_good_configuration_is_read_with_exactly_the_expected_warnings() {
    for path in configurations("good") {
        let config = load(&path);
        compare(&path, "warnings", &headlines(config.warnings()));
    }
}

#[test]
fn every_good_configuration_means_the_same_after_being_printed() {
    for path in configurations("good") {
        let config = load(&path);
        let printed = config.dump("alpha", &[]).unwrap();
        let again = config::load_text(&MachineFiles, "printed", printed.clone().into_bytes());
        let again = again.unwrap_or_else(|wrong| panic!("{}: {wrong}{printed}", path.display()));
        assert_eq!(
            meaning(&config),
            meaning(&again),
            "{}:\n{printed}",
            path.display()
        );
        let places_apart = |text: &str| -> Vec<String> {
            text.lines()
                .filter(|line| !line.starts_with('#'))
                .map(str::to_owned)
                .collect()
        };
        let twice = again.dump("alpha", &[]).unwrap();
        assert_eq!(
            places_apart(&twice),
            places_apart(&printed),
            "{}",
            path.display()
        );
    }
}

#[test]
fn every_bad_configuration_ends_in_exactly_the_expected_messages() {
    for path in configurations("bad") {
        let wrong = config::load(&path).expect_err(&path.display().to_string());
        compare(&path, "expected", &headlines(&wrong));
        assert!(wrong.list().len() <= 20);
    }
}

#[test]
fn every_option_whose_loss_would_cost_data_is_refused_with_its_reason() {
    for path in configurations("refused") {
        let wrong = config::load(&path).expect_err(&path.display().to_string());
        compare(&path, "expected", &headlines(&wrong));
        assert_eq!(wrong.exit_code(), 10);
    }
}

#[test]
fn every_message_about_a_place_shows_the_line_with_a_mark() {
    for path in configurations("bad")
        .into_iter()
        .chain(configurations("refused"))
    {
        let Err(wrong) = config::load(&path) else {
            continue;
        };
        for message in wrong.list() {
            let text = message.render(false);
            assert!(text.starts_with(&message.headline()), "{text}");
            assert!(message.place.is_none() || text.contains('^'), "{text}");
            let harmless = text.chars().all(|c| !c.is_control() || c == '\n');
            assert!(harmless, "{text:?}");
        }
    }
}
