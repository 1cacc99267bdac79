//! Applies a log of the kernel's dm-log-writes to a disk, up to the next flush or mark.
//!
//! `rbd-replay-log LOG DISK [ENTRY SECTOR]`. Begins at the start or where it stopped before, and
//! prints where it has stopped and why: `ENTRY SECTOR flush`, `… mark TEXT`, `… end`.

use std::fs::File;
use std::process::ExitCode;

use rbd_tests::write_log::{Position, Stop, WriteLog};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match replay(&arguments) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("rbd-replay-log: {text}");
            ExitCode::from(1)
        }
    }
}

fn replay(arguments: &[String]) -> Result<String, String> {
    let number = |text: &str| {
        let number: Result<u64, _> = text.parse();
        number.map_err(|_| format!("'{text}' is no number"))
    };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (log, disk, at) = match *words {
        [log, disk] => (log, disk, Position::START),
        [log, disk, entry, sector] => {
            let (entry, sector) = (number(entry)?, number(sector)?);
            (log, disk, Position { entry, sector })
        }
        _ => return Err("usage: rbd-replay-log LOG DISK [ENTRY SECTOR]".into()),
    };
    let file = File::open(log).map_err(|error| format!("{log}: {error}"))?;
    let log = WriteLog::open(file).map_err(|error| format!("{log}: {error}"))?;
    let file = File::options().write(true).open(disk);
    let file = file.map_err(|error| format!("{disk}: {error}"))?;
    let applied = log.apply(&file, at);
    let (at, stop) = applied.map_err(|error| format!("{disk}: {error}"))?;
    let why = match stop {
        Stop::Flush => "flush".to_owned(),
        Stop::Mark(text) => format!("mark {text}"),
        Stop::End => "end".to_owned(),
    };
    Ok(format!("{} {} {why}", at.entry, at.sector))
}
