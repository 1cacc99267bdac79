//! Reading the files of a configuration: the first one, those it includes, and templates.
//!
//! Puts the statements of all files into one list, in the order a person reads them. Knows only
//! the keywords `include`, `skip`, `resource` and `template-file`; the rest is not looked at.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use super::diagnostics::{Diagnostics, Findings, error, file_error};
use super::files::{Files, is_pattern, matching};
use super::source::{Sources, Span};
use super::syntax::{MOST_WORDS, Statement, parse};

/// The statements of all files of a configuration.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) sources: Sources,
    pub(crate) statements: Vec<Statement>,
    /// By the statement that names them.
    pub(crate) templates: HashMap<Span, LoadedTemplate>,
}

/// A file named by a `template-file` statement.
#[derive(Debug)]
pub(crate) struct LoadedTemplate {
    pub(crate) path: PathBuf,
    pub(crate) statements: Vec<Statement>,
}

/// Where the first file of a configuration comes from.
#[derive(Debug)]
pub(crate) enum First<'a> {
    /// A file.
    Path(&'a Path),
    /// Text that was read already, and what to call it. Includes are relative to the current
    /// directory.
    Text { name: &'a str, bytes: Vec<u8> },
}

/// Reads the first file and everything it includes.
///
/// # Errors
/// Only when the first file cannot be read; everything else goes to `findings`.
pub(crate) fn load(
    files: &dyn Files,
    first: First<'_>,
    findings: &mut Findings,
) -> Result<Loaded, Diagnostics> {
    let mut loader = Loader {
        files,
        findings,
        sources: Sources::default(),
        templates: HashMap::new(),
        seen: BTreeSet::new(),
        words_left: MOST_WORDS,
        bytes_left: MOST_BYTES,
    };
    let (name, base, bytes) = match first {
        First::Text { name, bytes } => (name.to_owned(), PathBuf::new(), bytes),
        First::Path(path) => {
            let name = path.display().to_string();
            loader.seen.insert(files.identity(path));
            let bytes = files
                .read(path, LARGEST_FILE + 1)
                .map_err(|cause| Diagnostics::unreadable(file_error(&name, cannot_read(&cause))))?;
            (name, directory_of(path), bytes)
        }
    };
    let statements = match loader.text(bytes) {
        Ok(text) => loader.file(name, text, &base, 0),
        Err(problem) => {
            // There is no text to show; the message stands at the beginning of the file.
            let number = loader.sources.add(name, String::new());
            let span = Sources::span(number, 0..0);
            loader.findings.error(error(&loader.sources, span, problem));
            Vec::new()
        }
    };
    let Loader {
        sources, templates, ..
    } = loader;
    Ok(Loaded {
        sources,
        statements,
        templates,
    })
}

struct Loader<'a> {
    files: &'a dyn Files,
    findings: &'a mut Findings,
    sources: Sources,
    templates: HashMap<Span, LoadedTemplate>,
    seen: BTreeSet<PathBuf>,
    words_left: usize,
    bytes_left: u64,
}

impl Loader<'_> {
    fn file(&mut self, name: String, text: String, base: &Path, depth: usize) -> Vec<Statement> {
        let number = self.sources.add(name, text);
        // Even in a comment: after a power cut files are found full of them.
        if let Some(at) = self.sources.text(number).find('\0') {
            let span = Sources::span(number, at..at + 1);
            let message = "a NUL byte stands here; the file is damaged";
            self.findings.error(error(&self.sources, span, message));
            return Vec::new();
        }
        let parsed = parse(&self.sources, number, self.findings, &mut self.words_left);
        let mut statements = Vec::new();
        for statement in parsed {
            if self.findings.is_full() {
                break;
            }
            if statement.keyword.value == "include" {
                statements.extend(self.include(&statement, base, depth));
                continue;
            }
            if statement.keyword.value == "resource" {
                self.find_template(&statement, base, depth);
            }
            statements.push(statement);
        }
        statements
    }

    fn include(&mut self, statement: &Statement, base: &Path, depth: usize) -> Vec<Statement> {
        let Some(pattern) = self.file_name(statement) else {
            return Vec::new();
        };
        if is_pattern(&pattern) {
            let found = matching(self.files, base, &pattern);
            let each = found.into_iter();
            return each
                .flat_map(|path| self.once(&path, statement.span, depth))
                .collect();
        }
        self.once(&base.join(pattern), statement.span, depth)
    }

    /// The statements of a file, or none when it was read before.
    fn once(&mut self, path: &Path, named_at: Span, depth: usize) -> Vec<Statement> {
        if !self.seen.insert(self.files.identity(path)) {
            return Vec::new();
        }
        self.nested(path, named_at, depth).unwrap_or_default()
    }

    fn find_template(&mut self, resource: &Statement, base: &Path, depth: usize) {
        for statement in resource.body.iter().flatten() {
            if statement.keyword.value != "template-file" {
                continue;
            }
            let Some(name) = self.file_name(statement) else {
                continue;
            };
            let path = base.join(name);
            if let Some(statements) = self.nested(&path, statement.span, depth) {
                self.templates
                    .insert(statement.span, LoadedTemplate { path, statements });
            }
        }
    }

    fn nested(&mut self, path: &Path, named_at: Span, depth: usize) -> Option<Vec<Statement>> {
        if depth >= DEEPEST_INCLUDE {
            let message = format!("files include each other deeper than {DEEPEST_INCLUDE}");
            self.findings.error(error(&self.sources, named_at, message));
            return None;
        }
        let name = path.display().to_string();
        let bytes = match self.files.read(path, LARGEST_FILE + 1) {
            Ok(bytes) => bytes,
            Err(cause) => {
                let message = format!("the file '{name}' {}", cannot_read(&cause));
                self.findings
                    .unreadable(error(&self.sources, named_at, message));
                return None;
            }
        };
        match self.text(bytes) {
            Ok(text) => Some(self.file(name, text, &directory_of(path), depth + 1)),
            Err(problem) => {
                let message = format!("the file '{name}' {problem}");
                self.findings.error(error(&self.sources, named_at, message));
                None
            }
        }
    }

    /// The text of a file. Bytes that are not UTF-8 become the replacement character, which the
    /// lexer refuses anywhere but in a comment.
    fn text(&mut self, bytes: Vec<u8>) -> Result<String, String> {
        let length = bytes.len() as u64;
        if length > LARGEST_FILE {
            return Err(format!(
                "is larger than {} MiB, the limit",
                LARGEST_FILE >> 20
            ));
        }
        let Some(left) = self.bytes_left.checked_sub(length) else {
            return Err(format!(
                "makes the configuration larger than {} MiB, the limit for all its files",
                MOST_BYTES >> 20
            ));
        };
        self.bytes_left = left;
        Ok(String::from_utf8(bytes)
            .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()))
    }

    fn file_name(&mut self, statement: &Statement) -> Option<String> {
        // A pattern such as `[a-z]*.res` is several tokens without space between them.
        let glued = statement
            .arguments
            .windows(2)
            .all(|pair| pair[0].span.touches(pair[1].span));
        let name: String = statement
            .arguments
            .iter()
            .map(|part| part.text.as_str())
            .collect();
        if glued && !name.is_empty() && statement.body.is_none() {
            return Some(name);
        }
        let message = format!(
            "'{}' takes one file name and a ';'",
            statement.keyword.value
        );
        self.findings
            .error(error(&self.sources, statement.span, message));
        None
    }
}

fn directory_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

fn cannot_read(cause: &io::Error) -> String {
    match cause.kind() {
        io::ErrorKind::NotFound => "cannot be opened: there is no such file".to_owned(),
        io::ErrorKind::IsADirectory => "cannot be read: it is a directory".to_owned(),
        io::ErrorKind::PermissionDenied => "cannot be opened: permission denied".to_owned(),
        _ => format!("cannot be read: {cause}"),
    }
}

/// Largest single file. Real ones have a few KiB; the limit keeps a wrong path, say a disk, from
/// filling the memory.
pub(crate) const LARGEST_FILE: u64 = 4 << 20;
/// All files together.
const MOST_BYTES: u64 = 16 << 20;
/// Files that include files.
const DEEPEST_INCLUDE: usize = 16;
