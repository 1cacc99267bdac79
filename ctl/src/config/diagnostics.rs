//! Messages about a configuration: what is wrong, where, and what was probably meant.
//!
//! The first line of every message is `FILE:LINE:COLUMN: error: …`, so that scripts and editors
//! find it; the line itself follows with a mark under the culprit. Nothing here decides what is
//! an error.

use std::cell::Cell;
use std::fmt;
use std::rc::Rc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use super::source::{Place, Sources, Span};

/// How bad a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// The configuration is used; a person should know something about it.
    Warning,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where; `None` only for a file that could not be read at all, whose name is in `file`.
    pub place: Option<Place>,
    /// The file the message is about when there is no place inside it.
    pub file: String,
    /// What is wrong, in one line.
    pub message: String,
    /// What belongs under the mark.
    pub label: Option<String>,
    /// Other places that matter and what they are.
    pub notes: Vec<String>,
    /// What was probably meant or what helps.
    pub help: Option<String>,
    /// Sorts messages by their places, files in the order they were read.
    order: (u32, u32),
}

/// The messages of one configuration, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    unreadable: bool,
}

impl Diagnostic {
    /// The greppable first line: `FILE:LINE:COLUMN: error: message`.
    #[must_use]
    pub fn headline(&self) -> String {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        let message = visible(&self.message);
        match &self.place {
            Some(place) => {
                let (file, line, column) = (visible(&place.file), place.line, place.column);
                format!("{file}:{line}:{column}: {severity}: {message}")
            }
            None => format!("{}: {severity}: {message}", visible(&self.file)),
        }
    }

    /// Headline, then the line with the culprit marked, notes and help.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        let mut group = Group::with_level(level);
        if let Some(place) = self
            .place
            .as_ref()
            .filter(|place| !place.excerpt.is_empty())
        {
            let mark = AnnotationKind::Primary.span(place.marked.clone());
            let mark = mark.label(self.label.as_deref().map(visible));
            let snippet = Snippet::source(place.excerpt.as_str()).line_start(place.line);
            group = group.element(snippet.fold(false).annotation(mark));
        }
        for note in &self.notes {
            group = group.element(Level::NOTE.message(visible(note)));
        }
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(visible(help)));
        }
        let headline = self.headline();
        if group.is_empty() {
            return headline + "\n";
        }
        format!("{headline}\n{}\n", renderer.render(&[group]))
    }

    pub(crate) fn with_label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    pub(crate) fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    pub(crate) fn with_help(mut self, help: Option<String>) -> Self {
        self.help = help.or(self.help);
        self
    }
}

impl Diagnostics {
    /// The messages, in the order of their places.
    #[must_use]
    pub fn list(&self) -> &[Diagnostic] {
        &self.list
    }

    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// All messages as text for a terminal; `color` adds escape sequences.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let texts: Vec<String> = self.list.iter().map(|one| one.render(color)).collect();
        texts.join("\n")
    }

    /// What a program should exit with: 20 when a file could not be read, otherwise 10.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.unreadable { 20 } else { 10 }
    }

    pub(crate) fn unreadable(diagnostic: Diagnostic) -> Self {
        Self {
            list: vec![diagnostic],
            unreadable: true,
        }
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.list.into_iter()
    }
}

/// Collects messages while a configuration is read; stops taking errors at [`MOST_ERRORS`].
#[derive(Debug, Default)]
pub(crate) struct Findings {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    unreadable: bool,
    full: Rc<Cell<bool>>,
}

impl Findings {
    /// Takes an error in; one already reported at the same place is not repeated.
    pub(crate) fn error(&mut self, diagnostic: Diagnostic) {
        if !self.is_full() && !self.errors.contains(&diagnostic) {
            self.errors.push(diagnostic);
            self.full.set(self.errors.len() >= MOST_ERRORS);
        }
    }

    /// Takes in that a file could not be read, which has its own exit code.
    pub(crate) fn unreadable(&mut self, diagnostic: Diagnostic) {
        self.unreadable |= self.errors.is_empty();
        self.error(diagnostic);
    }

    /// Takes a warning in; one already given with the same text is not repeated.
    pub(crate) fn warning(&mut self, diagnostic: Diagnostic) {
        if !self.has_warned(&diagnostic.message) {
            self.warnings.push(diagnostic);
        }
    }

    /// Whether a warning with this text would be dropped.
    pub(crate) fn has_warned(&self, message: &str) -> bool {
        self.warnings.len() >= MOST_WARNINGS
            || self
                .warnings
                .iter()
                .any(|earlier| earlier.message == message)
    }

    /// Whether reading on would only add noise.
    pub(crate) fn is_full(&self) -> bool {
        self.full.get()
    }

    /// [`is_full`](Self::is_full) for those who cannot keep a reference.
    pub(crate) fn full(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.full)
    }

    /// Whether any error was found.
    pub(crate) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The warnings, or the errors when there are any.
    pub(crate) fn into_result(mut self) -> Result<Diagnostics, Diagnostics> {
        if self.errors.is_empty() {
            self.warnings.sort_by_key(|warning| warning.order);
            return Ok(Diagnostics {
                list: self.warnings,
                unreadable: false,
            });
        }
        self.errors.sort_by_key(|error| error.order);
        Err(Diagnostics {
            list: self.errors,
            unreadable: self.unreadable,
        })
    }
}

/// An error at a place.
pub(crate) fn error(sources: &Sources, span: Span, message: impl Into<String>) -> Diagnostic {
    at(Severity::Error, sources, span, message.into())
}

/// A warning at a place.
pub(crate) fn warning(sources: &Sources, span: Span, message: impl Into<String>) -> Diagnostic {
    at(Severity::Warning, sources, span, message.into())
}

/// An error about a whole file.
pub(crate) fn file_error(file: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        place: None,
        file: file.to_owned(),
        message: message.into(),
        label: None,
        notes: Vec::new(),
        help: None,
        order: (0, 0),
    }
}

fn at(severity: Severity, sources: &Sources, span: Span, message: String) -> Diagnostic {
    let place = sources.place(span);
    Diagnostic {
        severity,
        file: place.file.clone(),
        place: Some(place),
        message,
        label: None,
        notes: Vec::new(),
        help: None,
        order: span.order(),
    }
}

/// Text from a file made harmless for a terminal: control characters become visible escapes.
fn visible(text: &str) -> String {
    text.chars()
        .flat_map(|character| {
            let hidden = character.is_control();
            let plain = (!hidden).then_some(character);
            plain
                .into_iter()
                .chain(character.escape_default().take(if hidden { 12 } else { 0 }))
        })
        .collect()
}

/// Errors reported for one configuration; more would only hide the first ones.
pub(crate) const MOST_ERRORS: usize = 20;
/// Warnings kept; more than the language has words to warn about.
const MOST_WARNINGS: usize = 500;
