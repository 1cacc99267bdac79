//! What a resync is measured against: a plain copy between two files of the same disk, and a plain
//! TCP connection over the same link.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::Ground;
use crate::process::{self, Daemon};

/// Bytes a second of a copy past the page cache, made durable at its end, as a resync does it: both
/// nodes' files are on one disk here, and it reads the one while it writes the other.
pub(super) fn disk(from: &Path, to: &Path, bytes: u64) -> Result<f64, String> {
    let mut command = Command::new("dd");
    command
        .arg(format!("if={}", from.display()))
        .arg(format!("of={}", to.display()))
        .arg(format!("count={}", bytes >> 20))
        .args(["bs=1M", "iflag=direct", "oflag=direct"])
        .args(["conv=notrunc,fdatasync", "status=none"]);
    let start = Instant::now();
    process::succeed(&mut command, DEADLINE)?;
    Ok(per_second(bytes, start))
}

/// Bytes a second from the first node to the second.
pub(super) fn link(ground: &Ground<'_>, bytes: u64) -> Result<f64, String> {
    let program =
        std::env::current_exe().map_err(|error| format!("cannot find my own program: {error}"))?;
    let port = ground.place.run().join("link.port");
    drop(fs::remove_file(&port)); // of the last time
    let address = ground.network.address(1);
    let mut sink = ground.network.command(1, &program);
    sink.args([LINK_SINK, address]).arg(&port);
    let log = ground.place.run().join("link.log");
    let mut sink = Daemon::start("the link's sink", sink, &log)?;
    sink.wait_until(|| fs::read(&port).is_ok_and(|text| text.ends_with(b"\n")))?;
    let number = fs::read_to_string(&port)
        .map_err(|error| format!("cannot read {}: {error}", port.display()))?;
    let mut source = ground.network.command(0, &program);
    source.arg(LINK_SOURCE);
    source.arg(format!("{address}:{}", number.trim()));
    source.arg(bytes.to_string());
    let said = process::succeed(&mut source, DEADLINE)?;
    said.trim()
        .parse()
        .map_err(|_| format!("the link's source said '{}'", said.trim()))
}

/// The command that receives: it listens at an address, tells its port in a file, takes one
/// connection, and answers with a byte when everything has come.
pub(crate) fn link_sink(arguments: &[String]) -> Result<(), String> {
    let [address, file] = arguments else {
        return Err("the link's sink takes an address and a file".to_owned());
    };
    let lost = |error| format!("the link's sink: {error}");
    let listener = TcpListener::bind((address.as_str(), 0)).map_err(lost)?;
    let port = listener.local_addr().map_err(lost)?.port();
    fs::write(PathBuf::from(file), format!("{port}\n")).map_err(lost)?;
    let (mut stream, _) = listener.accept().map_err(lost)?;
    stream.set_read_timeout(Some(SILENCE)).map_err(lost)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    while stream.read(&mut buffer).map_err(lost)? > 0 {}
    stream.write_all(&[1]).map_err(lost)
}

/// The command that sends so many bytes, waits until they have come, and prints the bytes a second.
pub(crate) fn link_source(arguments: &[String]) -> Result<(), String> {
    let [address, bytes] = arguments else {
        return Err("the link's source takes an address and a number".to_owned());
    };
    let bytes: u64 = bytes
        .parse()
        .map_err(|_| format!("'{bytes}' is no number of bytes"))?;
    let lost = |error| format!("the link's source: {error}");
    let mut stream = TcpStream::connect(address).map_err(lost)?;
    stream.set_read_timeout(Some(SILENCE)).map_err(lost)?;
    stream.set_write_timeout(Some(SILENCE)).map_err(lost)?;
    let buffer = vec![7; BUFFER_BYTES];
    let start = Instant::now();
    let mut left = bytes;
    while left > 0 {
        let length = usize::try_from(left).map_or(BUFFER_BYTES, |left| left.min(BUFFER_BYTES));
        stream
            .write_all(buffer.get(..length).unwrap_or(&buffer))
            .map_err(lost)?;
        left -= length as u64;
    }
    stream.shutdown(Shutdown::Write).map_err(lost)?;
    stream.read_exact(&mut [0]).map_err(lost)?;
    println!("{:.0}", per_second(bytes, start));
    Ok(())
}

fn per_second(bytes: u64, start: Instant) -> f64 {
    bytes as f64 / start.elapsed().as_secs_f64().max(1e-6)
}

/// How this program is told to be an end of the link's measurement.
pub(crate) const LINK_SINK: &str = "link-sink";
pub(crate) const LINK_SOURCE: &str = "link-source";

const BUFFER_BYTES: usize = 256 << 10;

/// A link on which nothing moves for so long is broken.
const SILENCE: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(600);
