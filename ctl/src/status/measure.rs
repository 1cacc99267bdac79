//! Quantities for people: percentages, rates, durations and sizes from the daemon's byte counts.

use rbd_protocol::control::{DeviceStatus, ResyncProgress};
use rbd_protocol::state::{DiskState, ResyncLimit};

/// Whether the node is configured to have no disk for this volume.
pub(super) fn is_intentionally_diskless(device: &DeviceStatus) -> bool {
    device.disk_state == DiskState::Diskless && device.backing_disk.is_none()
}

/// A percentage with two decimals, 100.00 only when nothing is left.
pub(crate) fn percent(value: f64) -> String {
    if value < 100.0 {
        format!("{:.2}", (value * 100.0).floor() / 100.0)
    } else {
        "100.00".to_owned()
    }
}

/// The rate of the last seconds; 0 while there is none.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub(super) fn mib_per_second(resync: &ResyncProgress) -> f64 {
    resync.rate.unwrap_or(0) as f64 / MIB as f64
}

/// Average rate since the resync started.
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub(super) fn average_mib_per_second(resync: &ResyncProgress) -> f64 {
    if resync.elapsed_ms == 0 {
        return 0.0;
    }
    let done = resync.total_bytes.saturating_sub(resync.remaining_bytes);
    done as f64 / MIB as f64 * 1000.0 / resync.elapsed_ms as f64
}

/// What keeps a resync from being faster, in words.
pub(super) fn limited_by(limit: ResyncLimit) -> &'static str {
    match limit {
        ResyncLimit::Link => "the link",
        ResyncLimit::DiskHere => "the disk of this node",
        ResyncLimit::DiskOfPeer => "the disk of the peer",
        ResyncLimit::Clients => "making room for clients",
        ResyncLimit::Configured => "the configured rate",
    }
}

/// A duration in the largest unit that suits: `12 s`, `3 min`, `5 h`, `2 d`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A moment, given in seconds since 1970, as people write it: `2023-11-14 22:13:20 UTC`.
pub(crate) fn moment(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The date so many days after 1970-01-01. Years are counted from March, so that the leap day is
/// their last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days.saturating_add(719_468);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let of_month = day - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + later, month, of_month)
}

/// A number of bytes in the largest binary unit that suits.
#[expect(clippy::cast_precision_loss, reason = "a size for people")]
pub(crate) fn size(bytes: u64) -> String {
    let units = [
        (1 << 40, "TiB"),
        (1 << 30, "GiB"),
        (MIB, "MiB"),
        (KIB, "KiB"),
    ];
    for (unit, name) in units {
        if bytes >= unit {
            return if bytes.is_multiple_of(unit) {
                format!("{} {name}", bytes / unit)
            } else {
                format!("{:.2} {name}", bytes as f64 / unit as f64)
            };
        }
    }
    format!("{bytes} B")
}

/// Bytes per KiB.
pub(crate) const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
