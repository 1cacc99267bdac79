//! Which events can meet a Primary that knows of another one.
//!
//! Both have a link then, and each gets what the other writes. One of them may have lost its disk,
//! or be having it filled: then the other does what its clients ask for. What is possible was met
//! in at least 25 of 3,000 seeds, a thousand of each of `dual`, `dual-faults` and `migration`.

use super::events::{LATE, OLDER};
use super::verdict::{GREETED, NOT_LATE, Verdict, of_write_from_target};
use super::{Between, Disk, Situation};

use Verdict::{Impossible, Possible, Rare};

/// Whether this event can meet one of two Primaries.
pub(super) fn of_two(situation: Situation, event: &str) -> Verdict {
    let Situation { disk, between, .. } = situation;
    if matches!(between, Between::Alone | Between::Connecting) {
        return Impossible("a peer's role is known over a link only");
    }
    if is_often_met(disk, between, event) {
        return Possible;
    }
    match event {
        LATE => NOT_LATE,
        OLDER => Rare("both have been promoted while what an older link held was on its way"),
        "command PauseSync" => Impossible("nobody holds a resync back"),
        _ => match event.strip_prefix("packet ") {
            Some(packet) => of_packet(situation, packet),
            None => of_fact_or_wish(situation),
        },
    }
}

fn of_fact_or_wish(situation: Situation) -> Verdict {
    match (situation.disk, situation.between) {
        (Disk::Good, Between::Established) => Rare("disks hardly ever fail just then"),
        (Disk::None, _) => Rare("it comes between the loss of a disk and the fencing of its node"),
        (Disk::Partial, Between::Idle) => {
            Rare("the server's disk fails while it fills the one here")
        }
        (_, Between::Idle) => Rare("it comes before the peer that has lost its disk is fenced"),
        _ => Rare("one disk is being filled just then, and nobody has been demoted"),
    }
}

/// What never is, whatever else is so; what is left is possible.
fn of_packet(situation: Situation, packet: &str) -> Verdict {
    // Asked and answered in other words.
    let packet = match packet {
        "ResyncCompare" => "ResyncRequest",
        "ResyncZero" | "ResyncSame" => "ResyncData",
        other => other,
    };
    match packet {
        "Hello" => GREETED,
        "NewGeneration" | "NewGenerationAck" => Impossible("it is for two just created disks"),
        "PromoteRequest" => Impossible("who has become Primary asks no more"),
        "PromoteReply" => Impossible("who has become Primary has had its answer"),
        "Leave" | "Outdated" => Impossible("a Primary does not leave one, nor is it let go"),
        "State" | "Goodbye" | "Ping" | "PingAck" => of_fact_or_wish(situation),
        _ if situation.disk == Disk::None => of_packet_to_served(packet),
        "LeaveReply" => Rare("asked for before the promotion that was being recorded"),
        "VerifyRequest" | "VerifyRelease" | "VerifyReply" => {
            Rare("it belongs to a verify that has just been interrupted")
        }
        "InvalidateRequest" | "InvalidateReply" => {
            Rare("asked for while one of the two was about to be promoted")
        }
        "ResyncState" => Rare("the resync it is about has only just begun, or has ended"),
        "RemoteRead" | "RemoteWrite" | "RemoteZero" | "RemoteFlush" => of_errand(situation, packet),
        "RemoteDone" | "RemoteData" | "RemoteFailed" => of_errand_answer(situation, packet),
        _ => of_data(situation, packet),
    }
}

fn of_packet_to_served(packet: &str) -> Verdict {
    match packet {
        "RemoteDone" | "RemoteData" | "RemoteFailed" => {
            Rare("the peer has this node fenced, which costs it its power, before it does anything")
        }
        _ => Impossible("a link is made anew without a disk, and then no data is talked about"),
    }
}

fn of_errand(situation: Situation, packet: &str) -> Verdict {
    match situation.between {
        Between::Idle | Between::BitmapSource | Between::Source if situation.disk == Disk::Good => {
            Rare("a peer without its disk asks, and is soon fenced")
        }
        Between::Established if packet == "RemoteRead" => Rare("the other disk cannot read it"),
        Between::Established => Impossible("who has a disk writes itself"),
        _ => Impossible("only who is UpToDate is asked"),
    }
}

fn of_errand_answer(situation: Situation, packet: &str) -> Verdict {
    match (situation.disk, situation.between) {
        (Disk::Partial, _) => Rare("the peer's disk fails while it fills the one here"),
        (_, Between::Established) if packet == "RemoteFailed" => Rare("no disk can read it"),
        (_, Between::Established) if packet == "RemoteDone" => {
            Impossible("who has a disk writes itself")
        }
        _ => Rare("what the own disk could not read; the peer's disk has failed meanwhile"),
    }
}

fn of_data(situation: Situation, packet: &str) -> Verdict {
    let resync = packet.starts_with("Resync") || packet.starts_with("Bitmap");
    match situation.between {
        Between::Established if resync => Impossible("no resync is running"),
        Between::Idle => Rare("sent before the peer's disk failed, and overtaken by word of that"),
        Between::BitmapSource | Between::Source => of_data_from_target(situation.between, packet),
        Between::BitmapTarget | Between::Target => of_data_from_source(situation.between, packet),
        _ => Rare("disks hardly ever fail just then"),
    }
}

fn of_data_from_target(between: Between, packet: &str) -> Verdict {
    match packet {
        "Write" | "Zero" => of_write_from_target(between),
        "Settled" => Impossible("nothing of the other node's is unsettled here"),
        "ResyncData" | "ResyncNegativeAck" => Impossible("only a source sends it"),
        "Bitmap" | "BitmapEnd" if between == Between::Source => {
            Impossible("the bitmaps have been exchanged")
        }
        "ResyncRequest" | "ResyncAck" | "ResyncDone" if between == Between::BitmapSource => {
            Impossible("the target's bitmap comes first")
        }
        _ => Rare("one disk is being filled just then, and nobody has been demoted"),
    }
}

fn of_data_from_source(between: Between, packet: &str) -> Verdict {
    match packet {
        "WriteAck" | "Settle" => Impossible("nothing is mirrored from a disk that is not whole"),
        "NegativeAck" => Rare("only for a flush, and the server's disk fails just then"),
        "ResyncRequest" | "ResyncAck" | "ResyncDone" => Impossible("only a target sends it"),
        "Bitmap" | "BitmapEnd" if between == Between::Target => {
            Impossible("the bitmaps have been exchanged")
        }
        "ResyncData" | "ResyncNegativeAck" if between == Between::BitmapTarget => {
            Impossible("nothing has been asked for yet")
        }
        _ => Rare("one disk is being filled just then, and nobody has been demoted"),
    }
}

fn is_often_met(disk: Disk, between: Between, event: &str) -> bool {
    let often: &[&str] = match (disk, between) {
        (Disk::Good, Between::Established) => OFTEN_IN_SYNC,
        (Disk::None, Between::Idle) => OFTEN_WITHOUT_DISK,
        (Disk::Good, Between::Idle) => OFTEN_BESIDE_ONE_WITHOUT_DISK,
        (Disk::Partial, Between::BitmapTarget) => OFTEN_BEFORE_BEING_FILLED,
        (Disk::Partial, Between::Target) => OFTEN_BEING_FILLED,
        (Disk::Good, Between::BitmapSource) => OFTEN_BEFORE_FILLING,
        (Disk::Good, Between::Source) => OFTEN_FILLING,
        _ => &[],
    };
    often.contains(&event)
}

const OFTEN_IN_SYNC: &[&str] = &[
    "request Read",
    "request Write",
    "request Zero",
    "request Flush",
    "DiskDone",
    "DiskDone with an error",
    "Digests",
    "MetaDone",
    "LinkUp",
    "LinkDown",
    "Timer",
    "HandlerDone",
    "Openers",
    "command Detach",
    "command Configure",
    "command Connect",
    "command Disconnect",
    "command Demote",
    "command NewGeneration",
    "command Outdate",
    "command Verify",
    "command Invalidate",
    "command ResumeIo",
    "command Stop",
    "packet State",
    "packet Goodbye",
    "packet VerifyRequest",
    "packet VerifyRelease",
    "packet VerifyReply",
    "packet Write",
    "packet Zero",
    "packet Flush",
    "packet WriteAck",
    "packet NegativeAck",
    "packet FlushAck",
    "packet Settle",
    "packet Settled",
    "packet RemoteRead",
    "packet RemoteData",
    "packet Ping",
    "packet PingAck",
    OLDER,
];

const OFTEN_WITHOUT_DISK: &[&str] = &[
    "request Read",
    "request Write",
    "request Zero",
    "request Flush",
    "LinkDown",
    "Timer",
    "Openers",
    "command Attach",
    "command Demote",
    "command ResumeIo",
    "packet State",
    "packet Ping",
    "packet PingAck",
];

const OFTEN_BESIDE_ONE_WITHOUT_DISK: &[&str] = &[
    "request Read",
    "request Write",
    "request Flush",
    "DiskDone",
    "MetaDone",
    "LinkDown",
    "Timer",
    "HandlerDone",
    "packet State",
    "packet NegativeAck",
    "packet RemoteRead",
    "packet RemoteWrite",
    "packet RemoteFlush",
    "packet Ping",
    "packet PingAck",
];

const OFTEN_BEFORE_BEING_FILLED: &[&str] = &[
    "request Read",
    "request Write",
    "DiskDone",
    "MetaDone",
    "Timer",
    "packet Flush",
    "packet Bitmap",
    "packet BitmapEnd",
    "packet RemoteDone",
];

const OFTEN_BEING_FILLED: &[&str] = &[
    "request Read",
    "request Write",
    "request Zero",
    "request Flush",
    "DiskDone",
    "Digests",
    "MetaDone",
    "Timer",
    "packet Write",
    "packet Zero",
    "packet Flush",
    "packet FlushAck",
    "packet Settled",
    "packet ResyncData",
    "packet ResyncZero",
    "packet ResyncSame",
    "packet ResyncState",
    "packet RemoteDone",
    "packet RemoteData",
];

const OFTEN_BEFORE_FILLING: &[&str] = &[
    "DiskDone",
    "MetaDone",
    "LinkDown",
    "Timer",
    "packet State",
    "packet FlushAck",
    "packet Bitmap",
    "packet BitmapEnd",
    "packet RemoteRead",
    "packet RemoteWrite",
    "packet RemoteZero",
    "packet RemoteFlush",
];

const OFTEN_FILLING: &[&str] = &[
    "request Read",
    "request Write",
    "request Zero",
    "request Flush",
    "DiskDone",
    "Digests",
    "MetaDone",
    "Timer",
    "Openers",
    "packet State",
    "packet Flush",
    "packet WriteAck",
    "packet FlushAck",
    "packet Settle",
    "packet ResyncRequest",
    "packet ResyncAck",
    "packet ResyncDone",
    "packet ResyncCompare",
    "packet ResyncState",
    "packet RemoteRead",
    "packet RemoteWrite",
    "packet RemoteZero",
    "packet RemoteFlush",
];
