//! Faults and power by words: one command a line, one answer a line.
//!
//! ```text
//! fault ON EFFECT [file=NAME] [range=FROM..TO] [after=N] [times=N]     prints the fault's number
//!     ON:     read | write | flush | any
//!     EFFECT: EIO | ENOSPC | short | hang | flip | delay=MILLISECONDS
//! hits NUMBER          how often a fault has happened
//! clear                nothing goes wrong any more
//! release              what hangs is done, late
//! latency MILLISECONDS every write and flush takes up to so long
//! power-cut SEED       the unflushed is lost, as chance decides; everything fails
//! power-on             everything works again
//! status               power, requests under way, sectors not flushed
//! ```

use std::io::{self, BufRead, BufReader, Write};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::{Disks, Effect, Fault, FaultId, On};

/// Does what a line says.
///
/// # Errors
/// Why not.
pub fn obey(disks: &Disks, line: &str) -> Result<String, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let ok = || Ok("ok".to_owned());
    match *words.as_slice() {
        ["fault", on, effect, ref more @ ..] => {
            let FaultId(number) = disks.set(fault(on, effect, more)?);
            Ok(number.to_string())
        }
        ["hits", number_of] => Ok(disks.hits(FaultId(number(number_of)?)).to_string()),
        ["clear"] => {
            disks.clear();
            ok()
        }
        ["release"] => {
            disks.release();
            ok()
        }
        ["latency", milliseconds] => {
            disks.set_latency(Duration::from_millis(number(milliseconds)?));
            ok()
        }
        ["power-cut", seed] => {
            disks.power_cut(number(seed)?);
            ok()
        }
        ["power-on"] => {
            disks.power_on();
            ok()
        }
        ["status"] => Ok(format!(
            "power {}, {} requests under way, {} sectors not flushed, {} faults happened",
            if disks.is_powered() { "on" } else { "off" },
            disks.under_way(),
            disks.unflushed(),
            disks.all_hits()
        )),
        _ => Err(format!("unknown command '{line}'")),
    }
}

/// Does what comes over a socket, for as long as it is there.
///
/// # Errors
/// When nobody can connect.
pub fn serve(disks: &Disks, socket: &UnixListener) -> io::Result<()> {
    for stream in socket.incoming() {
        let stream = stream?;
        let mut answers = stream.try_clone()?;
        for line in BufReader::new(stream).lines() {
            let Ok(line) = line else { break };
            let answer = match obey(disks, &line) {
                Ok(answer) => format!("{answer}\n"),
                Err(error) => format!("error: {error}\n"),
            };
            if answers.write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    }
    Ok(())
}

/// Sends a command to a socket and returns the answer.
///
/// # Errors
/// When nobody answers.
pub fn ask(socket: &Path, line: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{line}\n").as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(answer.trim_end().to_owned())
}

fn fault(on: &str, effect: &str, more: &[&str]) -> Result<Fault, String> {
    let on = match on {
        "read" => On::Read,
        "write" => On::Write,
        "flush" => On::Flush,
        "any" => On::Any,
        other => return Err(format!("'{other}' is no kind of request")),
    };
    let effect = match effect.split_once('=').unwrap_or((effect, "")) {
        ("EIO", "") => Effect::Error(Errno::IO),
        ("ENOSPC", "") => Effect::Error(Errno::NOSPC),
        ("short", "") => Effect::Short,
        ("hang", "") => Effect::Hang,
        ("flip", "") => Effect::FlipBit,
        ("delay", time) => Effect::Delay(Duration::from_millis(number(time)?)),
        _ => return Err(format!("'{effect}' is no effect")),
    };
    let mut fault = Fault::new(on, effect);
    for option in more {
        match option.split_once('=') {
            Some(("file", name)) => fault.file = Some(name.to_owned()),
            Some(("range", text)) => fault.range = range(text)?,
            Some(("after", count)) => fault.after = number(count)?,
            Some(("times", count)) => fault.times = Some(number(count)?.max(1)),
            _ => return Err(format!("'{option}' is no option of a fault")),
        }
    }
    Ok(fault)
}

fn range(text: &str) -> Result<Range<u64>, String> {
    let (from, to) = text
        .split_once("..")
        .ok_or_else(|| format!("'{text}' is no range: FROM..TO"))?;
    Ok(number(from)?..number(to)?)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is no number"))
}

/// A command takes no time; only a program that is gone does not answer.
const PATIENCE: Duration = Duration::from_secs(10);
