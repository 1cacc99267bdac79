//! What the options of `disk { … }` say of the speed of resyncs.
//!
//! Only what was written counts: DRBD's defaults are limits for slow networks, and without any the
//! engine finds what link and disks have to spare.

use rbd_protocol::control::ResyncOptions;
use rbd_protocol::ids::VolumeNumber;

use super::effective::Effective;
use super::options::Section;

/// The limits of resyncs from one peer.
pub(super) fn resync_options(disk: &Effective<'_>) -> ResyncOptions {
    let number = |name| disk.number(Section::PeerDisk, name);
    let written = |name| {
        let setting = disk.setting(Section::PeerDisk, name);
        setting.map(|_| number(name))
    };
    let rate = |name| written(name).map(|kibibytes| kibibytes * KIBIBYTE);
    let fill = written("c-fill-target").filter(|sectors| *sectors > 0);
    let delay = written("c-delay-target").filter(|_| fill.is_none());
    ResyncOptions {
        fixed_rate: match written("c-plan-ahead") {
            Some(0) => Some(number("resync-rate") * KIBIBYTE),
            Some(_) => None,
            None => rate("resync-rate"),
        },
        max_rate: rate("c-max-rate").filter(|rate| *rate > 0),
        min_rate: rate("c-min-rate"),
        fill_bytes: fill.map(|sectors| sectors * SECTOR),
        delay_ms: delay.and_then(|tenths| u32::try_from(tenths * 100).ok()),
    }
}

/// `RESOURCE/VOLUME`, or `RESOURCE` for its volume 0.
pub(super) fn named_volume(text: &str) -> Option<(&str, VolumeNumber)> {
    let (resource, volume) = match text.split_once('/') {
        Some((resource, volume)) => (resource, volume.parse().ok()?),
        None => (text, 0),
    };
    (!resource.is_empty()).then_some((resource, VolumeNumber(volume)))
}

const KIBIBYTE: u64 = 1024;
const SECTOR: u64 = 512;
