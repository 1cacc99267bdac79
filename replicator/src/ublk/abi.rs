//! The bytes a ublk server and the kernel's driver exchange, as `linux/ublk_cmd.h` lays them out:
//! bytes ⇄ values, in the byte order of this machine. No file, no ring, no decision.

/// What the control device can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Describe a device.
    DeviceInfo,
    /// Make a device.
    Add,
    /// Remove a device and wait until nobody has it any more.
    Delete,
    /// Let the block device appear. Waits until every tag has been fetched.
    Start,
    /// Let the block device disappear.
    Stop,
    /// Tell the block device's attributes.
    SetParameters,
    /// Take over a device whose server is gone.
    StartRecovery,
    /// The new server has fetched every tag.
    EndRecovery,
    /// Which features there are (Linux 6.5).
    Features,
    /// Remove a device without waiting (Linux 6.7).
    DeleteSoon,
    /// Change the size of a block device that is there (Linux 6.16).
    UpdateSize,
}

/// How commands are numbered: kernels before 6.4 know the plain numbers, later ones may be built
/// without those.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// The plain number.
    Plain,
    /// The number, with direction and size beside it, as of an ioctl.
    Ioctl,
}

/// One order with what goes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ControlCommand {
    /// The device, or [`ANY_DEVICE`].
    pub(crate) device: u32,
    /// Memory the kernel reads or fills.
    pub(crate) address: u64,
    /// How much of it.
    pub(crate) length: u16,
    /// A number that goes along inline: the server's process id, or a size in sectors.
    pub(crate) data: u64,
}

/// `struct ublksrv_ctrl_dev_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeviceInfo {
    pub(crate) queues: u16,
    pub(crate) depth: u16,
    /// One of the `STATE_` numbers; told by the kernel.
    pub(crate) state: u16,
    /// The longest payload of a request.
    pub(crate) payload_bytes: u32,
    pub(crate) device: u32,
    pub(crate) server: i32,
    pub(crate) flags: u64,
    /// Kept by the kernel for the server, which tells its devices from others' by it.
    pub(crate) owner: u64,
}

/// What a block device tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parameters {
    pub(crate) size_bytes: u64,
    /// The smallest unit of a request: a power of two.
    pub(crate) block_bytes: u32,
    /// The longest payload of a request.
    pub(crate) payload_bytes: u32,
}

/// `struct ublksrv_io_desc`: one request of the block layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) kind: Kind,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write { fua: bool },
    Flush,
    Discard { fua: bool },
    WriteZeroes { fua: bool, keep: bool },
    Unknown(u8),
}

/// `struct ublksrv_io_cmd`: fetch a request, or finish one and fetch the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueCommand {
    pub(crate) queue: u16,
    pub(crate) tag: u16,
    /// Bytes done, or a negative error number; of no meaning when only fetching.
    pub(crate) result: i32,
    /// Where the payload of this tag lies.
    pub(crate) address: u64,
}

impl Order {
    /// The number of this order.
    pub(crate) fn number(self, numbering: Numbering) -> u32 {
        let (plain, direction) = match self {
            Self::DeviceInfo => (0x02, READ),
            Self::Add => (0x04, READ | WRITE),
            Self::Delete => (0x05, READ | WRITE),
            Self::Start => (0x06, READ | WRITE),
            Self::Stop => (0x07, READ | WRITE),
            Self::SetParameters => (0x08, READ | WRITE),
            Self::StartRecovery => (0x10, READ | WRITE),
            Self::EndRecovery => (0x11, READ | WRITE),
            Self::Features => (0x13, READ),
            Self::DeleteSoon => (0x14, READ),
            Self::UpdateSize => (0x15, READ | WRITE),
        };
        numbered(plain, direction, CONTROL_BYTES, numbering)
    }
}

impl Numbering {
    /// The number of "fetch a request".
    pub(crate) fn fetch(self) -> u32 {
        numbered(0x20, READ | WRITE, QUEUE_BYTES, self)
    }

    /// The number of "this one is done, fetch the next".
    pub(crate) fn commit_and_fetch(self) -> u32 {
        numbered(0x21, READ | WRITE, QUEUE_BYTES, self)
    }
}

impl ControlCommand {
    /// The command area of a large submission entry.
    pub(crate) fn encode(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        put(&mut bytes, 0, &self.device.to_ne_bytes());
        put(&mut bytes, 4, &NO_QUEUE.to_ne_bytes());
        put(&mut bytes, 6, &self.length.to_ne_bytes());
        put(&mut bytes, 8, &self.address.to_ne_bytes());
        put(&mut bytes, 16, &self.data.to_ne_bytes());
        bytes
    }
}

impl DeviceInfo {
    /// Its length.
    pub(crate) const BYTES: usize = 64;

    /// As the kernel reads it.
    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        put(&mut bytes, 0, &self.queues.to_ne_bytes());
        put(&mut bytes, 2, &self.depth.to_ne_bytes());
        put(&mut bytes, 4, &self.state.to_ne_bytes());
        put(&mut bytes, 8, &self.payload_bytes.to_ne_bytes());
        put(&mut bytes, 12, &self.device.to_ne_bytes());
        put(&mut bytes, 16, &self.server.to_ne_bytes());
        put(&mut bytes, 24, &self.flags.to_ne_bytes());
        put(&mut bytes, 32, &self.owner.to_ne_bytes());
        bytes
    }

    /// As the kernel has filled it in.
    pub(crate) fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        Self {
            queues: u16::from_ne_bytes(part(bytes, 0)),
            depth: u16::from_ne_bytes(part(bytes, 2)),
            state: u16::from_ne_bytes(part(bytes, 4)),
            payload_bytes: u32::from_ne_bytes(part(bytes, 8)),
            device: u32::from_ne_bytes(part(bytes, 12)),
            server: i32::from_ne_bytes(part(bytes, 16)),
            flags: u64::from_ne_bytes(part(bytes, 24)),
            owner: u64::from_ne_bytes(part(bytes, 32)),
        }
    }
}

impl Parameters {
    /// Length of `struct ublk_params` up to what is told of discards.
    pub(crate) const BYTES: usize = 60;

    /// As the kernel reads them: a volatile cache with FUA, discards and zeroing of whole blocks.
    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let length = u32::try_from(Self::BYTES).expect("it is 60");
        put(&mut bytes, 0, &length.to_ne_bytes());
        put(&mut bytes, 4, &(TYPE_BASIC | TYPE_DISCARD).to_ne_bytes());
        put(&mut bytes, 8, &(VOLATILE_CACHE | FUA).to_ne_bytes());
        let logical = shift(self.block_bytes.max(SECTOR_BYTES));
        let physical = shift(self.block_bytes.max(PAGE_BYTES));
        bytes[12] = logical;
        bytes[13] = physical;
        bytes[14] = physical; // optimal I/O: no larger unit is better
        bytes[15] = physical; // minimal I/O without reading around it
        let sectors = self.payload_bytes / SECTOR_BYTES;
        put(&mut bytes, 16, &sectors.to_ne_bytes());
        let size = self.size_bytes / u64::from(SECTOR_BYTES);
        put(&mut bytes, 24, &size.to_ne_bytes());
        let granularity = self.block_bytes.max(PAGE_BYTES);
        put(&mut bytes, 44, &granularity.to_ne_bytes());
        put(&mut bytes, 48, &ZERO_SECTORS.to_ne_bytes());
        put(&mut bytes, 52, &ZERO_SECTORS.to_ne_bytes());
        put(&mut bytes, 56, &1_u16.to_ne_bytes());
        bytes
    }
}

impl Descriptor {
    /// Its length.
    pub(crate) const BYTES: usize = 24;

    /// What the kernel has written for a tag.
    pub(crate) fn decode(bytes: &[u8; Self::BYTES]) -> Self {
        let word = u32::from_ne_bytes(part(bytes, 0));
        let sectors = u32::from_ne_bytes(part(bytes, 4));
        let start = u64::from_ne_bytes(part(bytes, 8));
        let fua = word & REQUEST_FUA != 0;
        let kind = match word.to_le_bytes()[0] {
            0 => Kind::Read,
            1 => Kind::Write { fua },
            2 => Kind::Flush,
            3 => Kind::Discard { fua },
            5 => Kind::WriteZeroes {
                fua,
                keep: word & REQUEST_NO_UNMAP != 0,
            },
            other => Kind::Unknown(other),
        };
        Self {
            kind,
            offset: start.saturating_mul(u64::from(SECTOR_BYTES)),
            length: u64::from(sectors) * u64::from(SECTOR_BYTES),
        }
    }
}

impl QueueCommand {
    /// The command area of a submission entry.
    pub(crate) fn encode(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        put(&mut bytes, 0, &self.queue.to_ne_bytes());
        put(&mut bytes, 2, &self.tag.to_ne_bytes());
        put(&mut bytes, 4, &self.result.to_ne_bytes());
        put(&mut bytes, 8, &self.address.to_ne_bytes());
        bytes
    }
}

fn numbered(plain: u32, direction: u32, size: u32, numbering: Numbering) -> u32 {
    match numbering {
        Numbering::Plain => plain,
        Numbering::Ioctl => direction << 30 | size << 16 | u32::from(b'u') << 8 | plain,
    }
}

fn shift(bytes: u32) -> u8 {
    assert!(bytes.is_power_of_two(), "block sizes are powers of two");
    u8::try_from(bytes.trailing_zeros()).expect("there are 32 bits")
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let part = bytes[at..at + N].try_into();
    part.expect("a part as long as asked for")
}

/// For [`Order::Add`]: the kernel chooses a number.
pub(crate) const ANY_DEVICE: u32 = u32::MAX;

/// The device has no server yet.
pub(crate) const STATE_DEAD: u16 = 0;

/// The server is gone, and requests wait for another one.
#[cfg(test)]
pub(crate) const STATE_QUIESCED: u16 = 2;

/// The device outlives its server.
pub(crate) const USER_RECOVERY: u64 = 1 << 3;

/// What the server had not answered is asked of its successor.
pub(crate) const USER_RECOVERY_REISSUE: u64 = 1 << 4;

/// Commands are numbered as ioctls are.
pub(crate) const IOCTL_NUMBERING: u64 = 1 << 6;

/// Among the features: a device's size can be changed.
pub(crate) const UPDATE_SIZE: u64 = 1 << 10;

/// Length of `struct ublksrv_ctrl_cmd`.
const CONTROL_BYTES: u32 = 32;

/// Length of `struct ublksrv_io_cmd`.
const QUEUE_BYTES: u32 = 16;

/// The order is about no queue.
const NO_QUEUE: u16 = u16::MAX;

const WRITE: u32 = 1;
const READ: u32 = 2;

const TYPE_BASIC: u32 = 1;
const TYPE_DISCARD: u32 = 1 << 1;
const VOLATILE_CACHE: u32 = 1 << 2;
const FUA: u32 = 1 << 3;
const REQUEST_FUA: u32 = 1 << 13;
const REQUEST_NO_UNMAP: u32 = 1 << 15;

/// The block layer's unit.
pub(crate) const SECTOR_BYTES: u32 = 512;

/// What backing disks write without reading first.
const PAGE_BYTES: u32 = 4096;

/// The longest discard or zeroing: 64 MiB, so that one of the whole device does not hold everything
/// else up.
const ZERO_SECTORS: u32 = 1 << 17;
