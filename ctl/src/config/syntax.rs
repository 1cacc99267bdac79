//! From tokens to a tree of statements: `keyword argument… ;` or `keyword argument… { … }`.
//!
//! The tree knows no keyword; what may stand where is decided by the readers. After an error
//! parsing goes on at the next `;` or `}`, so that one run reports several mistakes.

use super::diagnostics::{Diagnostic, Findings, error};
use super::lexer::{Lexer, Token, TokenKind};
use super::source::{FileNumber, Sources, Span, Spanned};

/// One statement, with everything inside its braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) keyword: Spanned<String>,
    pub(crate) arguments: Vec<Argument>,
    /// `None` for a statement that ended in `;`.
    pub(crate) body: Option<Vec<Self>>,
    /// From the keyword to the last argument.
    pub(crate) span: Span,
}

/// What stands between a keyword and its `;` or `{`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Argument {
    pub(crate) kind: ArgumentKind,
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// The tokens that may be arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ArgumentKind {
    /// A bare word or number.
    Word,
    /// A string in double quotes.
    Quoted,
    /// `:`
    Colon,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
}

/// Parses one file into its top-level statements. What is wrong goes to `findings`; the
/// statements that could be understood are returned all the same. `budget` is how many
/// words the whole configuration may still have.
pub(crate) fn parse(
    sources: &Sources,
    file: FileNumber,
    findings: &mut Findings,
    budget: &mut usize,
) -> Vec<Statement> {
    let mut parser = Parser {
        sources,
        lexer: Lexer::new(sources, file),
        findings,
        budget,
        pending: None,
        unreadable_tokens: 0,
        misplaced: None,
        stopped: false,
    };
    let mut statements = Vec::new();
    while !parser.stopped {
        parser.statements(&mut statements, 0);
        let token = parser.take();
        if token.kind == TokenKind::End {
            break;
        }
        // Only a brace too many ends a list of statements at the top.
        parser.report(error(
            sources,
            token.span,
            "Parse error: '}' closes no section",
        ));
    }
    statements
}

struct Parser<'a> {
    sources: &'a Sources,
    lexer: Lexer<'a>,
    findings: &'a mut Findings,
    budget: &'a mut usize,
    /// A token looked at and not yet used.
    pending: Option<Token>,
    /// Errors of the lexer so far.
    unreadable_tokens: usize,
    /// The first keyword of the top level that stands inside a section: a `}` is probably missing
    /// before it.
    misplaced: Option<Span>,
    /// Whether a limit was hit and nothing more is read.
    stopped: bool,
}

impl Parser<'_> {
    /// Statements up to, not including, the `}` or the end of the file that ends them.
    fn statements(&mut self, statements: &mut Vec<Statement>, depth: usize) {
        loop {
            let token = self.take();
            match token.kind {
                TokenKind::CloseBrace | TokenKind::End => {
                    self.pending = Some(token);
                    return;
                }
                // An empty statement, as after `net { … };`.
                TokenKind::Semicolon => {}
                TokenKind::Word => statements.extend(self.statement(token, depth)),
                TokenKind::Quoted
                | TokenKind::OpenBrace
                | TokenKind::OpenBracket
                | TokenKind::CloseBracket
                | TokenKind::Colon => {
                    self.report(unexpected(self.sources, "a keyword", &token));
                    self.recover(&token, depth);
                }
            }
        }
    }

    fn statement(&mut self, keyword: Token, depth: usize) -> Option<Statement> {
        if !self.spend(keyword.span) {
            return None;
        }
        if depth > 0 && ["resource", "common", "global"].contains(&keyword.text.as_str()) {
            self.misplaced.get_or_insert(keyword.span);
        }
        let mut span = keyword.span;
        let keyword = Spanned::new(keyword.text, keyword.span);
        let mut arguments = Vec::new();
        let unreadable_before = self.unreadable_tokens;
        loop {
            let token = self.take();
            let damaged = self.unreadable_tokens > unreadable_before;
            if let Some(kind) = argument_kind(token.kind) {
                span = span.to(token.span);
                if arguments.len() < MOST_ARGUMENTS && self.spend(token.span) {
                    arguments.push(Argument {
                        kind,
                        text: token.text,
                        span: token.span,
                    });
                    continue;
                }
                let message = format!(
                    "'{}' has more than {MOST_ARGUMENTS} words; a ';' is missing",
                    keyword.value
                );
                self.report(error(self.sources, token.span, message));
                self.recover(&token, depth);
                return None;
            }
            let body = match token.kind {
                TokenKind::OpenBrace => Some(self.section(&keyword, depth)),
                TokenKind::CloseBrace | TokenKind::End => {
                    // A string that was never closed has swallowed the ';' itself.
                    if !damaged {
                        let note = self.missing_semicolon(&keyword, span);
                        self.report(unexpected(self.sources, "; | {", &token).with_note(note));
                    }
                    self.pending = Some(token);
                    None
                }
                _ => None,
            };
            let statement = Statement {
                keyword,
                arguments,
                body,
                span,
            };
            // What was cut short by the end of the file would only cause more messages.
            return (!damaged && !self.stopped).then_some(statement);
        }
    }

    /// The inside of braces, the opening one being used already.
    fn section(&mut self, keyword: &Spanned<String>, depth: usize) -> Vec<Statement> {
        let mut body = Vec::new();
        if depth + 1 > DEEPEST_NESTING {
            let message = format!("sections are nested deeper than {DEEPEST_NESTING}");
            self.report(error(self.sources, keyword.span, message));
            self.stopped = true;
            self.pending = None;
            return body;
        }
        self.statements(&mut body, depth + 1);
        let token = self.take();
        if token.kind == TokenKind::End && !self.stopped {
            let (file, line) = self.sources.line_of(keyword.span);
            let name = &keyword.value;
            let note = format!("section '{name}', opened at {file}:{line}, is never closed");
            let mut diagnostic = unexpected(self.sources, "}", &token).with_note(note);
            if let Some(misplaced) = self.misplaced {
                let (file, line) = self.sources.line_of(misplaced);
                let note = format!("it may be missing before {file}:{line}");
                diagnostic = diagnostic.with_note(note);
            }
            self.report(diagnostic);
            // One report is enough for all the sections that are still open.
            self.stopped = true;
        }
        body
    }

    /// Skips the rest of a statement that cannot be understood, its braces included.
    fn recover(&mut self, first: &Token, depth: usize) {
        let mut open = usize::from(first.kind == TokenKind::OpenBrace);
        loop {
            let token = self.take();
            match token.kind {
                TokenKind::End => {
                    self.pending = Some(token);
                    return;
                }
                TokenKind::Semicolon if open == 0 => return,
                TokenKind::OpenBrace => open += 1,
                TokenKind::CloseBrace if open == 0 => {
                    // It ends the section around, if there is one.
                    if depth > 0 {
                        self.pending = Some(token);
                    }
                    return;
                }
                TokenKind::CloseBrace => {
                    open -= 1;
                    if open == 0 {
                        return;
                    }
                }
                _ => {}
            }
        }
    }

    /// The next token; what is no token is reported and counted.
    fn take(&mut self) -> Token {
        if let Some(token) = self.pending.take() {
            return token;
        }
        loop {
            if self.stopped || self.findings.is_full() {
                self.stopped = true;
                return self.end();
            }
            match self.lexer.next() {
                Ok(token) => return token,
                Err(diagnostic) => {
                    self.unreadable_tokens += 1;
                    self.report(*diagnostic);
                }
            }
        }
    }

    fn end(&self) -> Token {
        let span = Sources::span(self.lexer.file(), 0..0);
        Token {
            kind: TokenKind::End,
            text: "end of file".to_owned(),
            span,
        }
    }

    fn spend(&mut self, span: Span) -> bool {
        if *self.budget == 0 {
            let message = format!("the configuration has more than {MOST_WORDS} words");
            self.report(error(self.sources, span, message));
            self.stopped = true;
            return false;
        }
        *self.budget -= 1;
        true
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        if !self.stopped {
            self.findings.error(diagnostic);
        }
    }

    fn missing_semicolon(&self, keyword: &Spanned<String>, span: Span) -> String {
        let place = self.sources.place(span.behind());
        format!(
            "'{}' has no ';' at its end, {}:{}:{}",
            keyword.value, place.file, place.line, place.column
        )
    }
}

/// DRBD's phrase for a token that cannot stand where it stands.
pub(crate) fn unexpected(sources: &Sources, expected: &str, token: &Token) -> Diagnostic {
    let message = format!(
        "Parse error: '{expected}' expected, but got '{}'",
        token.text
    );
    error(sources, token.span, message)
}

fn argument_kind(kind: TokenKind) -> Option<ArgumentKind> {
    match kind {
        TokenKind::Word => Some(ArgumentKind::Word),
        TokenKind::Quoted => Some(ArgumentKind::Quoted),
        TokenKind::Colon => Some(ArgumentKind::Colon),
        TokenKind::OpenBracket => Some(ArgumentKind::OpenBracket),
        TokenKind::CloseBracket => Some(ArgumentKind::CloseBracket),
        TokenKind::OpenBrace | TokenKind::CloseBrace | TokenKind::Semicolon | TokenKind::End => {
            None
        }
    }
}

/// Sections inside sections; the language itself needs five.
pub(crate) const DEEPEST_NESTING: usize = 64;
/// Words of one statement; the longest real one lists the hosts of a mesh, 32 at most.
const MOST_ARGUMENTS: usize = 128;
/// Words of a whole configuration, which bounds the memory a hostile file can take.
pub(crate) const MOST_WORDS: usize = 500_000;
