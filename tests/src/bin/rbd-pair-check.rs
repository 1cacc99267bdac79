//! Compares the two disks of a volume at rest: every block that differs must be marked as out of
//! sync by the metadata of one of them (A2, B9, B10, C1).
//!
//! `rbd-pair-check A.img B.img [--meta-a FILE[IDX]] [--meta-b FILE[IDX]]`. Exit codes: 0 all
//! marked, 1 something cannot be read, 2 some block is not marked. For disks nobody uses, after a
//! crash of both nodes or an orderly stop; never writes.

use std::process::ExitCode;

use rbd_tests::check::{MetaPlace, Replica, compare_with_marks};

fn main() -> ExitCode {
    let replicas = match read(std::env::args().skip(1)) {
        Ok(replicas) => replicas,
        Err(text) => {
            eprintln!("rbd-pair-check: {text}");
            eprintln!(
                "usage: rbd-pair-check A.img B.img [--meta-a FILE[IDX]] [--meta-b FILE[IDX]]"
            );
            return ExitCode::from(1);
        }
    };
    let marks = match compare_with_marks(replicas.each_ref()) {
        Ok(marks) => marks,
        Err(text) => {
            eprintln!("rbd-pair-check: {text}");
            return ExitCode::from(1);
        }
    };
    println!(
        "{} blocks differ, {} are marked",
        marks.differing, marks.marked
    );
    for run in &marks.uncovered {
        println!(
            "UNCOVERED: blocks {}..{} (bytes {}..{}) differ and neither disk says so",
            run.start,
            run.end,
            run.start * 4096,
            run.end * 4096
        );
    }
    if marks.uncovered.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    }
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<[Replica; 2], String> {
    let mut disks = Vec::new();
    let mut metadata = [None, None];
    while let Some(argument) = arguments.next() {
        let place = match &*argument {
            "--meta-a" => &mut metadata[0],
            "--meta-b" => &mut metadata[1],
            option if option.starts_with('-') => return Err(format!("unknown option '{option}'")),
            disk => {
                disks.push(Replica::internal(disk));
                continue;
            }
        };
        let value = arguments.next().ok_or(format!("{argument} needs a file"))?;
        *place = Some(MetaPlace::named(&value));
    }
    let found = disks.len();
    let mut disks: [Replica; 2] = disks
        .try_into()
        .map_err(|_| format!("two disks are needed, found {found}"))?;
    for (disk, metadata) in disks.iter_mut().zip(metadata) {
        disk.metadata = metadata;
    }
    Ok(disks)
}
