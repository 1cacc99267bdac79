//! What the engine is told, by name.

use rbd_engine::{Command, Event, RequestKind};
use rbd_protocol::peer::{Kind, Packet};

use super::{Between, Situation};

/// The event's name.
pub(super) fn name<B>(situation: Situation, event: &Event<B>) -> &'static str {
    match event {
        Event::Packet { packet, .. } if is_late(situation, packet.kind()) => LATE,
        Event::Request { kind, .. } => match kind {
            RequestKind::Read => "request Read",
            RequestKind::Write { .. } => "request Write",
            RequestKind::Zero { .. } => "request Zero",
            RequestKind::Flush => "request Flush",
        },
        Event::DiskDone { result: Ok(_), .. } => "DiskDone",
        Event::DiskDone { result: Err(_), .. } => "DiskDone with an error",
        Event::Digests { .. } => "Digests",
        Event::Measured { .. } => "Measured",
        Event::MetaDone { result: Ok(()), .. } => "MetaDone",
        Event::MetaDone { result: Err(_), .. } => "MetaDone with an error",
        Event::LinkUp { .. } => "LinkUp",
        Event::LinkDown { .. } => "LinkDown",
        Event::Packet { packet, .. } => packet_name(packet),
        Event::Timer => "Timer",
        Event::HandlerDone { .. } => "HandlerDone",
        Event::Openers { .. } => "Openers",
        Event::Command { command, .. } => command_name(command),
    }
}

fn is_late(situation: Situation, kind: Kind) -> bool {
    match situation.between {
        Between::Alone => true,
        Between::Connecting => kind != Kind::Hello,
        _ => false,
    }
}

fn command_name(command: &Command) -> &'static str {
    match command {
        Command::Attach { .. } => "command Attach",
        Command::Configure(_) => "command Configure",
        Command::Connect { .. } => "command Connect",
        Command::Detach { .. } => "command Detach",
        Command::Disconnect { .. } => "command Disconnect",
        Command::Promote { .. } => "command Promote",
        Command::Demote { .. } => "command Demote",
        Command::NewGeneration { .. } => "command NewGeneration",
        Command::Resolve { .. } => "command Resolve",
        Command::Outdate => "command Outdate",
        Command::Verify { .. } => "command Verify",
        Command::Resize { .. } => "command Resize",
        Command::Invalidate { .. } => "command Invalidate",
        Command::SuspendIo => "command SuspendIo",
        Command::ResumeIo => "command ResumeIo",
        Command::Stop => "command Stop",
    }
}

fn packet_name(packet: &Packet) -> &'static str {
    match packet.kind() {
        Kind::Hello => "packet Hello",
        Kind::State => "packet State",
        Kind::PromoteRequest => "packet PromoteRequest",
        Kind::PromoteReply => "packet PromoteReply",
        Kind::NewGeneration => "packet NewGeneration",
        Kind::NewGenerationAck => "packet NewGenerationAck",
        Kind::Goodbye => "packet Goodbye",
        Kind::Leave => "packet Leave",
        Kind::LeaveReply => "packet LeaveReply",
        Kind::Outdated => "packet Outdated",
        Kind::VerifyRequest => "packet VerifyRequest",
        Kind::VerifyRelease => "packet VerifyRelease",
        Kind::VerifyReply => "packet VerifyReply",
        Kind::InvalidateRequest => "packet InvalidateRequest",
        Kind::InvalidateReply => "packet InvalidateReply",
        Kind::ResizeRequest => "packet ResizeRequest",
        Kind::ResizeReply => "packet ResizeReply",
        Kind::Write => "packet Write",
        Kind::Discard | Kind::WriteZeroes => "packet Zero",
        Kind::Flush => "packet Flush",
        Kind::WriteAck => "packet WriteAck",
        Kind::NegativeAck => "packet NegativeAck",
        Kind::FlushAck => "packet FlushAck",
        Kind::Bitmap => "packet Bitmap",
        Kind::BitmapEnd => "packet BitmapEnd",
        Kind::ResyncRequest => "packet ResyncRequest",
        Kind::ResyncData => "packet ResyncData",
        Kind::ResyncAck => "packet ResyncAck",
        Kind::ResyncNegativeAck => "packet ResyncNegativeAck",
        Kind::ResyncDone => "packet ResyncDone",
        Kind::RemoteRead => "packet RemoteRead",
        Kind::RemoteWrite => "packet RemoteWrite",
        Kind::RemoteDiscard | Kind::RemoteWriteZeroes => "packet RemoteZero",
        Kind::RemoteFlush => "packet RemoteFlush",
        Kind::RemoteDone => "packet RemoteDone",
        Kind::RemoteData => "packet RemoteData",
        Kind::RemoteFailed => "packet RemoteFailed",
        Kind::Ping => "packet Ping",
        Kind::PingAck => "packet PingAck",
    }
}

/// All of them.
pub(super) const EVENTS: &[&str] = &[
    "request Read",
    "request Write",
    "request Zero",
    "request Flush",
    "DiskDone",
    "DiskDone with an error",
    "Digests",
    "Measured",
    "MetaDone",
    "MetaDone with an error",
    "LinkUp",
    "LinkDown",
    "Timer",
    "HandlerDone",
    "Openers",
    "command Attach",
    "command Detach",
    "command Configure",
    "command Connect",
    "command Disconnect",
    "command Promote",
    "command Demote",
    "command NewGeneration",
    "command Resolve",
    "command Outdate",
    "command Verify",
    "command Resize",
    "command Invalidate",
    "command SuspendIo",
    "command ResumeIo",
    "command Stop",
    "packet Hello",
    "packet State",
    "packet PromoteRequest",
    "packet PromoteReply",
    "packet NewGeneration",
    "packet NewGenerationAck",
    "packet Goodbye",
    "packet Leave",
    "packet LeaveReply",
    "packet Outdated",
    "packet VerifyRequest",
    "packet VerifyRelease",
    "packet VerifyReply",
    "packet InvalidateRequest",
    "packet InvalidateReply",
    "packet ResizeRequest",
    "packet ResizeReply",
    "packet Write",
    "packet Zero",
    "packet Flush",
    "packet WriteAck",
    "packet NegativeAck",
    "packet FlushAck",
    "packet Bitmap",
    "packet BitmapEnd",
    "packet ResyncRequest",
    "packet ResyncData",
    "packet ResyncAck",
    "packet ResyncNegativeAck",
    "packet ResyncDone",
    "packet RemoteRead",
    "packet RemoteWrite",
    "packet RemoteZero",
    "packet RemoteFlush",
    "packet RemoteDone",
    "packet RemoteData",
    "packet RemoteFailed",
    "packet Ping",
    "packet PingAck",
    LATE,
    OLDER,
];

/// Whatever but a greeting arrives over a link that is being made or closed.
pub(super) const LATE: &str = "packet of a link being made or closed";

/// Whatever arrives over a link that another one has taken the place of (A7).
pub(super) const OLDER: &str = "packet of an older link";
