//! `cargo xtask demo`: two nodes on this machine, root not needed.
//!
//! Each node is its own `rbdd` with its own directories, exactly as it would be on a machine of
//! its own. Whatever happens, no process and no file stays behind: a janitor process waits for
//! this one to end, by whatever cause, and clears up.

mod application;
mod node;
mod pattern;
mod status;
mod story;

#[cfg(test)]
mod tests;

use std::env;
use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::process;
use crate::workspace::{self, Workspace};
use node::{Node, Programs};

/// Builds the programs, then tells the whole story.
pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let verbose = match arguments {
        [] => false,
        [option] if option == "--verbose" => true,
        [other, ..] => return Err(format!("unknown option '{other}' of demo")),
    };
    let workspace = Workspace::load()?;
    println!("building rbdd and rbdadm for release (the first time takes a minute or two)");
    let programs = Programs::in_directory(&workspace::build_programs(&workspace)?);
    let start = Instant::now();
    let place = Place::new()?;
    let config = place.directory.join("rbd.conf");
    let mut nodes = Vec::new();
    for name in [ALPHA, BETA] {
        nodes.push(Node::new(
            name,
            &place.directory,
            &config,
            &programs,
            verbose,
        )?);
    }
    let [alpha, beta] = nodes.as_mut_slice() else {
        return Err("two nodes were made, but there are not two".to_owned());
    };
    fs::write(&config, configuration(alpha, beta)?)
        .map_err(|error| format!("cannot write {}: {error}", config.display()))?;
    let outcome = story::tell(alpha, beta, &place.directory);
    match &outcome {
        Ok(()) => println!("\nThe demo took {}.", process::seconds(start.elapsed())),
        Err(_) => {
            alpha.print_log();
            beta.print_log();
        }
    }
    drop(nodes);
    place.leave();
    outcome
}

/// The other end of [`Place`]: waits until the demo has ended, then clears up after it.
pub(crate) fn janitor(arguments: &[String]) -> Result<(), String> {
    let [directory] = arguments else {
        return Err("the janitor takes one directory".to_owned());
    };
    let mut farewell = String::new();
    // Ends when the last holder of the pipe's other end is gone, however it went.
    drop(std::io::stdin().read_to_string(&mut farewell));
    let daemons = daemons_in(directory);
    for pid in &daemons {
        process::signal("KILL", *pid);
    }
    drop(fs::remove_dir_all(directory));
    if farewell.is_empty() {
        eprintln!(
            "\ndemo interrupted: {} daemon(s) ended, {directory} removed",
            daemons.len()
        );
    }
    Ok(())
}

/// The demo's temporary directory, and the janitor that watches over it.
struct Place {
    directory: PathBuf,
    janitor: Child,
}

impl Place {
    fn new() -> Result<Self, String> {
        let directory = tempfile::Builder::new()
            .prefix("rbd-demo-")
            .tempdir()
            .map_err(|error| format!("cannot make a temporary directory: {error}"))?;
        let program =
            env::current_exe().map_err(|error| format!("cannot find my own program: {error}"))?;
        let janitor = Command::new(program)
            .arg(JANITOR_COMMAND)
            .arg(directory.path())
            .stdin(Stdio::piped())
            // Its own group: an interrupt from the keyboard is not meant for it.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start the janitor: {error}"))?;
        Ok(Self {
            directory: directory.keep(),
            janitor,
        })
    }

    /// Lets the janitor clear up and waits until it has.
    fn leave(mut self) {
        use std::io::Write;
        if let Some(mut pipe) = self.janitor.stdin.take() {
            // A janitor that is gone cannot be told; nothing else depends on it.
            drop(pipe.write_all(b"done\n"));
        }
        if process::wait(&mut self.janitor, JANITOR_DEADLINE).is_none() {
            eprintln!("{} could not be removed", self.directory.display());
        }
    }
}

/// Daemons one of whose arguments lies in the directory. The directory's name is not
/// guessable, so they can only be the demo's own.
fn daemons_in(directory: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            is_daemon_in(&String::from_utf8_lossy(&line), directory)
        })
        .collect()
}

fn is_daemon_in(command_line: &str, directory: &str) -> bool {
    let mut words = command_line.split('\0');
    let is_rbdd = words.next().is_some_and(|program| {
        Path::new(program)
            .file_name()
            .is_some_and(|name| name == "rbdd")
    });
    is_rbdd && words.any(|word| word.starts_with(directory))
}

/// A configuration as an administrator would write it, but with everything on this machine.
fn configuration(alpha: &Node, beta: &Node) -> Result<String, String> {
    let mut text = String::from(
        "common {\n  export { nbd unix; kernel none; }\n}\n\nresource r0 {\n  net {\n    \
         protocol C;\n    cram-hmac-alg sha256;\n    shared-secret \"only for the demo\";\n  }\n",
    );
    // Both listeners are held until both ports are known, so that they differ.
    let listeners = [free_port()?, free_port()?];
    for (id, (node, listener)) in [alpha, beta].into_iter().zip(&listeners).enumerate() {
        let address = listener
            .local_addr()
            .map_err(|error| format!("no address: {error}"))?;
        text.push_str(&format!(
            "  on {} {{\n    node-id   {id};\n    address   {address};\n    volume 0 {{\n      \
             device    minor 1;\n      disk      {};\n      meta-disk internal;\n    }}\n  }}\n",
            node.name(),
            node.disk().display(),
        ));
    }
    text.push_str("}\n");
    Ok(text)
}

fn free_port() -> Result<TcpListener, String> {
    TcpListener::bind(("127.0.0.1", 0)).map_err(|error| format!("no free port: {error}"))
}

const ALPHA: &str = "alpha";
const BETA: &str = "beta";

/// How this program is told to be the janitor.
pub(crate) const JANITOR_COMMAND: &str = "demo-janitor";

const JANITOR_DEADLINE: Duration = Duration::from_secs(20);
