//! Which pairs of situation and event can be.
//!
//! A run that meets one that is impossible shows that the reason does not hold. A rare one may be
//! met any time; the reason says what has to coincide.

use super::{Between, Disk, LATE, OLDER, Situation};

/// What is known of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is met when many seeds are run.
    Possible,
    /// It can be, but hardly ever is.
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
    if is_just_created(situation) {
        return of_just_created(event);
    }
    match event.strip_prefix("packet ") {
        Some(packet) if event != LATE && event != OLDER => of_packet(situation, packet),
        _ => of_fact_or_wish(situation, event),
    }
}

fn no_such_situation(situation: Situation) -> Option<&'static str> {
    let Situation {
        primary,
        disk,
        between,
    } = situation;
    let is_target = matches!(between, Between::Target | Between::BitmapTarget);
    let is_source = matches!(between, Between::Source | Between::BitmapSource);
    if primary && disk == Disk::Partial {
        return Some("a Primary's data is UpToDate (G2)");
    }
    if primary && is_target {
        return Some("a Primary is never a target (D7)");
    }
    if is_target && disk != Disk::Partial {
        return Some("a target is Inconsistent (E1)");
    }
    if is_source && disk != Disk::Good {
        return Some("a source is UpToDate (S6)");
    }
    if between == Between::Established && disk == Disk::None {
        return Some("without a disk nothing is replicated");
    }
    None
}

/// Two just created disks are Established and Inconsistent until one of them is declared good.
fn is_just_created(situation: Situation) -> bool {
    !situation.primary
        && situation.disk == Disk::Partial
        && situation.between == Between::Established
}

fn of_just_created(event: &str) -> Verdict {
    const BEGINNING: [&str; 8] = [
        "LinkDown",
        "command NewGeneration",
        "command Promote",
        "packet NewGeneration",
        "packet NewGenerationAck",
        "packet PromoteRequest",
        "packet PromoteReply",
        "packet State",
    ];
    if BEGINNING.contains(&event) {
        return Possible;
    }
    Impossible("the simulation declares just created disks good before anything else happens")
}

fn is_closing(between: Between) -> bool {
    matches!(between, Between::Alone | Between::Connecting)
}

fn of_fact_or_wish(situation: Situation, event: &str) -> Verdict {
    let Situation {
        primary,
        disk,
        between,
    } = situation;
    let closing = is_closing(between);
    match event {
        _ if event.starts_with("request") && !primary => {
            Impossible("only a Primary has clients (X3)")
        }
        "HandlerDone" if disk == Disk::None && (primary || between != Between::Alone) => {
            Impossible("where there are handlers no disk fails")
        }
        "HandlerDone" if between == Between::Idle => {
            Rare("where there are handlers a peer has no disk only when it comes up")
        }
        "HandlerDone"
            if !primary && !matches!(between, Between::Connecting | Between::Established) =>
        {
            Rare("a Primary has called it, and has been demoted meanwhile")
        }
        "MetaDone with an error" if between == Between::Source || (primary && closing) => {
            Rare("metadata is hardly ever written then")
        }
        "LinkUp" if primary && disk == Disk::None && between == Between::Alone => {
            Rare("the disk fails and someone disconnects while a link is being made")
        }
        "Digests" if disk != Disk::Good || between != Between::Established => {
            Rare("it belongs to a verify that has just been interrupted")
        }
        "command Verify" if disk != Disk::Good || between != Between::Established => {
            Rare("where copies are compared, links are cut and nothing else goes wrong")
        }
        OLDER if between == Between::Alone => {
            Rare("it comes soon after its link, and the next one has come and gone")
        }
        "LinkUp" if !closing => Rare(
            "someone disconnects and connects while a link is being made: it goes on seeking, \
             and the next link comes before word of the loss of this one",
        ),
        LATE if !closing => Impossible("its link is neither being made nor being closed"),
        _ => Possible,
    }
}

fn of_packet(situation: Situation, packet: &str) -> Verdict {
    let Situation {
        primary,
        disk,
        between,
    } = situation;
    match packet {
        "Hello" if between == Between::Connecting => return Possible,
        "Hello" => return Impossible("a greeting comes once, before anything is decided"),
        _ if is_closing(between) => {
            return Impossible("it counts as a packet of a link being made or closed");
        }
        "NewGeneration" | "NewGenerationAck" => {
            return Impossible("it is for two just created disks");
        }
        "State" | "Goodbye" | "Ping" | "PingAck" => return Possible,
        "PromoteRequest" | "PromoteReply" => return of_consent(situation, packet),
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
        "Write" | "Zero" if primary => return Impossible("there is one Primary at most (G1)"),
        "NegativeAck" if !primary && between != Between::Idle => {
            return Rare("only for a flush of its own, of which a Secondary makes few");
        }
        "WriteAck" if !primary => {
            return Impossible("a node is demoted when its writes have been answered");
        }
        _ => {}
    }
    match between {
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
    }
}

/// A promotion needs the consent of the peer.
fn of_consent(situation: Situation, packet: &str) -> Verdict {
    let Situation {
        primary,
        disk,
        between,
    } = situation;
    match packet {
        "PromoteReply" if primary => Impossible("who has become Primary has had its answer"),
        "PromoteReply" if disk == Disk::None => Impossible("who has no disk does not ask"),
        "PromoteRequest" if primary && disk == Disk::None => {
            Impossible("the peer was greeted by a Primary")
        }
        "PromoteRequest" if primary => Rare(
            "who has consented does not ask for a while, and who knows of the Primary not at all",
        ),
        "PromoteReply" if disk == Disk::Partial => Rare("only by force, by a careless operator"),
        "PromoteRequest" if between == Between::Idle && disk != Disk::None => {
            Rare("asked before the peer's disk failed, and overtaken by word of that")
        }
        _ => Possible,
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
        _ => Rare("sent before the peer's disk failed, and overtaken by word of that"),
    }
}

fn of_packet_from_target(between: Between, packet: &str) -> Verdict {
    match packet {
        "Write" | "Zero" => Impossible("a target is no Primary (D7)"),
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
