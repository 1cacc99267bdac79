//! Lines, and whoever reads them or not.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;

use super::journal::{JournalFields, JournalFormat};
use super::{WAITING_LINES, in_background};

/// Keeps what is written.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn the_journal_gets_a_line_for_each_field_of_event_and_spans() {
    let kept = Kept::default();
    let writer = {
        let kept = kept.clone();
        move || kept.clone()
    };
    let layer = fmt::layer()
        .fmt_fields(JournalFields)
        .event_format(JournalFormat)
        .with_writer(writer)
        .with_ansi(false);
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let _resource = tracing::error_span!("resource", resource = "r0").entered();
        tracing::warn!(peer = %"beta", blocks = 7, r#"of "two" lines{}PRIORITY=0"#, "\n");
    });
    let text = kept.text();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("CODE_") && !line.starts_with("TARGET="))
        .collect();
    let expected = [
        "PRIORITY=4",
        "SYSLOG_IDENTIFIER=rbdd",
        "RBD_RESOURCE=r0",
        "MESSAGE=of \"two\" lines PRIORITY=0",
        "RBD_PEER=beta",
        "RBD_BLOCKS=7",
    ];
    assert_eq!(lines, expected);
    assert!(text.contains("CODE_FILE=replicator/src/control/log/tests.rs\n"));
}

/// Writes only when it is let.
struct Stuck {
    begun: Sender<()>,
    let_go: Receiver<()>,
    kept: Kept,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun.send(()).unwrap();
        // When nobody can let it any more, it is let for good.
        self.let_go.recv().unwrap_or_default();
        self.kept.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_nobody_reads_stops_nobody_and_says_later_how_much_is_missing() {
    let kept = Kept::default();
    let (begun, has_begun) = channel();
    let (go, let_go) = channel();
    let (tell, told) = channel();
    let stuck = Stuck {
        begun,
        let_go,
        kept: kept.clone(),
    };
    let (mut lines, _guard) = in_background(stuck, move |count| tell.send(count).unwrap());
    // One is being written, so many wait, and the rest is lost.
    writeln!(lines, "first").unwrap();
    has_begun.recv().unwrap();
    for _ in 0..WAITING_LINES + 3 {
        writeln!(lines, "another").unwrap();
    }
    drop(go);
    assert_eq!(told.recv(), Ok(3));
    for _ in 0..WAITING_LINES {
        has_begun.recv().unwrap();
    }
    writeln!(lines, "last").unwrap();
    has_begun.recv().unwrap();
    // The one before the last has been written when the last is begun.
    assert_eq!(kept.text().matches("another").count(), WAITING_LINES);
}
