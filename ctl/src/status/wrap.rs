//! Words on lines of limited width, as DRBD's `status` breaks them.
//!
//! A word is never split. A continuation line is indented four columns deeper than the line it
//! continues. Escape sequences for colours take no room.

/// Builds indented, wrapped lines.
#[derive(Debug)]
pub(super) struct Wrapped {
    text: String,
    width: usize,
    color: bool,
    indent: usize,
    column: usize,
    /// Whether nothing stands on the line yet but its indentation.
    fresh: bool,
}

/// How a word is shown on a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As any other text.
    Plain,
    /// Names.
    Bold,
    /// As it should be.
    Good,
    /// On its way.
    Busy,
    /// Somebody should look.
    Bad,
}

impl Wrapped {
    /// Nothing yet; lines are at most `width` columns wide.
    pub(super) fn new(width: usize, color: bool) -> Self {
        Self {
            text: String::new(),
            width,
            color,
            indent: 0,
            column: 0,
            fresh: true,
        }
    }

    /// Begins a line.
    pub(super) fn begin(&mut self, indent: usize) {
        self.end();
        self.indent = indent;
        self.text.push_str(&" ".repeat(indent));
        self.column = indent;
        self.fresh = true;
    }

    /// Begins a continuation of the line.
    pub(super) fn continued(&mut self) {
        if !self.fresh {
            self.column = self.indent + CONTINUATION;
            self.text.push('\n');
            self.text.push_str(&" ".repeat(self.column));
            self.fresh = true;
        }
    }

    /// Adds a word.
    pub(super) fn word(&mut self, word: &str) {
        self.toned("", word, Tone::Plain);
    }

    /// Adds a word that stays on the line of the one before it, as DRBD has it for a few.
    pub(super) fn glued(&mut self, word: &str) {
        self.text.push(' ');
        self.text.push_str(word);
        self.column += 1 + word.chars().count();
    }

    /// Adds `key:value`, the value coloured.
    pub(super) fn toned(&mut self, key: &str, value: &str, tone: Tone) {
        let length = key.chars().count() + value.chars().count();
        if !self.fresh && self.column + 1 + length > self.width {
            self.continued();
        } else if !self.fresh {
            self.text.push(' ');
            self.column += 1;
        }
        self.fresh = false;
        self.text.push_str(key);
        self.text.push_str(&self.painted(value, tone));
        self.column += length;
    }

    /// Adds a line as it is, however long.
    pub(super) fn verbatim(&mut self, line: &str) {
        self.end();
        self.text.push_str(line);
        self.text.push('\n');
        self.fresh = true;
    }

    /// Ends the line.
    pub(super) fn end(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.fresh = true;
    }

    /// Everything written.
    pub(super) fn into_text(mut self) -> String {
        self.end();
        self.text
    }

    fn painted(&self, value: &str, tone: Tone) -> String {
        let code = match tone {
            Tone::Plain => "",
            Tone::Bold => "1",
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "1;31",
        };
        if self.color && !code.is_empty() {
            format!("\u{1b}[{code}m{value}\u{1b}[0m")
        } else {
            value.to_owned()
        }
    }
}

/// How much deeper a continuation is indented.
const CONTINUATION: usize = 4;
