//! `cargo xtask torture`: pairs of real daemons hurt at random, round after round, for as long as
//! wanted: half of the time without, half of it with power cuts and disks that fail.

use std::process::Command;

use crate::{process, workspace};

/// Runs `rbd-torture`, built for release.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let (minutes, seed) = parse(arguments)?;
    let workspace = workspace::Workspace::load()?;
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--bins"]);
    process::run(build.args(["-p", "rbd-replicator", "-p", "rbdadm", "-p", "rbd-tests"]))?;
    let programs = workspace.release_directory();
    for more in [None, Some("--faults")] {
        let mut torture = Command::new(programs.join("rbd-torture"));
        torture.env("RBD_TEST_BIN_DIR", &programs);
        torture.args(["--seconds", &(30 * minutes).to_string()]);
        if let Some(seed) = seed {
            torture.args(["--seed", &seed.to_string()]);
        }
        torture.args(more);
        process::run(&mut torture)?;
    }
    Ok(())
}

fn parse(arguments: &[String]) -> Result<(u64, Option<u64>), String> {
    let (mut minutes, mut seed) = (10, None);
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        let value = value.ok_or_else(|| format!("{argument} takes a number"));
        match argument.as_str() {
            "--minutes" => minutes = value?,
            "--seed" => seed = Some(value?),
            other => return Err(format!("unknown option '{other}' of torture")),
        }
    }
    if minutes == 0 {
        return Err("--minutes takes a number above 0".into());
    }
    Ok((minutes, seed))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn options_are_read_and_others_refused() {
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            parse(&words)
        };
        assert_eq!(read(&[]), Ok((10, None)));
        let both = ["--minutes", "5", "--seed", "7"];
        assert_eq!(read(&both), Ok((5, Some(7))));
        for wrong in [&["--minutes"][..], &["--minutes", "0"], &["--hours", "1"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
