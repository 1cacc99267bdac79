//! Which pairs of situation and event can be.
//!
//! A run that meets one that is impossible shows that the reason does not hold. A rare one may be
//! met any time; the reason says what has to coincide.

use super::events::{LATE, OLDER};
use super::two::of_two;
use super::{Between, Disk, Situation};

/// What is known of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is met when many seeds are run.
    Possible,
    /// It can be, but is met in fewer than ten of 2,700 seeds.
    Rare(&'static str),
    /// It cannot be.
    Impossible(&'static str),
}

use Verdict::{Impossible, Possible, Rare};

/// Whether this event can meet a node in this situation.
pub(super) fn verdict(situation: Situation, event: &str) -> Verdict {
    if let Some(why) = no_such_situation(situation) {
        return Impossible(why);
    }
    if OF_GROWTH.contains(&event) {
        return Rare("volumes grow in one profile only, and hardly ever then");
    }
    if event == "SizeNoted" {
        return Rare("metadata moves in two profiles only, and hardly ever just then");
    }
    if situation.beside {
        return of_two(situation, event);
    }
    if is_just_created(situation) {
        return of_just_created(event);
    }
    if situation.primary && situation.disk == Disk::Partial {
        return of_filled(situation.between, event);
    }
    match event.strip_prefix("packet ") {
        Some(packet) if event != LATE && event != OLDER => of_packet(situation, packet),
        _ => of_fact_or_wish(situation, event),
    }
}

const OF_GROWTH: [&str; 4] = [
    "Measured",
    "command Resize",
    "packet ResizeRequest",
    "packet ResizeReply",
];

fn no_such_situation(situation: Situation) -> Option<&'static str> {
    let Situation {
        primary,
        disk,
        between,
        ..
    } = situation;
    let is_target = matches!(between, Between::Target | Between::BitmapTarget);
    let is_source = matches!(between, Between::Source | Between::BitmapSource);
    if is_target && disk != Disk::Partial {
        return Some("a target is Inconsistent (E1)");
    }
    if is_source && disk != Disk::Good {
        return Some("a source is UpToDate (S6)");
    }
    if between == Between::Established && disk == Disk::None {
        return Some("without a disk nothing is replicated");
    }
    if primary && disk == Disk::Partial && between == Between::Established {
        return Some("a Primary's data is UpToDate (G2), unless it is being filled");
    }
    None
}

/// A Primary that its peer serves has been given a disk, which is not whole yet.
fn of_filled(between: Between, event: &str) -> Verdict {
    let being_filled = Rare("the disk of a Primary is being filled just then");
    let packet = event.strip_prefix("packet ").unwrap_or("none");
    match between {
        Between::Alone | Between::Connecting if !matches!(event, LATE | OLDER) => {
            if packet == "Hello" && between == Between::Connecting {
                return Possible;
            }
            if packet != "none" {
                return Impossible("it counts as a packet of a link being made or closed");
            }
        }
        Between::BitmapTarget | Between::Target | Between::Idle if event == LATE => {
            return NOT_LATE;
        }
        _ => {}
    }
    match (between, packet) {
        (_, "Hello") => GREETED,
        (_, "NewGeneration" | "NewGenerationAck") => Impossible("it is for two just created disks"),
        (_, "RemoteRead" | "RemoteWrite" | "RemoteZero" | "RemoteFlush") => ONE_PRIMARY,
        (_, "PromoteReply") => Impossible("who has become Primary has had its answer"),
        (_, "LeaveReply") => Impossible("a Primary does not ask"),
        (_, "WriteAck") => Impossible("nothing is mirrored from a disk that is not whole"),
        (_, "ResyncRequest" | "ResyncAck" | "ResyncDone") => Impossible("only a target sends it"),
        (Between::Target, "Bitmap" | "BitmapEnd") => Impossible("the bitmaps have been exchanged"),
        (Between::BitmapTarget, "ResyncData" | "ResyncNegativeAck") => {
            Impossible("nothing has been asked for yet")
        }
        (Between::BitmapTarget, "Bitmap" | "BitmapEnd" | "Flush") => Possible,
        (Between::BitmapTarget | Between::Target, "RemoteData" | "RemoteDone" | "Write") => {
            Possible
        }
        (Between::Target, "ResyncData" | "Flush" | "FlushAck" | "Zero") => Possible,
        (Between::Idle | Between::Alone, _) => being_filled,
        (_, "none") => match event {
            "DiskDone" | "MetaDone" | "Openers" | "Timer" => Possible,
            "request Read" | "request Write" => Possible,
            "request Flush" | "request Zero" if between == Between::Target => Possible,
            "LinkUp" | "LinkDown" | "command Demote" if between == Between::Connecting => Possible,
            _ => being_filled,
        },
        (_, _) => being_filled,
    }
}

/// Two just created disks are Established and Inconsistent until one of them is declared good, and
/// the other one's node has heard of it.
fn is_just_created(situation: Situation) -> bool {
    !situation.primary
        && situation.disk == Disk::Partial
        && situation.between == Between::Established
}

fn of_just_created(event: &str) -> Verdict {
    match event {
        "LinkDown" | "command NewGeneration" | "command Promote" | "command Demote" => Possible,
        "command Configure" | "command Connect" | "command Outdate" => Possible,
        "command SuspendIo" | "command ResumeIo" => Possible,
        "packet NewGeneration" | "packet NewGenerationAck" | "packet State" => Possible,
        "packet PromoteRequest" | "packet PromoteReply" => Possible,
        "packet Hello" => GREETED,
        "packet Flush" | "packet FlushAck" | "packet NegativeAck" => Rare(
            "only for a checkpoint, of which there is none in so short a time unless a clock jumps",
        ),
        "packet Ping" | "packet PingAck" | "packet Goodbye" => BEING_DECLARED,
        "packet InvalidateRequest" | "packet InvalidateReply" | "HandlerDone" => LEAVING,
        "packet VerifyRequest" | "packet VerifyRelease" | "packet VerifyReply" => LEAVING,
        _ if event.starts_with("packet Remote") => ASKS_NOBODY,
        OLDER => BEING_DECLARED,
        LATE => NOT_LATE,
        _ if event.starts_with("packet") => {
            Impossible("the link is made anew when one of the two is declared good")
        }
        _ if event.starts_with("request") => NO_CLIENTS,
        _ => BEING_DECLARED,
    }
}

fn is_closing(between: Between) -> bool {
    matches!(between, Between::Alone | Between::Connecting)
}

fn of_fact_or_wish(situation: Situation, event: &str) -> Verdict {
    let Situation {
        primary,
        disk,
        between,
        ..
    } = situation;
    let closing = is_closing(between);
    match event {
        _ if event.starts_with("request") && !primary => NO_CLIENTS,
        "HandlerDone" if disk == Disk::None && (primary || between != Between::Alone) => {
            Rare("the disk fails while a handler runs")
        }
        "HandlerDone" if between == Between::Idle => {
            Rare("a handler is called for a peer with a disk, which has none when it ends")
        }
        "HandlerDone" if disk == Disk::Good && between == Between::Alone => Possible,
        "HandlerDone"
            if !primary && !matches!(between, Between::Connecting | Between::Established) =>
        {
            Rare("a Primary has called it, and has been demoted meanwhile")
        }
        "MetaDone with an error"
            if between == Between::Source || (primary && between == Between::Alone) =>
        {
            Rare("metadata is hardly ever written then")
        }
        "LinkUp" if primary && disk == Disk::None && between == Between::Alone => {
            Rare("the disk fails and someone disconnects while a link is being made")
        }
        "Digests" if matches!(between, Between::Source | Between::Target) => Possible,
        "command PauseSync" => Impossible("nobody holds a resync back"),
        "Digests" if disk != Disk::Good || between != Between::Established => {
            Rare("it belongs to a verify or a resync that has just been interrupted")
        }
        "command Verify" if disk != Disk::Good || between != Between::Established => {
            Rare("copies are compared in one profile only, and hardly ever then")
        }
        OLDER if between == Between::Alone => {
            Rare("it comes soon after its link, and the next one has come and gone")
        }
        LATE if !closing => NOT_LATE,
        _ => Possible,
    }
}

fn of_packet(situation: Situation, packet: &str) -> Verdict {
    // Asked and answered in other words.
    let packet = match packet {
        "ResyncCompare" => "ResyncRequest",
        "ResyncZero" | "ResyncSame" => "ResyncData",
        other => other,
    };
    let Situation {
        primary,
        disk,
        between,
        ..
    } = situation;
    match packet {
        "Hello" if between == Between::Connecting => return Possible,
        "Hello" => return GREETED,
        _ if is_closing(between) => {
            return Impossible("it counts as a packet of a link being made or closed");
        }
        "NewGeneration" | "NewGenerationAck" => {
            return Impossible("it is for two just created disks");
        }
        "State" | "Goodbye" | "Ping" | "PingAck" => return Possible,
        "ResyncState" if matches!(between, Between::Source | Between::Target) => return Possible,
        "ResyncState" => {
            return Rare("the resync it is about has only just begun, or has ended");
        }
        "PromoteRequest" | "PromoteReply" => return of_consent(situation, packet),
        "Leave" | "LeaveReply" | "Outdated" => return of_parting(situation, packet),
        "InvalidateRequest" | "InvalidateReply" if between == Between::Established => {
            return Possible;
        }
        "VerifyRequest" | "VerifyRelease" | "VerifyReply" if between == Between::Established => {
            return Possible;
        }
        "VerifyRequest" | "VerifyRelease" | "VerifyReply" => {
            return Rare("it belongs to a verify that has just been interrupted");
        }
        "InvalidateRequest" | "InvalidateReply" => {
            return Rare("asked while both were in sync, and overtaken by a change of that");
        }
        "RemoteRead" | "RemoteWrite" | "RemoteZero" | "RemoteFlush" => {
            return of_errand(situation, packet);
        }
        "RemoteDone" | "RemoteData" | "RemoteFailed" => return of_errand_answer(situation, packet),
        "Write" | "Zero" if primary => return ONE_PRIMARY,
        "NegativeAck" if !primary && !matches!(between, Between::Idle | Between::Source) => {
            return Rare("only for a flush of its own, of which a Secondary makes few");
        }
        "WriteAck" if !primary && disk == Disk::Good && between == Between::Idle => {
            return Rare("the disk of a Primary that was being filled has just failed again");
        }
        "WriteAck" if !primary && !matches!(between, Between::BitmapSource | Between::Source) => {
            return Impossible("a node is demoted when its writes have been answered");
        }
        _ => {}
    }
    let verdict = match between {
        Between::Idle if disk == Disk::None => {
            Impossible("a link is made anew without a disk, and then no data is talked about")
        }
        Between::Idle => of_straggler(situation, packet),
        Between::BitmapSource | Between::Source => of_packet_from_target(between, packet),
        Between::BitmapTarget | Between::Target => of_packet_from_source(between, packet),
        _ => match packet {
            "Bitmap" | "BitmapEnd" | "ResyncRequest" | "ResyncData" | "ResyncAck"
            | "ResyncNegativeAck" | "ResyncDone" => Impossible("no resync is running"),
            _ => Possible,
        },
    };
    match (verdict, packet) {
        (Possible, "Settle" | "Settled") if is_resyncing(between) => Rare(
            "beside a resync it is about a thousand writes, or one of two is demoted just then",
        ),
        _ => verdict,
    }
}

fn is_resyncing(between: Between) -> bool {
    matches!(
        between,
        Between::BitmapSource | Between::Source | Between::BitmapTarget | Between::Target
    )
}

/// A Secondary leaves a Primary, with fencing.
fn of_parting(situation: Situation, packet: &str) -> Verdict {
    let Situation { primary, disk, .. } = situation;
    match packet {
        "Leave" if !primary => Rare("the Primary is being demoted just then"),
        "Leave" if disk != Disk::Good => Rare("the Primary's disk fails just then"),
        "LeaveReply" if primary => Impossible("a Primary does not ask"),
        "Outdated" if !primary => {
            Impossible("its role does not change while a Primary waits for it")
        }
        "Outdated" if disk != Disk::Good => {
            Impossible("a Primary without its disk has given that up")
        }
        _ if situation.between == Between::Established => Possible,
        _ => Rare("it leaves just after it has come, and has not all of the data"),
    }
}

/// A promotion needs the consent of the peer.
fn of_consent(situation: Situation, packet: &str) -> Verdict {
    let Situation {
        primary,
        disk,
        between,
        ..
    } = situation;
    match packet {
        "PromoteReply" if primary => Impossible("who has become Primary has had its answer"),
        "PromoteRequest" if primary && between == Between::Established => Possible,
        "PromoteRequest" if primary => Rare(
            "who has consented does not ask for a while, and who knows of the Primary not at all",
        ),
        "PromoteReply" if between == Between::Target => Possible,
        "PromoteReply" if disk == Disk::Partial => Rare("only by force, by a careless operator"),
        "PromoteRequest" if between == Between::Idle && disk == Disk::Partial => {
            Rare("asked before the peer's disk failed, and overtaken by word of that")
        }
        _ => Possible,
    }
}

/// A Primary without a disk has its clients' requests done by a peer that is UpToDate; one whose
/// disk cannot read a place asks for that, and so does any node for what its verify could not read.
fn of_errand(situation: Situation, packet: &str) -> Verdict {
    let is_good = situation.disk == Disk::Good;
    match situation {
        _ if situation.primary && packet == "RemoteRead" => {
            Rare("what a verify could not read on the other node")
        }
        _ if situation.primary => ONE_PRIMARY,
        // The disk of the node that asks is being filled from here.
        _ if matches!(situation.between, Between::BitmapSource | Between::Source) => Possible,
        _ if packet == "RemoteRead" && is_good && situation.between == Between::Established => {
            Possible
        }
        _ if packet == "RemoteRead" && !(is_good && situation.between == Between::Idle) => {
            Rare("what the Primary could not read; it was asked for before the disk here failed")
        }
        _ if situation.between != Between::Idle => ASKS_NOBODY,
        _ if situation.disk == Disk::None => Impossible("who has no disk serves nobody"),
        _ if situation.disk == Disk::Partial => Impossible("only who is UpToDate is asked"),
        _ => Possible,
    }
}

fn of_errand_answer(situation: Situation, packet: &str) -> Verdict {
    let mends = situation.disk == Disk::Good && packet != "RemoteDone";
    let is_established = situation.between == Between::Established;
    match situation {
        _ if mends && situation.primary && is_established && packet == "RemoteData" => Possible,
        _ if mends => Rare("neither disk can read a place, or much else has changed meanwhile"),
        _ if situation.disk == Disk::Partial => {
            Rare("the peer's disk has failed while it filled the one here, and a demotion ended")
        }
        _ if situation.disk != Disk::None => {
            Impossible("a disk is used, or filled, when nothing is being asked for any more")
        }
        _ if situation.primary || packet == "RemoteFailed" => Possible,
        _ => {
            Rare("the peer's disk has failed, and word of that has come first and ended a demotion")
        }
    }
}

/// The peer's disk has failed, or it never had one. What it sent before may come after word of
/// that, since acknowledgements take another way than all else.
fn of_straggler(situation: Situation, packet: &str) -> Verdict {
    let was_target = situation.disk == Disk::Partial;
    match packet {
        "ResyncRequest" | "ResyncAck" | "ResyncDone" if was_target => {
            Impossible("only a target sends it")
        }
        "ResyncData" | "ResyncNegativeAck" if !was_target => Impossible("only a source sends it"),
        "ResyncRequest" | "ResyncNegativeAck" => Possible,
        "NegativeAck" if !was_target => Possible,
        _ => Rare("sent before the peer's disk failed, and overtaken by word of that"),
    }
}

fn of_packet_from_target(between: Between, packet: &str) -> Verdict {
    match packet {
        "Write" | "Zero" => of_write_from_target(between),
        "ResyncData" | "ResyncNegativeAck" => Impossible("only a source sends it"),
        "Bitmap" | "BitmapEnd" if between == Between::Source => {
            Impossible("the bitmaps have been exchanged")
        }
        "ResyncRequest" | "ResyncAck" | "ResyncDone" if between == Between::BitmapSource => {
            Impossible("the target's bitmap comes first")
        }
        _ => Possible,
    }
}

/// A node being filled has its clients' writes done by the source. When it is whole it mirrors
/// them, and its word of that goes over the control connection.
pub(super) fn of_write_from_target(between: Between) -> Verdict {
    match between {
        Between::Source => Rare("the peer is whole, and its first write overtakes word of that"),
        _ => Impossible("a Primary that is filled has its writes done here"),
    }
}

fn of_packet_from_source(between: Between, packet: &str) -> Verdict {
    match packet {
        "ResyncRequest" | "ResyncAck" | "ResyncDone" => Impossible("only a target sends it"),
        "Bitmap" | "BitmapEnd" if between == Between::Target => {
            Impossible("the bitmaps have been exchanged")
        }
        "ResyncData" | "ResyncNegativeAck" if between == Between::BitmapTarget => {
            Impossible("nothing has been asked for yet")
        }
        _ => Possible,
    }
}

const NO_CLIENTS: Verdict = Impossible("only a Primary has clients (X3)");

const ONE_PRIMARY: Verdict = Impossible("there is one Primary at most (G1)");

const ASKS_NOBODY: Verdict = Impossible("who has a disk asks nobody");

pub(super) const GREETED: Verdict = Impossible("a greeting comes once, before anything is decided");

pub(super) const NOT_LATE: Verdict = Impossible("its link is neither being made nor being closed");

const LEAVING: Verdict =
    Rare("only of a Secondary that declares its data behind in order to leave");

const BEING_DECLARED: Verdict =
    Rare("between a just created disk's being declared good and the peer's hearing of it");
