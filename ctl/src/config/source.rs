//! Where text came from: the files read, and places inside them.
//!
//! Keeps the text so that a message can show the line it is about. Never opens a file itself
//! and never judges what a file says.

use std::ops::Range;

/// A run of bytes in one of the files of [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Span {
    file: u32,
    start: u32,
    end: u32,
}

/// A value together with the place it was written at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

/// Every file read for one configuration, in the order of reading.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    files: Vec<SourceFile>,
}

/// Number of a file inside its [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileNumber(u32);

#[derive(Debug)]
struct SourceFile {
    name: String,
    text: String,
    line_starts: Vec<u32>,
}

/// A place a person can find: file, line and column (both counted from 1, columns in
/// characters), and the piece of the line around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file as it was named on the command line or reached by an include.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, shortened around the place when it is very long.
    pub excerpt: String,
    /// The bytes of `excerpt` the message is about.
    pub marked: Range<usize>,
}

impl Span {
    /// From the beginning of `self` to the end of `last`, which must not be in another file.
    pub(crate) fn to(self, last: Self) -> Self {
        debug_assert_eq!(self.file, last.file);
        Self {
            file: self.file,
            start: self.start,
            end: last.end.max(self.end),
        }
    }

    /// Sorts places as a person reads them.
    pub(crate) fn order(self) -> (u32, u32) {
        (self.file, self.start)
    }

    /// Whether `next` begins exactly where this ends.
    pub(crate) fn touches(self, next: Self) -> bool {
        self.file == next.file && self.end == next.start
    }

    /// The empty place just behind.
    pub(crate) fn behind(self) -> Self {
        Self {
            start: self.end,
            ..self
        }
    }
}

impl<T> Spanned<T> {
    pub(crate) fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }
}

impl Sources {
    /// Takes a file in. The text must be shorter than 4 GiB, which the size limit of the
    /// loader guarantees.
    pub(crate) fn add(&mut self, name: String, text: String) -> FileNumber {
        let number = FileNumber(offset(self.files.len()));
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let line_starts = std::iter::once(0)
            .chain(newlines.map(|(at, _)| offset(at + 1)))
            .collect();
        self.files.push(SourceFile {
            name,
            text,
            line_starts,
        });
        number
    }

    /// The whole text of a file.
    pub(crate) fn text(&self, file: FileNumber) -> &str {
        &self.files[file.0 as usize].text
    }

    /// A run of bytes of `file`.
    pub(crate) fn span(file: FileNumber, bytes: Range<usize>) -> Span {
        Span {
            file: file.0,
            start: offset(bytes.start),
            end: offset(bytes.end),
        }
    }

    /// File and line of a place, as DRBD writes it: `FILE:LINE`.
    pub(crate) fn line_of(&self, span: Span) -> (String, usize) {
        let file = &self.files[span.file as usize];
        (file.name.clone(), file.line_index(span.start) + 1)
    }

    /// Whether two places are on the same line of the same file.
    pub(crate) fn same_line(&self, one: Span, other: Span) -> bool {
        let line = |span: Span| self.files[span.file as usize].line_index(span.start);
        one.file == other.file && line(one) == line(other)
    }

    /// Everything a message needs to show `span` to a person.
    pub(crate) fn place(&self, span: Span) -> Place {
        let file = &self.files[span.file as usize];
        let index = file.line_index(span.start);
        let begin = file.line_starts[index] as usize;
        let line = file.text[begin..].split('\n').next().unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);
        let start = (span.start as usize - begin).min(line.len());
        let end = (span.end as usize)
            .saturating_sub(begin)
            .clamp(start, line.len());
        let column = line[..start].chars().count() + 1;
        let (excerpt, marked) = shorten(line, start..end);
        Place {
            file: file.name.clone(),
            line: index + 1,
            column,
            excerpt,
            marked,
        }
    }
}

impl SourceFile {
    fn line_index(&self, byte: u32) -> usize {
        self.line_starts
            .partition_point(|start| *start <= byte)
            .saturating_sub(1)
    }
}

/// Cuts a long line down to the neighbourhood of `marked`, at character boundaries.
fn shorten(line: &str, marked: Range<usize>) -> (String, Range<usize>) {
    if line.len() <= LONGEST_EXCERPT {
        return (line.to_owned(), marked);
    }
    let from = boundary(line, marked.start.saturating_sub(LONGEST_EXCERPT / 2));
    let to = boundary(line, marked.start + LONGEST_EXCERPT / 2);
    let before = if from > 0 { "…" } else { "" };
    let after = if to < line.len() { "…" } else { "" };
    let start = marked.start - from + before.len();
    let end = marked.end.min(to) - from + before.len();
    (
        format!("{before}{}{after}", &line[from..to]),
        start..end.max(start),
    )
}

/// The last character boundary not behind `at`.
fn boundary(line: &str, at: usize) -> usize {
    (0..=at.min(line.len()))
        .rev()
        .find(|byte| line.is_char_boundary(*byte))
        .unwrap_or(0)
}

fn offset(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("the loader refuses files beyond a few MiB")
}

/// Longest piece of a line shown in a message, in bytes.
const LONGEST_EXCERPT: usize = 120;
