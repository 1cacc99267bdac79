//! Disks that lose power and fail on command, for programs that want files.
//!
//! ```text
//! rbd-faultfs mount MEDIA AT [--direct] [--socket PATH]
//! rbd-faultfs ask SOCKET COMMAND…
//! ```
//!
//! `mount` serves every file in the directory MEDIA as a disk with a volatile cache in the
//! directory AT, until that is unmounted; commands are taken at the socket, `MEDIA/../faultfs.sock`
//! unless said otherwise. `ask` gives one: docs/testing.md lists them. Root only.

use std::env;
use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;

use rbd_tests::faultfs::{FaultFs, Opening, ask, serve};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match *words.as_slice() {
        ["mount", media, at, ref options @ ..] => mount(media, at, options),
        ["ask", socket, ref command @ ..] if !command.is_empty() => {
            answer(socket, &command.join(" "))
        }
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rbd-faultfs: {error}");
            ExitCode::from(1)
        }
    }
}

fn mount(media: &str, at: &str, mut options: &[&str]) -> Result<(), String> {
    let mut opening = Opening::Buffered;
    let mut socket: PathBuf = Path::new(media).join("../faultfs.sock");
    loop {
        match *options {
            [] => break,
            ["--direct", ref rest @ ..] => {
                opening = Opening::Direct;
                options = rest;
            }
            ["--socket", path, ref rest @ ..] => {
                socket = path.into();
                options = rest;
            }
            [other, ..] => return Err(format!("unknown option '{other}'\n{USAGE}")),
        }
    }
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    // One that an earlier run has left; in any other case binding will say what is wrong.
    drop(fs::remove_file(&socket));
    let listener =
        UnixListener::bind(&socket).map_err(|error| failed(&socket.to_string_lossy(), error))?;
    let disks = FaultFs::mount(Path::new(media), Path::new(at), opening)
        .map_err(|error| failed(&format!("cannot mount {media} at {at}"), error))?;
    println!(
        "{media} is served at {at}; commands to {}",
        socket.display()
    );
    let control = disks.clone();
    thread::spawn(move || serve(&control, &listener));
    let served = disks.serve().map_err(|error| failed(at, error));
    drop(fs::remove_file(&socket));
    served
}

fn answer(socket: &str, command: &str) -> Result<(), String> {
    let answer = ask(Path::new(socket), command).map_err(|error| format!("{socket}: {error}"))?;
    if let Some(error) = answer.strip_prefix("error: ") {
        return Err(error.to_owned());
    }
    println!("{answer}");
    Ok(())
}

const USAGE: &str = "usage: rbd-faultfs mount MEDIA AT [--direct] [--socket PATH]\n       \
                     rbd-faultfs ask SOCKET COMMAND…";
