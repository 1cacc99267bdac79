//! Orders to the kernel's NBD client. Every call blocks, as long as the driver takes; no request of
//! a device passes here.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::netlink::{GENERIC, SocketAddrNetlink};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::message::{Answer, CutOff, Details, Order, find_family, order};

/// The driver, spoken to.
#[derive(Debug)]
pub(crate) struct Control {
    socket: OwnedFd,
    family: u16,
    sequence: u32,
}

/// What a new device is to be like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) size_bytes: u64,
    pub(crate) block_bytes: u32,
    /// What the server can do.
    pub(crate) flags: u16,
    /// How its owner will know it again.
    pub(crate) owner: &'a str,
    /// The longest payload of a request.
    pub(crate) payload_bytes: u32,
}

/// Why the driver did not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// No such family: no module.
    #[error("the kernel has no NBD client; load its module: modprobe nbd")]
    NoModule,
    /// There is no talking to it.
    #[error("netlink: {0}")]
    Netlink(#[source] io::Error),
    /// Its answer is none.
    #[error("netlink: {0}")]
    Answer(#[from] CutOff),
    /// Only root may.
    #[error("the kernel's NBD client takes orders from root only")]
    NotRoot,
    /// Every device has a server.
    #[error("every /dev/nbd* is in use, and the driver makes no more: rmmod nbd, modprobe nbd")]
    AllTaken,
    /// It will not.
    #[error("the kernel's NBD client refused to {what}: {source}")]
    Refused {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// It cannot keep requests for a new server.
    #[error(
        "this kernel's NBD client does not know its devices again after a crash; Linux 5.14 or \
         newer is needed"
    )]
    NoBackend,
}

impl Control {
    /// Finds the driver; the kernel loads its module if it has one.
    pub(crate) fn open() -> Result<Self, ControlError> {
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(GENERIC),
        );
        let socket = socket.map_err(netlink)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER_LIMIT)).map_err(netlink)?;
        rustix::net::connect(&socket, &SocketAddrNetlink::new(0, 0)).map_err(netlink)?;
        let mut control = Self {
            socket,
            family: 0,
            sequence: 0,
        };
        let answer = control.ask(find_family)?;
        control.family = answer.family().ok_or(ControlError::NoModule)?;
        Ok(control)
    }

    /// Makes a device that speaks to its server over this socket, and says its number.
    pub(crate) fn connect(
        &mut self,
        socket: BorrowedFd<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<u32, ControlError> {
        let details = Details {
            device: None,
            size_bytes: Some(wanted.size_bytes),
            block_bytes: Some(wanted.block_bytes),
            flags: Some(wanted.flags),
            socket: Some(number_of(socket)),
            backend: Some(wanted.owner),
            // A device of a node that waits for a peer or a handler is not slow.
            answer_seconds: Some(0),
            dead_seconds: Some(DEAD_SECONDS),
        };
        let what = "make a device";
        let answer = match self.order(what, Order::Connect, &details) {
            Err(ControlError::Refused { source, .. })
                if matches!(
                    Errno::from_io_error(&source),
                    Some(Errno::BUSY | Errno::NOSPC | Errno::NODEV)
                ) =>
            {
                return Err(ControlError::AllTaken);
            }
            answer => answer?,
        };
        let no_number = || ControlError::Netlink(io::Error::other("a device without a number"));
        let device = answer.device().ok_or_else(no_number)?;
        if owner(device).as_deref() != Some(wanted.owner) {
            self.disconnect(device)?;
            return Err(ControlError::NoBackend);
        }
        // None of these is needed to serve it.
        let most = (wanted.payload_bytes >> 10).to_string();
        for (attribute, value) in [("io_timeout", LOOK_AGAIN), ("max_sectors_kb", &most)] {
            if let Err(error) = fs::write(queue(device).join(attribute), value) {
                tracing::debug!(%error, "/dev/nbd{device}: {attribute} stays as it is");
            }
        }
        Ok(device)
    }

    /// Gives a device whose connection is dead a new one; what waited is sent again.
    pub(crate) fn join(
        &mut self,
        device: u32,
        owner: &str,
        socket: BorrowedFd<'_>,
    ) -> Result<(), ControlError> {
        let details = Details {
            device: Some(device),
            backend: Some(owner),
            socket: Some(number_of(socket)),
            ..Details::default()
        };
        let what = "join a device again";
        self.order(what, Order::Reconfigure, &details)?;
        Ok(())
    }

    /// Changes the size of a device, which tells those who have it open.
    pub(crate) fn resize(
        &mut self,
        device: u32,
        owner: &str,
        size_bytes: u64,
    ) -> Result<(), ControlError> {
        let details = Details {
            device: Some(device),
            backend: Some(owner),
            size_bytes: Some(size_bytes),
            ..Details::default()
        };
        let what = "change the size of a device";
        self.order(what, Order::Reconfigure, &details)?;
        Ok(())
    }

    /// Lets a device go, for good even while somebody has it open; what it has under way fails.
    pub(crate) fn remove(&mut self, device: u32) -> Result<(), ControlError> {
        if let Err(error) = fs::write(queue(device).join("io_timeout"), REMOVED) {
            tracing::debug!(%error, "/dev/nbd{device} is not marked as removed");
        }
        self.disconnect(device)
    }

    fn disconnect(&mut self, device: u32) -> Result<(), ControlError> {
        let details = Details {
            device: Some(device),
            ..Details::default()
        };
        let what = "let a device go";
        self.order(what, Order::Disconnect, &details)?;
        Ok(())
    }

    fn order(
        &mut self,
        what: &'static str,
        kind: Order,
        details: &Details<'_>,
    ) -> Result<Answer, ControlError> {
        let family = self.family;
        let answer = self.ask(|sequence| order(family, sequence, kind, details))?;
        match answer.result {
            Some(result @ ..0) => {
                let source = io::Error::from_raw_os_error(-result);
                Err(match Errno::from_io_error(&source) {
                    Some(Errno::PERM) => ControlError::NotRoot,
                    _ => ControlError::Refused { what, source },
                })
            }
            Some(_) | None => Ok(answer),
        }
    }

    /// Sends a message and takes its answer, to the end.
    fn ask(&mut self, message: impl FnOnce(u32) -> Vec<u8>) -> Result<Answer, ControlError> {
        self.sequence += 1;
        let message = message(self.sequence);
        rustix::net::send(&self.socket, &message, SendFlags::empty()).map_err(netlink)?;
        let mut answer = Answer::default();
        let mut buffer = vec![0; BUFFER_BYTES];
        while answer.result.is_none() {
            let received = rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::empty());
            let (_, length) = match received {
                Err(Errno::INTR) => continue,
                received => received.map_err(netlink)?,
            };
            answer.absorb(buffer.get(..length).unwrap_or_default(), self.sequence)?;
        }
        Ok(answer)
    }
}

/// Whether the module is there.
pub(crate) fn is_loaded() -> bool {
    Path::new("/sys/module/nbd").exists()
}

/// The devices of this owner that have not been removed.
pub(crate) fn owned(owner: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(CLASS) else {
        return Vec::new();
    };
    let number = |entry: fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("nbd")?.parse().ok()
    };
    let numbers = entries.filter_map(Result::ok).filter_map(number);
    let is_owned = |device: &u32| self::owner(*device).as_deref() == Some(owner);
    let mut owned: Vec<u32> = numbers
        .filter(is_owned)
        .filter(|device| !is_removed(*device))
        .collect();
    owned.sort_unstable();
    owned
}

/// Who has made a device, as he has told the driver.
fn owner(device: u32) -> Option<String> {
    let file = Path::new(CLASS).join(format!("nbd{device}/backend"));
    let text = fs::read_to_string(file).ok()?;
    Some(text.trim_end().to_owned())
}

fn is_removed(device: u32) -> bool {
    let text = fs::read_to_string(queue(device).join("io_timeout"));
    text.is_ok_and(|text| text.trim() == REMOVED)
}

fn queue(device: u32) -> PathBuf {
    Path::new(CLASS).join(format!("nbd{device}/queue"))
}

fn number_of(socket: BorrowedFd<'_>) -> u32 {
    u32::try_from(socket.as_raw_fd()).expect("descriptors are not negative")
}

fn netlink(error: Errno) -> ControlError {
    ControlError::Netlink(error.into())
}

const CLASS: &str = "/sys/block";

/// How long a device waits for a new connection before its requests fail: as long as makes no
/// difference. Who wants it to end removes the device.
const DEAD_SECONDS: u64 = 30 * 24 * 3600;

/// How often the driver looks, in milliseconds, whether a request it has sent has lost its
/// connection and has to be sent again over the new one: the longest stall after a crash. A request
/// that only takes long costs a line in the kernel's log each time.
const LOOK_AGAIN: &str = "3000";

/// The same attribute of a device that was removed while somebody had it open. The driver keeps
/// such a device, with its owner, until it is closed; it must never be joined again, because others
/// may have written since. The driver sets the attribute anew for the next device of that number.
const REMOVED: &str = "3100";

/// How long the driver may take to say something after an order, which is before it is over.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// More than any answer has.
const BUFFER_BYTES: usize = 16 << 10;
