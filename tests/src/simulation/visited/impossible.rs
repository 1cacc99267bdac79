//! Pairs of situation and event that cannot be, each with the reason.
//!
//! A run that meets one all the same shows that the reason does not hold.

use super::{Between, Disk, LATE, Situation};

/// Why this event cannot meet a node in this situation; `None` if it can.
pub(super) fn why_not(situation: Situation, event: &str) -> Option<&'static str> {
    no_such_situation(situation)
        .or_else(|| not_from_the_hands(situation, event))
        .or_else(|| not_from_the_peer(situation, event))
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

fn not_from_the_hands(situation: Situation, event: &str) -> Option<&'static str> {
    let Situation {
        primary,
        disk,
        between,
    } = situation;
    let closing = matches!(between, Between::Alone | Between::Connecting);
    if is_just_created(situation) && !BEGINNING.contains(&event) {
        return Some("the simulation declares just created disks good before anything else");
    }
    match event {
        _ if event.starts_with("request") && !primary => Some("only a Primary has clients (X3)"),
        "request Read" | "request Write" | "request Zero" | "request Flush"
            if disk == Disk::None =>
        {
            Some("a Primary without a disk closes its clients")
        }
        "DiskDone with an error" | "MetaDone with an error" => {
            Some("disks that fail are not modelled")
        }
        "HandlerDone" => Some("no handlers are configured in the simulation"),
        "command Resolve" => Some("nobody resolves split brains in the simulation"),
        "LinkUp" if !closing => Some("a link comes only where there is none"),
        "command Attach" if disk != Disk::None => Some("who has a disk is given none"),
        "command NewGeneration" | "packet NewGeneration" | "packet NewGenerationAck"
            if (primary, disk, between) != (false, Disk::Partial, Between::Established) =>
        {
            Some("it is for two just created disks")
        }
        _ => None,
    }
}

fn not_from_the_peer(situation: Situation, event: &str) -> Option<&'static str> {
    let Situation {
        primary, between, ..
    } = situation;
    let packet = event.strip_prefix("packet ")?;
    let closing = matches!(between, Between::Alone | Between::Connecting);
    if event == LATE {
        return (!closing).then_some("its link is not being closed");
    }
    if packet == "Hello" {
        return (between != Between::Connecting)
            .then_some("a greeting comes once, before anything is decided");
    }
    if closing {
        return Some("it counts as a packet of a link being closed");
    }
    let is_among = |allowed: &[Between]| allowed.contains(&between);
    let allowed = match packet {
        "Write" | "Zero" => {
            !primary && is_among(&[Between::Established, Between::BitmapTarget, Between::Target])
        }
        "WriteAck" => {
            primary && is_among(&[Between::Established, Between::BitmapSource, Between::Source])
        }
        "Flush" | "FlushAck" => between != Between::Idle,
        "Bitmap" | "BitmapEnd" => is_among(&[Between::BitmapSource, Between::BitmapTarget]),
        "ResyncRequest" | "ResyncAck" | "ResyncDone" => between == Between::Source,
        "ResyncData" => between == Between::Target,
        "NegativeAck" | "ResyncNegativeAck" => {
            return Some("disks that fail are not modelled");
        }
        "PromoteRequest" => !primary && !is_among(&[Between::Source, Between::BitmapSource]),
        "PromoteReply" => !primary && !is_among(&[Between::Target, Between::BitmapTarget]),
        _ => true,
    };
    (!allowed).then_some("no peer in its right mind sends it now")
}

/// What happens to two just created disks in the simulation.
const BEGINNING: [&str; 8] = [
    "LinkUp",
    "LinkDown",
    "command NewGeneration",
    "command Promote",
    "packet NewGeneration",
    "packet NewGenerationAck",
    "packet PromoteRequest",
    "packet PromoteReply",
];
