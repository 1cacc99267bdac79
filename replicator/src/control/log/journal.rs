//! Lines as the journal takes them, with their fields: a datagram of `NAME=value` lines each
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::fmt::{Debug, Display, Result};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// The journal's socket.
pub(super) struct Journal(UnixDatagram);

impl Journal {
    /// An error when there is no journal.
    pub(super) fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // An empty one is ignored.
        socket.send_to(&[], SOCKET)?;
        Ok(Self(socket))
    }
}

impl Write for Journal {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // By its name each time: a journal that is started anew listens on a new socket.
        self.0.send_to(line, SOCKET)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An event with the fields of the spans it is in.
pub(super) struct JournalFormat;

impl<S, F> FormatEvent<S, F> for JournalFormat
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    F: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, F>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> Result {
        let about = event.metadata();
        writeln!(writer, "PRIORITY={}", priority(*about.level()))?;
        writeln!(writer, "SYSLOG_IDENTIFIER=rbdd")?;
        writeln!(writer, "TARGET={}", about.target())?;
        if let (Some(file), Some(line)) = (about.file(), about.line()) {
            writeln!(writer, "CODE_FILE={file}\nCODE_LINE={line}")?;
        }
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<F>>() {
                write!(writer, "{fields}")?;
            }
        }
        context.format_fields(writer, event)
    }
}

/// As the journal has them: errors are `err`, what is logged by default is `notice` at least.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 5,
        Level::DEBUG => 6,
        Level::TRACE => 7,
    }
}

/// The message as `MESSAGE`, all others under their names with `RBD_` before it.
pub(super) struct JournalFields;

impl<'writer> FormatFields<'writer> for JournalFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> Result {
        let mut visitor = FieldLines {
            writer,
            result: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldLines<'writer> {
    writer: Writer<'writer>,
    result: Result,
}

impl FieldLines<'_> {
    fn put(&mut self, field: &Field, value: &dyn Display) {
        if self.result.is_ok() {
            self.result = self.try_put(field.name(), &value.to_string());
        }
    }

    /// A name has letters, digits and underscores only. A line break in a value would begin
    /// another field.
    fn try_put(&mut self, name: &str, value: &str) -> Result {
        if name == "message" {
            self.writer.write_str("MESSAGE")?;
        } else {
            self.writer.write_str("RBD_")?;
            for letter in name.chars() {
                let letter = letter.to_ascii_uppercase();
                let fits = letter.is_ascii_alphanumeric();
                self.writer.write_char(if fits { letter } else { '_' })?;
            }
        }
        writeln!(self.writer, "={}", value.replace('\n', " "))
    }
}

impl Visit for FieldLines<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, &format_args!("{value:?}"));
    }
}

/// Where the journal listens.
const SOCKET: &str = "/run/systemd/journal/socket";
