//! Walking along the arguments of one statement, with DRBD's phrase for what does not fit.
//!
//! Knows no keyword.

use std::path::PathBuf;

use super::Reader;
use crate::config::diagnostics::error;
use crate::config::options::Unit;
use crate::config::source::{Span, Spanned};
use crate::config::syntax::{Argument, ArgumentKind, Statement};
use crate::config::value;

/// The arguments of a statement that were not read yet.
pub(crate) struct Arguments<'a> {
    statement: &'a Statement,
    left: &'a [Argument],
    /// Just behind what was read last.
    behind: Span,
}

impl<'a> Arguments<'a> {
    /// The next argument, without reading it.
    pub(crate) fn peek(&self) -> Option<&'a Argument> {
        self.left.first()
    }

    /// Whether the next argument is `word`, in quotes or not; reads it if so.
    pub(crate) fn take_word(&mut self, word: &str) -> bool {
        let is_text = |kind| matches!(kind, ArgumentKind::Word | ArgumentKind::Quoted);
        let found = self
            .peek()
            .is_some_and(|next| is_text(next.kind) && next.text == word);
        if found {
            self.advance();
        }
        found
    }

    /// Reads the next argument if it is of this kind.
    pub(crate) fn take(&mut self, kind: ArgumentKind) -> Option<&'a Argument> {
        let next = self.peek().filter(|next| next.kind == kind)?;
        self.advance();
        Some(next)
    }

    fn advance(&mut self) {
        if let [first, rest @ ..] = self.left {
            self.behind = first.span.behind();
            self.left = rest;
        }
    }
}

impl Reader<'_> {
    /// The arguments of `statement`, from the first.
    pub(crate) fn arguments<'s>(&self, statement: &'s Statement) -> Arguments<'s> {
        let behind = statement.keyword.span.behind();
        Arguments {
            statement,
            left: &statement.arguments,
            behind,
        }
    }

    /// The next argument as a word or string.
    pub(crate) fn text(
        &mut self,
        arguments: &mut Arguments<'_>,
        expected: &str,
    ) -> Option<Spanned<String>> {
        if let Some(next) = arguments.peek()
            && matches!(next.kind, ArgumentKind::Word | ArgumentKind::Quoted)
        {
            let text = Spanned::new(next.text.clone(), next.span);
            arguments.advance();
            return Some(text);
        }
        self.expected(arguments, expected);
        None
    }

    /// The next argument as a number without unit, between two bounds.
    pub(crate) fn number(
        &mut self,
        arguments: &mut Arguments<'_>,
        name: &str,
        (min, max): (u64, u64),
    ) -> Option<Spanned<u64>> {
        let text = self.text(arguments, "a number")?;
        match value::number(name, &text.value, Unit::Seconds, min, max) {
            Ok(number) => Some(Spanned::new(number, text.span)),
            Err(wrong) => {
                // The unit only serves to refuse unit letters; it is no part of the message.
                let message = wrong.message.replace(Unit::Seconds.words(), "");
                let diagnostic = error(self.sources, text.span, message);
                self.findings.error(diagnostic.with_help(wrong.help));
                None
            }
        }
    }

    /// The next argument as an absolute path.
    pub(crate) fn path(
        &mut self,
        arguments: &mut Arguments<'_>,
        expected: &str,
    ) -> Option<Spanned<PathBuf>> {
        let text = self.text(arguments, expected)?;
        if text.value.starts_with('/') {
            return Some(Spanned::new(PathBuf::from(text.value), text.span));
        }
        let message = format!(
            "Parse error: '{expected}' expected, but got '{}'",
            text.value
        );
        let help = "a path begins with '/'".to_owned();
        self.findings
            .error(error(self.sources, text.span, message).with_help(Some(help)));
        None
    }

    /// Whether all arguments were read and the statement ends in `;`.
    pub(crate) fn end_of(&mut self, arguments: &mut Arguments<'_>) -> bool {
        if arguments.left.is_empty() && arguments.statement.body.is_none() {
            return true;
        }
        self.expected(arguments, ";");
        false
    }

    /// Whether all arguments were read and a `{` follows.
    pub(crate) fn end_before_body(&mut self, arguments: &mut Arguments<'_>) -> bool {
        if arguments.left.is_empty() && arguments.statement.body.is_some() {
            return true;
        }
        self.expected(arguments, "{");
        false
    }

    /// Whether a section has no arguments, as most.
    pub(crate) fn no_arguments(&mut self, statement: &Statement) -> bool {
        let mut arguments = self.arguments(statement);
        self.end_before_body(&mut arguments)
    }

    /// Reports that something else was expected where `arguments` stands.
    pub(crate) fn expected(&mut self, arguments: &Arguments<'_>, expected: &str) {
        let (got, span) = match arguments.peek() {
            Some(next) => (next.text.as_str(), next.span),
            None if arguments.statement.body.is_some() => ("{", arguments.behind),
            None => (";", arguments.behind),
        };
        let message = format!("Parse error: '{expected}' expected, but got '{got}'");
        let mut diagnostic = error(self.sources, span, message);
        let keyword = &arguments.statement.keyword;
        if expected == ";" && !self.sources.same_line(keyword.span, span) {
            let end = self.sources.place(arguments.behind);
            let (file, line, column) = (end.file, end.line, end.column);
            let name = &keyword.value;
            diagnostic = diagnostic.with_note(format!(
                "'{name}' has no ';' at its end, {file}:{line}:{column}"
            ));
        } else if expected == ";" && arguments.peek().is_some_and(|next| next.text == ":") {
            let help = "put the whole value into double quotes".to_owned();
            diagnostic = diagnostic.with_help(Some(help));
        }
        self.findings.error(diagnostic);
    }
}
