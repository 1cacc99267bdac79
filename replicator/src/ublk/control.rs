//! The control device of the kernel's ublk driver: orders that make, start, stop, take over and
//! remove devices. Every call blocks, but never longer than its limit. No request of a device
//! passes here.

#![expect(
    unsafe_code,
    reason = "only the caller can promise the kernel valid memory"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};
use rustix::io::Errno;

use super::abi::{
    ANY_DEVICE, ControlCommand, DeviceInfo, IOCTL_NUMBERING, Numbering, Order, Parameters,
    SECTOR_BYTES, UPDATE_SIZE, USER_RECOVERY, USER_RECOVERY_REISSUE,
};

/// The control device, opened.
pub(crate) struct Control {
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    file: File,
    numbering: Numbering,
    features: u64,
    started: u64,
}

/// What a new device is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// Requests it may have under way.
    pub(crate) depth: u16,
    /// How its owner will know it again.
    pub(crate) owner: u64,
    /// What it tells of itself.
    pub(crate) parameters: Parameters,
}

/// Why the kernel's driver did not do something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    /// No control device: no module.
    #[error("{CONTROL_PATH} does not exist; load the kernel's module: modprobe ublk_drv")]
    NoModule,
    /// The control device cannot be opened.
    #[error("{CONTROL_PATH}: {0}")]
    Open(#[source] io::Error),
    /// No ring with large entries.
    #[error("io_uring with large entries is refused: {0}; Linux 6.1 or newer is needed")]
    Ring(#[source] io::Error),
    /// The kernel has no place or no right for it.
    #[error("the ublk driver refused to {what}: {source}")]
    Refused {
        what: &'static str,
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("the ublk driver did not {what} within {} s", .limit.as_secs())]
    TooLong { what: &'static str, limit: Duration },
    /// It cannot keep requests for a new server.
    #[error("this kernel's ublk cannot be taken over after a crash; Linux 6.1 or newer is needed")]
    NoRecovery,
    /// It cannot change the size of a device that is there.
    #[error("this kernel's ublk cannot change the size of a device; Linux 6.16 or newer can")]
    FixedSize,
    /// The character device of a new device did not come.
    #[error("{path}: {source}")]
    Queue {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl Control {
    /// Opens the control device and asks how it wants to be spoken to.
    pub(crate) fn open() -> Result<Self, ControlError> {
        let file = OpenOptions::new().read(true).write(true).open(CONTROL_PATH);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ControlError::NoModule,
            _ => ControlError::Open(error),
        })?;
        let ring = IoUring::builder().build(4).map_err(ControlError::Ring)?;
        let mut control = Self {
            ring,
            file,
            numbering: Numbering::Ioctl,
            features: 0,
            started: 0,
        };
        // Kernels that cannot be asked understand the plain numbers.
        let mut features = [0; 8];
        match control.order("tell its features", Order::Features, 0, &mut features) {
            Ok(_) => control.features = u64::from_ne_bytes(features),
            Err(error @ ControlError::TooLong { .. }) => return Err(error),
            Err(_) => control.numbering = Numbering::Plain,
        }
        Ok(control)
    }

    /// How requests of devices are to be fetched.
    pub(crate) fn numbering(&self) -> Numbering {
        self.numbering
    }

    /// Makes a device that outlives its server, with one queue, and says its number. There is no
    /// block device until it is started.
    pub(crate) fn add(&mut self, wanted: &Wanted) -> Result<u32, ControlError> {
        let recovery = USER_RECOVERY | USER_RECOVERY_REISSUE;
        let numbering = match self.numbering {
            Numbering::Ioctl => IOCTL_NUMBERING,
            Numbering::Plain => 0,
        };
        let info = DeviceInfo {
            queues: 1,
            depth: wanted.depth,
            payload_bytes: wanted.parameters.payload_bytes,
            device: ANY_DEVICE,
            flags: recovery | numbering,
            owner: wanted.owner,
            ..DeviceInfo::default()
        };
        let mut bytes = info.encode().to_vec();
        self.order("make a device", Order::Add, ANY_DEVICE, &mut bytes)?;
        let made = decode(&bytes);
        let told = if made.flags & recovery == recovery {
            let mut bytes = wanted.parameters.encode().to_vec();
            let what = "take the attributes of a device";
            self.order(what, Order::SetParameters, made.device, &mut bytes)
        } else {
            Err(ControlError::NoRecovery)
        };
        if let Err(error) = told {
            self.remove(made.device)?;
            return Err(error);
        }
        Ok(made.device)
    }

    /// Opens a device's queue. The server's process is the only one that can have it open.
    pub(crate) fn queue(&self, device: u32) -> Result<File, ControlError> {
        let path = queue_path(device);
        let start = Instant::now();
        loop {
            match OpenOptions::new().read(true).write(true).open(&path) {
                Ok(file) => return Ok(file),
                // Its name is made a little after the device.
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && start.elapsed() < NODE_LIMIT =>
                {
                    std::thread::sleep(PAUSE);
                }
                Err(source) => return Err(ControlError::Queue { path, source }),
            }
        }
    }

    /// Lets the block device appear. Its queue has to be served by now: the kernel looks for
    /// partitions.
    pub(crate) fn start(&mut self, device: u32) -> Result<(), ControlError> {
        self.order("start a device", Order::Start, device, &mut [])?;
        Ok(())
    }

    /// Begins to take over a device whose server is gone, which may just be going.
    pub(crate) fn begin_recovery(&mut self, device: u32) -> Result<(), ControlError> {
        let start = Instant::now();
        loop {
            let what = "have a device taken over";
            match self.order(what, Order::StartRecovery, device, &mut []) {
                Err(ControlError::Refused { source, .. })
                    if Errno::from_io_error(&source) == Some(Errno::BUSY)
                        && start.elapsed() < LEAVING_LIMIT =>
                {
                    std::thread::sleep(PAUSE);
                }
                result => return result.map(|_| ()),
            }
        }
    }

    /// The queue is served again: requests that waited are asked once more.
    pub(crate) fn end_recovery(&mut self, device: u32) -> Result<(), ControlError> {
        let what = "let a device go on";
        self.order(what, Order::EndRecovery, device, &mut [])?;
        Ok(())
    }

    /// Whether the kernel can change the size of a block device that is there.
    pub(crate) fn check_resize(&self) -> Result<(), ControlError> {
        if self.features & UPDATE_SIZE == 0 {
            return Err(ControlError::FixedSize);
        }
        Ok(())
    }

    /// Changes the size of a block device, which tells those who have it open.
    pub(crate) fn resize(&mut self, device: u32, size_bytes: u64) -> Result<(), ControlError> {
        self.check_resize()?;
        let what = "change the size of a device";
        let sectors = size_bytes / u64::from(SECTOR_BYTES);
        self.order_with(what, Order::UpdateSize, (device, sectors), &mut [])?;
        Ok(())
    }

    /// Lets the block device disappear; requests that wait or come are failed.
    pub(crate) fn stop(&mut self, device: u32) -> Result<(), ControlError> {
        self.order("stop a device", Order::Stop, device, &mut [])?;
        Ok(())
    }

    /// Removes a device, whatever state it is in; its number is free when nobody has it open.
    pub(crate) fn remove(&mut self, device: u32) -> Result<(), ControlError> {
        let what = "remove a device";
        match self.order(what, Order::DeleteSoon, device, &mut []) {
            Err(ControlError::Refused { source, .. })
                if matches!(
                    Errno::from_io_error(&source),
                    Some(Errno::OPNOTSUPP | Errno::INVAL)
                ) => {}
            result => return result.map(|_| ()),
        }
        self.order(what, Order::Delete, device, &mut [])?;
        Ok(())
    }

    /// What is known of a device; `None` if there is none of this number.
    pub(crate) fn describe(&mut self, device: u32) -> Result<Option<DeviceInfo>, ControlError> {
        let mut bytes = vec![0; DeviceInfo::BYTES];
        match self.order("describe a device", Order::DeviceInfo, device, &mut bytes) {
            Ok(_) => Ok(Some(decode(&bytes))),
            Err(ControlError::Refused { source, .. })
                if Errno::from_io_error(&source) == Some(Errno::NODEV) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The devices of this owner.
    pub(crate) fn owned(&mut self, owner: u64) -> Result<Vec<DeviceInfo>, ControlError> {
        let mut owned = Vec::new();
        for number in numbers() {
            if let Some(info) = self.describe(number)?
                && info.owner == owner
            {
                owned.push(info);
            }
        }
        Ok(owned)
    }

    /// Gives one order and waits for its answer. Memory goes along on the heap, because an order
    /// that is not answered in time keeps it.
    fn order(
        &mut self,
        what: &'static str,
        order: Order,
        device: u32,
        memory: &mut [u8],
    ) -> Result<i32, ControlError> {
        let server = u64::from(std::process::id());
        self.order_with(what, order, (device, server), memory)
    }

    fn order_with(
        &mut self,
        what: &'static str,
        order: Order,
        (device, data): (u32, u64),
        memory: &mut [u8],
    ) -> Result<i32, ControlError> {
        let mut copy: Box<[u8]> = memory.into();
        let address = if copy.is_empty() {
            0
        } else {
            u64::try_from(copy.as_mut_ptr().addr()).expect("addresses have at most 64 bits")
        };
        let command = ControlCommand {
            device,
            address,
            length: u16::try_from(copy.len()).expect("descriptions are short"),
            data,
        };
        self.started += 1;
        let file = types::Fd(self.file.as_raw_fd());
        let entry = opcode::UringCmd80::new(file, order.number(self.numbering))
            .cmd(command.encode())
            .build()
            .user_data(self.started);
        // SAFETY: what the entry points to is kept until its completion, or for ever without one.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        let refused = |source| ControlError::Refused { what, source };
        pushed.map_err(|_| refused(io::Error::other("its queue is full")))?;
        match self.await_answer() {
            Ok(Some(answer)) if answer >= 0 => {
                memory.copy_from_slice(&copy);
                Ok(answer)
            }
            Ok(Some(answer)) => Err(refused(io::Error::from_raw_os_error(-answer))),
            Ok(None) => {
                std::mem::forget(copy);
                let limit = ORDER_LIMIT;
                Err(ControlError::TooLong { what, limit })
            }
            Err(error) => {
                std::mem::forget(copy);
                Err(refused(error))
            }
        }
    }

    fn await_answer(&mut self) -> io::Result<Option<i32>> {
        let start = Instant::now();
        loop {
            let left = ORDER_LIMIT.saturating_sub(start.elapsed());
            let limit = types::Timespec::from(left);
            let arguments = types::SubmitArgs::new().timespec(&limit);
            let waited = self.ring.submitter().submit_with_args(1, &arguments);
            let answer = self.ring.completion().find(|answer| {
                // One of an order that was given up before.
                answer.user_data() == self.started
            });
            if let Some(answer) = answer {
                return Ok(Some(answer.result()));
            }
            match waited {
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INTR) => {}
                Err(error) if Errno::from_io_error(&error) != Some(Errno::TIME) => {
                    return Err(error);
                }
                Ok(_) | Err(_) if left.is_zero() => return Ok(None),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// Whether the module is there.
pub(crate) fn is_loaded() -> bool {
    std::path::Path::new(CONTROL_PATH).exists()
}

fn queue_path(device: u32) -> String {
    format!("/dev/ublkc{device}")
}

/// The numbers of all devices, by the names of their queues.
fn numbers() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir(CLASS) else {
        return Vec::new();
    };
    let number = |entry: std::fs::DirEntry| {
        let name = entry.file_name();
        name.to_str()?.strip_prefix("ublkc")?.parse().ok()
    };
    let mut numbers: Vec<u32> = entries.filter_map(Result::ok).filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn decode(bytes: &[u8]) -> DeviceInfo {
    let bytes = bytes.first_chunk::<{ DeviceInfo::BYTES }>();
    DeviceInfo::decode(bytes.expect("it was made as long as that"))
}

const CONTROL_PATH: &str = "/dev/ublk-control";
const CLASS: &str = "/sys/class/ublk-char";

/// How long the driver may take for one order. Starting a device reads its first blocks, stopping
/// it ends the last requests.
const ORDER_LIMIT: Duration = Duration::from_secs(20);

/// How long the character device of a new device may take to get its name.
const NODE_LIMIT: Duration = Duration::from_secs(5);

/// How long the kernel may take to notice that a server is gone.
const LEAVING_LIMIT: Duration = Duration::from_secs(20);

const PAUSE: Duration = Duration::from_millis(20);
