//! The conversation with `rbdd` over its control socket: one request, one reply, one deadline.
//!
//! Knows nothing of what is asked. Whatever goes wrong ends in a failure that names the socket.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rbd_protocol::control::frame::{self, FrameError, HEADER_BYTES};
use rbd_protocol::control::{Reply, Request};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::failure::Failure;

/// Where the daemon is and how long it may take.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    socket: PathBuf,
    run_dir: PathBuf,
    node: String,
    is_default: bool,
    patience: Duration,
}

impl Daemon {
    /// The daemon of `node` whose sockets are in `run_dir`.
    pub(crate) fn new(run_dir: &Path, node: &str, is_default: bool, patience: Duration) -> Self {
        Self {
            socket: run_dir.join("rbdd.sock"),
            run_dir: run_dir.to_owned(),
            node: node.to_owned(),
            is_default,
            patience,
        }
    }

    /// The same daemon, given no more than this much time.
    pub(crate) fn within(&self, patience: Duration) -> Self {
        Self {
            patience: patience.min(self.patience),
            ..self.clone()
        }
    }

    /// The same daemon, given this much time.
    pub(crate) fn given(&self, patience: Duration) -> Self {
        Self {
            patience,
            ..self.clone()
        }
    }

    /// Asks and waits for the answer.
    pub(crate) fn ask(&self, request: &Request) -> Result<Reply, Failure> {
        let deadline = Instant::now() + self.patience;
        let bytes = frame::encode(request).map_err(|error| self.trouble(error.to_string()))?;
        let mut stream = self.connect(deadline)?;
        self.exchange(&mut stream, &bytes, deadline)
    }

    fn connect(&self, deadline: Instant) -> Result<UnixStream, Failure> {
        let unreachable = |errno: Errno| self.unreachable(&errno.to_string(), errno);
        let address = SocketAddrUnix::new(&self.socket).map_err(unreachable)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
            .map_err(unreachable)?;
        loop {
            match connect(&socket, &address) {
                Ok(()) => break,
                // The daemon's queue of connections is full.
                Err(Errno::AGAIN) if Instant::now() < deadline => std::thread::sleep(BREATH),
                Err(Errno::AGAIN) => {
                    return Err(self.trouble(format!("{} {}", NO_ANSWER, self.seconds())));
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(unreachable(errno)),
            }
        }
        let stream = UnixStream::from(socket);
        stream
            .set_nonblocking(false)
            .map_err(|error| self.trouble(error.to_string()))?;
        Ok(stream)
    }

    fn exchange(
        &self,
        stream: &mut UnixStream,
        request: &[u8],
        deadline: Instant,
    ) -> Result<Reply, Failure> {
        let mut unsent = request;
        while !unsent.is_empty() {
            let left = self.time_left(deadline)?;
            let result = stream
                .set_write_timeout(Some(left))
                .and_then(|()| stream.write(unsent));
            match result {
                Ok(count) => unsent = &unsent[count..],
                // It may have refused before reading everything; its answer tells why.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
                Err(error) => self.tolerate(&error)?,
            }
        }
        let mut header = [0; HEADER_BYTES];
        self.fill(stream, &mut header, deadline)?;
        let length = frame::body_length(&header).map_err(|error| self.misunderstood(error))?;
        let mut body = vec![0; length];
        self.fill(stream, &mut body, deadline)?;
        frame::decode(&body).map_err(|error| self.misunderstood(error))
    }

    fn fill(
        &self,
        stream: &mut UnixStream,
        mut buffer: &mut [u8],
        deadline: Instant,
    ) -> Result<(), Failure> {
        while !buffer.is_empty() {
            let left = self.time_left(deadline)?;
            let result = stream
                .set_read_timeout(Some(left))
                .and_then(|()| stream.read(buffer));
            match result {
                Ok(0) => return Err(self.trouble(HUNG_UP)),
                Ok(count) => buffer = &mut buffer[count..],
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(self.trouble(HUNG_UP));
                }
                Err(error) => self.tolerate(&error)?,
            }
        }
        Ok(())
    }

    /// An interruption or a timeout leads to another look at the deadline.
    fn tolerate(&self, error: &std::io::Error) -> Result<(), Failure> {
        match error.kind() {
            ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(()),
            _ => Err(self.trouble(error.to_string())),
        }
    }

    fn time_left(&self, deadline: Instant) -> Result<Duration, Failure> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.trouble(format!(
                "{NO_ANSWER} {}; what was asked may still happen",
                self.seconds()
            )));
        }
        Ok(left)
    }

    fn seconds(&self) -> String {
        format!("{} s", self.patience.as_secs_f64())
    }

    fn trouble(&self, reason: impl Into<String>) -> Failure {
        Failure::Conversation {
            socket: self.socket.clone(),
            reason: reason.into(),
        }
    }

    fn misunderstood(&self, error: FrameError) -> Failure {
        match error {
            FrameError::Version { .. } => self.trouble(format!(
                "{error}; install rbdd and rbdadm of the same version, then restart rbdd"
            )),
            FrameError::NotAFrame | FrameError::TooLong { .. } | FrameError::Malformed => {
                self.trouble(format!("{error}; is another program listening there?"))
            }
        }
    }

    fn unreachable(&self, reason: &str, errno: Errno) -> Failure {
        let help = match errno {
            Errno::ACCESS | Errno::PERM => "run rbdadm as the user that runs rbdd".to_owned(),
            Errno::NAMETOOLONG | Errno::INVAL => {
                "choose a shorter run directory (a socket's path has at most 107 bytes)".to_owned()
            }
            _ => {
                let run_dir = self.run_dir.display();
                let service = if self.is_default {
                    " or: systemctl start rbdd"
                } else {
                    ""
                };
                format!(
                    "start it: rbdd --node {} --run-dir {run_dir}{service}",
                    self.node
                )
            }
        };
        Failure::Unreachable {
            socket: self.socket.clone(),
            reason: reason.to_owned(),
            help,
            nobody_listens: matches!(errno, Errno::NOENT | Errno::CONNREFUSED),
        }
    }
}

const NO_ANSWER: &str = "no answer within";
const HUNG_UP: &str = "it closed the conversation without an answer";
/// Pause while the daemon's queue of connections is full.
const BREATH: Duration = Duration::from_millis(20);
