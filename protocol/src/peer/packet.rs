//! A packet as a value.
//!
//! Bulk data is not part of the value: [`Packet::Write`] and [`Packet::ResyncData`] travel with a
//! payload of exactly the range's length, which the caller keeps beside the packet.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::failure::FailureCode;
use super::header::Kind;
use super::hello::Hello;
use crate::ids::{ByteRange, GenerationId, VolumeNumber};
use crate::state::{DiskState, ResyncLimit, Role};

/// Where a write stands among the writes of both nodes. Writes, discards and zeroings of a volume
/// are counted from 1 over each link, in the order in which they are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// How many of the receiver's the sender had received, modulo 2^32.
    pub seen: u32,
    /// The sender's disk has all before the last so many, of which this is one; 65535 if nothing
    /// is said of that.
    pub behind: u16,
}

/// Which of the link's two connections a packet takes. Order is kept within one, not across them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Bulk: what must be applied in the order it was sent.
    Data,
    /// Acknowledgements and signs of life, which must not queue behind bulk.
    Control,
}

/// One packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// First packet on the data connection.
    Hello(Box<Hello>),
    /// Role and disk states, after any change.
    State {
        /// The sender's role.
        role: Role,
        /// Its tenure, as in its greeting.
        tenure: u64,
        /// Its disks, by volume.
        disks: Vec<(VolumeNumber, DiskState)>,
    },
    /// Asks the peer's consent to become Primary.
    PromoteRequest {
        /// Names the request.
        id: u64,
        /// For a migration: for so long, in milliseconds, both may be Primary. 0 for none.
        migration_ms: u32,
    },
    /// The peer's consent or refusal.
    PromoteReply {
        /// The request answered.
        id: u64,
        /// Whether it consents.
        granted: bool,
    },
    /// Asks a just-created peer to adopt this generation as UpToDate without a resync.
    NewGeneration {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// The generation to adopt.
        generation: GenerationId,
    },
    /// Whether that was done, durably.
    NewGenerationAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Whether it was adopted.
        adopted: bool,
    },
    /// The sender closes the link on purpose.
    Goodbye,
    /// A Secondary is about to leave a Primary that minds what becomes of its data.
    Leave,
    /// The Primary's answer, or its own wish to go on without the receiver.
    LeaveReply {
        /// All that was acknowledged is durable at the Primary, and nothing new is: the receiver
        /// declares its data behind and says so. Otherwise it leaves as it is.
        outdate: bool,
    },
    /// The sender's data is durably behind, or incomplete, and stays so without the receiver.
    Outdated,
    /// Asks that one of the two nodes declare its data bad, and that the other keep its own.
    InvalidateRequest {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// It is the sender that gives up its data; else the receiver.
        sender_loses: bool,
        /// Only what is marked out of sync is to be copied; else everything.
        marked_only: bool,
    },
    /// Whether the receiver keeps its data for the sender, as asked; or that it does not give it
    /// up. One that does says so in the next greeting.
    InvalidateReply {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Whether it agrees.
        granted: bool,
    },
    /// Asks the peer to let the volume grow as far as both disks have room for it.
    ResizeRequest {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// What the sender's disk has room for, in bytes.
        capacity: u64,
        /// What is new counts as in sync: nobody minds what it holds.
        assume_clean: bool,
    },
    /// Whether it has grown, durably.
    ResizeReply {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// If it has, its size; else what the sender's disk has room for, 0 if it is busy.
        bytes: u64,
        /// Whether it has.
        granted: bool,
    },
    /// Write the payload.
    Write {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where; exactly as long as the payload.
        range: ByteRange,
        /// Durable before it is acknowledged.
        fua: bool,
        /// Where it stands among the writes of both nodes.
        place: Place,
    },
    /// Zero the range.
    Zero {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// Durable before it is acknowledged.
        fua: bool,
        /// Give the space back if possible (a discard).
        discard: bool,
        /// Where it stands among the writes of both nodes.
        place: Place,
    },
    /// Say when the own disk has the first so many writes sent over this link.
    Settle {
        /// How many, modulo 2^32.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// It has.
    Settled {
        /// How many, as asked.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// Make durable every write acknowledged before this was sent.
    Flush {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// A write or zeroing is on the disk.
    WriteAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// A write, zeroing or flush failed.
    NegativeAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Why.
        code: FailureCode,
    },
    /// A flush is done.
    FlushAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// One block of the sender's dirty bitmap; blocks that are not sent are all zero.
    Bitmap {
        /// The volume.
        volume: VolumeNumber,
        /// Which block.
        block: u32,
        /// Its words, lowest bits first.
        words: Box<[u64; 504]>,
    },
    /// The sender's bitmap is complete.
    BitmapEnd {
        /// The volume.
        volume: VolumeNumber,
        /// The sender's current generation: from the source, the one the target will adopt.
        generation: GenerationId,
    },
    /// The target asks for a range.
    ResyncRequest {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// The source's data for that range, as payload.
    ResyncData {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where; exactly as long as the payload.
        range: ByteRange,
    },
    /// All of that range, or of that part of one the target has compared, is zero at the source.
    ResyncZero {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// The target asks for what of a range is not like its own blocks.
    ResyncCompare {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// One for each block the target has there, in order.
        digests: Vec<Digest>,
    },
    /// This part of a range the target has compared is the same at the source. The rest comes as
    /// [`Packet::ResyncData`] or [`Packet::ResyncZero`] under the same name, part by part.
    ResyncSame {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// The target has the range on its disk.
    ResyncAck {
        /// The request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// The source could not read the range.
    ResyncNegativeAck {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// The target has everything, durably, under this generation.
    ResyncDone {
        /// The volume.
        volume: VolumeNumber,
        /// The generation it has adopted.
        generation: GenerationId,
    },
    /// What the sender knows of a resync beside its data: after any change, of little things at
    /// most once a second.
    ResyncState {
        /// The volume.
        volume: VolumeNumber,
        /// The sender holds it back.
        paused: bool,
        /// What keeps it from being faster as the sender sees it; told by the target.
        limit: Option<ResyncLimit>,
        /// How long the sender's disk takes to read for a request, in microseconds; told by the
        /// source, 0 if not known.
        disk_us: u32,
    },
    /// A node without usable data of its own asks for a range, for its clients.
    RemoteRead {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// Such a node writes the payload.
    RemoteWrite {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where; exactly as long as the payload.
        range: ByteRange,
        /// Durable before it is answered.
        fua: bool,
    },
    /// Such a node zeroes the range.
    RemoteZero {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
        /// Durable before it is answered.
        fua: bool,
        /// Give the space back if possible (a discard).
        discard: bool,
    },
    /// Such a node wants everything it was told to be done to be durable.
    RemoteFlush {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// Done, as it would be for a client of the sender.
    RemoteDone {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// The sender's current generation.
        generation: GenerationId,
    },
    /// The range read, as payload.
    RemoteData {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where; exactly as long as the payload.
        range: ByteRange,
    },
    /// It could not be done.
    RemoteFailed {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Why.
        code: FailureCode,
    },
    /// The node that leads a verify asks for the digests of a range. Until it is let go, the
    /// receiver's clients do not write it.
    VerifyRequest {
        /// Names the request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// Where.
        range: ByteRange,
    },
    /// That range is let go.
    VerifyRelease {
        /// The request.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
    },
    /// One digest for each block of the range, in order.
    VerifyReply {
        /// The request answered.
        id: u64,
        /// The volume.
        volume: VolumeNumber,
        /// The digests.
        digests: Vec<Digest>,
    },
    /// Are you alive?
    Ping {
        /// Names the question.
        id: u64,
    },
    /// Yes.
    PingAck {
        /// The question answered.
        id: u64,
    },
}

/// What stands for the content of a block: half of its SHA-256.
pub type Digest = [u8; 16];

pub(super) const FLAG_FUA: u16 = 1;

impl Packet {
    /// What kind of packet it is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::State { .. } => Kind::State,
            Self::PromoteRequest { .. } => Kind::PromoteRequest,
            Self::PromoteReply { .. } => Kind::PromoteReply,
            Self::NewGeneration { .. } => Kind::NewGeneration,
            Self::NewGenerationAck { .. } => Kind::NewGenerationAck,
            Self::Goodbye => Kind::Goodbye,
            Self::Leave => Kind::Leave,
            Self::LeaveReply { .. } => Kind::LeaveReply,
            Self::Outdated => Kind::Outdated,
            Self::InvalidateRequest { .. } => Kind::InvalidateRequest,
            Self::InvalidateReply { .. } => Kind::InvalidateReply,
            Self::ResizeRequest { .. } => Kind::ResizeRequest,
            Self::ResizeReply { .. } => Kind::ResizeReply,
            Self::Write { .. } => Kind::Write,
            Self::Zero { discard: true, .. } => Kind::Discard,
            Self::Zero { discard: false, .. } => Kind::WriteZeroes,
            Self::Flush { .. } => Kind::Flush,
            Self::Settle { .. } => Kind::Settle,
            Self::Settled { .. } => Kind::Settled,
            Self::WriteAck { .. } => Kind::WriteAck,
            Self::NegativeAck { .. } => Kind::NegativeAck,
            Self::FlushAck { .. } => Kind::FlushAck,
            Self::Bitmap { .. } => Kind::Bitmap,
            Self::BitmapEnd { .. } => Kind::BitmapEnd,
            Self::ResyncRequest { .. } => Kind::ResyncRequest,
            Self::ResyncData { .. } => Kind::ResyncData,
            Self::ResyncZero { .. } => Kind::ResyncZero,
            Self::ResyncCompare { .. } => Kind::ResyncCompare,
            Self::ResyncSame { .. } => Kind::ResyncSame,
            Self::ResyncAck { .. } => Kind::ResyncAck,
            Self::ResyncNegativeAck { .. } => Kind::ResyncNegativeAck,
            Self::ResyncDone { .. } => Kind::ResyncDone,
            Self::ResyncState { .. } => Kind::ResyncState,
            Self::RemoteRead { .. } => Kind::RemoteRead,
            Self::RemoteWrite { .. } => Kind::RemoteWrite,
            Self::RemoteZero { discard: true, .. } => Kind::RemoteDiscard,
            Self::RemoteZero { discard: false, .. } => Kind::RemoteWriteZeroes,
            Self::RemoteFlush { .. } => Kind::RemoteFlush,
            Self::RemoteDone { .. } => Kind::RemoteDone,
            Self::RemoteData { .. } => Kind::RemoteData,
            Self::RemoteFailed { .. } => Kind::RemoteFailed,
            Self::VerifyRequest { .. } => Kind::VerifyRequest,
            Self::VerifyRelease { .. } => Kind::VerifyRelease,
            Self::VerifyReply { .. } => Kind::VerifyReply,
            Self::Ping { .. } => Kind::Ping,
            Self::PingAck { .. } => Kind::PingAck,
        }
    }
}
