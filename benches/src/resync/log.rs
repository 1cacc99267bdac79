//! What a daemon's log tells about a resync: when it began and ended, and how much there was.
//!
//! The log is read because it has the moment of each event, and costs the daemon nothing while it
//! is measured.

/// One resync, as its source has told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// How long before it the nodes had met, in seconds: the exchange of bitmaps.
    pub(super) exchange_s: f64,
    /// How much was out of sync.
    pub(super) bytes: u64,
    /// How long it took, in seconds; `None` if it has not ended.
    pub(super) took_s: Option<f64>,
}

/// The last resync in a daemon's log of which it was the source.
pub(super) fn last_resync(log: &str) -> Option<Told> {
    let mut met = None;
    let mut told: Option<(f64, Told)> = None;
    for line in log.lines() {
        let Some(at) = moment(line) else { continue };
        if line.contains(" connected resource=") {
            met = Some(at);
        } else if let Some(bytes) = bytes_to_send(line) {
            let exchange_s = at - met.unwrap_or(at);
            let begun = Told {
                exchange_s,
                bytes,
                took_s: None,
            };
            told = Some((at, begun));
        } else if line.contains("resync done (this node was the source)")
            && let Some((begun, told)) = &mut told
        {
            told.took_s = Some(at - *begun);
        }
    }
    told.map(|(_, told)| told)
}

fn bytes_to_send(line: &str) -> Option<u64> {
    let (_, rest) = line.split_once("resync begins: ")?;
    let (number, _) = rest.split_once(" bytes to send")?;
    number.parse().ok()
}

/// The time of day a line begins with, in seconds, and the day: only differences matter, and none
/// is taken over the end of a month.
fn moment(line: &str) -> Option<f64> {
    let word = line.split_whitespace().next()?;
    let (date, time) = word.strip_suffix('Z')?.split_once('T')?;
    let day: f64 = date.rsplit('-').next()?.parse().ok()?;
    let mut parts = time.split(':').map(str::parse::<f64>);
    let (hour, minute, second) = (
        parts.next()?.ok()?,
        parts.next()?.ok()?,
        parts.next()?.ok()?,
    );
    Some(((day * 24.0 + hour) * 60.0 + minute) * 60.0 + second)
}

#[cfg(test)]
mod tests {
    use super::last_resync;

    const LOG: &str = r#"
2026-11-21T21:50:04.415728Z  INFO connected resource="r0" peer="beta"
2026-11-21T21:50:04.500000Z  INFO resync begins: 8192 bytes to send resource="r0" volume=0
2026-11-21T23:59:59.500000Z  INFO connected resource="r0" peer="beta"
2026-11-21T23:59:59.750000Z  INFO resync begins: 4096 bytes to send resource="r0" volume=0
2026-11-22T00:00:00.250000Z  INFO resync done (this node was the source) resource="r0"
"#;

    #[test]
    fn the_last_resync_counts_also_over_midnight() {
        let told = last_resync(LOG).expect("a resync");
        assert_eq!(told.bytes, 4096);
        assert!((told.exchange_s - 0.25).abs() < 1e-6, "{told:?}");
        let took = told.took_s.expect("it has ended");
        assert!((took - 0.5).abs() < 1e-6, "{told:?}");
    }

    #[test]
    fn a_resync_that_runs_has_no_end_and_a_log_without_one_has_none() {
        let lines: Vec<&str> = LOG.lines().take(3).collect();
        let told = last_resync(&lines.join("\n")).expect("a resync");
        assert_eq!((told.bytes, told.took_s), (8192, None));
        assert_eq!(last_resync("nothing"), None);
    }
}
