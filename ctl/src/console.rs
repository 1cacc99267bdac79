//! Standard output and error as the commands use them.
//!
//! A reader that goes away (`rbdadm status | head -1`) never stops a command from being carried
//! out: what it prints afterwards is dropped. Any other trouble with standard output is
//! remembered, so that the program does not claim success for text nobody received.

use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal, Write};

use rustix::termios::tcgetwinsize;

/// Where a command prints.
pub(crate) struct Console {
    out: Box<dyn Write>,
    err: Box<dyn Write>,
    trouble: Option<ErrorKind>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Color {
    /// When standard output is a terminal and `NO_COLOR` is not set.
    Auto,
    /// Even into a pipe or file.
    Always,
    /// Not even on a terminal.
    Never,
}

impl Console {
    /// The process's own streams.
    pub(crate) fn of_process() -> Self {
        Self {
            out: Box::new(io::stdout()),
            err: Box::new(io::stderr()),
            trouble: None,
        }
    }

    /// Prints text to standard output as it is.
    pub(crate) fn print(&mut self, text: &str) {
        if self.trouble.is_some() {
            return;
        }
        let result = self
            .out
            .write_all(text.as_bytes())
            .and_then(|()| self.out.flush());
        if let Err(error) = result {
            self.trouble = Some(error.kind());
        }
    }

    /// Prints one line to standard output.
    pub(crate) fn line(&mut self, text: impl Display) {
        self.print(&format!("{text}\n"));
    }

    /// Prints one line to standard error.
    pub(crate) fn complain(&mut self, text: impl Display) {
        // With standard error gone there is nowhere left to report anything.
        drop(writeln!(self.err, "{text}"));
    }

    /// Prints text to standard error as it is.
    pub(crate) fn complain_raw(&mut self, text: &str) {
        drop(
            self.err
                .write_all(text.as_bytes())
                .and_then(|()| self.err.flush()),
        );
    }

    /// Whether the reader of standard output has gone away or it cannot be written.
    pub(crate) fn is_closed(&self) -> bool {
        self.trouble.is_some()
    }

    /// What went wrong with standard output, a reader that went away excepted.
    pub(crate) fn lost_output(&self) -> Option<ErrorKind> {
        self.trouble.filter(|kind| *kind != ErrorKind::BrokenPipe)
    }

    /// Whether standard output is a terminal.
    pub(crate) fn is_terminal() -> bool {
        io::stdout().is_terminal()
    }

    /// Columns of the terminal, or [`DEFAULT_WIDTH`] when standard output is none.
    pub(crate) fn width() -> usize {
        if !Self::is_terminal() {
            return DEFAULT_WIDTH;
        }
        match tcgetwinsize(io::stdout()) {
            Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
            Ok(_) | Err(_) => DEFAULT_WIDTH,
        }
    }
}

impl Color {
    /// Whether to print escape sequences to standard output.
    pub(crate) fn is_wanted(self) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => Console::is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        }
    }
}

/// Where lines wrap when standard output is not a terminal.
pub(crate) const DEFAULT_WIDTH: usize = 80;
