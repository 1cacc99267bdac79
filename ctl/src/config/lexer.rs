//! From characters to tokens: words, quoted strings and the six punctuation marks.
//!
//! Never knows what a word means. A character that belongs to no token is reported once and
//! skipped, so that the parser can go on.

use super::diagnostics::{Diagnostic, error};
use super::source::{FileNumber, Sources, Span};

/// What a token is; its text is in [`Token::text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenKind {
    /// A bare word or number.
    Word,
    /// A string in double quotes.
    Quoted,
    /// `{`
    OpenBrace,
    /// `}`
    CloseBrace,
    /// `;`
    Semicolon,
    /// `[`
    OpenBracket,
    /// `]`
    CloseBracket,
    /// `:`
    Colon,
    /// The end of the file.
    End,
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: TokenKind,
    /// The word, the string without quotes and escapes, or the mark.
    pub(crate) text: String,
    pub(crate) span: Span,
}

/// Reads one file token by token.
#[derive(Debug)]
pub(crate) struct Lexer<'a> {
    sources: &'a Sources,
    file: FileNumber,
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(sources: &'a Sources, file: FileNumber) -> Self {
        let at = if sources.text(file).starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        Self { sources, file, at }
    }

    /// The file being read.
    pub(crate) fn file(&self) -> FileNumber {
        self.file
    }

    /// The next token, or what is wrong in its place. After an error the following call goes
    /// on behind the offending characters.
    pub(crate) fn next(&mut self) -> Result<Token, Box<Diagnostic>> {
        self.skip_space_and_comments();
        let start = self.at;
        let Some(first) = self.rest().chars().next() else {
            return Ok(self.end());
        };
        let mark = match first {
            '{' => TokenKind::OpenBrace,
            '}' => TokenKind::CloseBrace,
            ';' => TokenKind::Semicolon,
            '[' => TokenKind::OpenBracket,
            ']' => TokenKind::CloseBracket,
            ':' => TokenKind::Colon,
            '"' => return self.quoted(),
            _ if is_word_character(first) => return self.word(),
            _ => return Err(Box::new(self.stray_character(first))),
        };
        self.at += 1;
        Ok(self.token(mark, start, first.to_string()))
    }

    /// The end of the file, just behind the last thing in it.
    fn end(&self) -> Token {
        let last = self.sources.text(self.file).trim_ascii_end().len();
        let span = Sources::span(self.file, last..last);
        Token {
            kind: TokenKind::End,
            text: "end of file".to_owned(),
            span,
        }
    }

    fn word(&mut self) -> Result<Token, Box<Diagnostic>> {
        let start = self.at;
        let rest = self.rest();
        let length = rest.find(|c| !is_word_character(c)).unwrap_or(rest.len());
        let text = &rest[..length];
        self.at += length;
        let token = self.token(TokenKind::Word, start, text.to_owned());
        if length > LONGEST_TEXT {
            return Err(Box::new(self.too_long(&token, "word")));
        }
        Ok(token)
    }

    fn quoted(&mut self) -> Result<Token, Box<Diagnostic>> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        let mut escaped = false;
        for character in self.rest().chars() {
            if character == '\n' {
                break;
            }
            self.at += character.len_utf8();
            match character {
                '"' if !escaped => {
                    let token = self.token(TokenKind::Quoted, start, text);
                    return self.checked(token);
                }
                '\\' if !escaped => escaped = true,
                _ => {
                    if escaped && !matches!(character, '"' | '\\') {
                        text.push('\\');
                    }
                    escaped = false;
                    text.push(character);
                }
            }
        }
        let span = Sources::span(self.file, start..start + 1);
        let message = "Parse error: '\"' expected, but got end of line";
        let diagnostic = error(self.sources, span, message);
        Err(Box::new(
            diagnostic.with_label("this string is never closed"),
        ))
    }

    fn checked(&self, token: Token) -> Result<Token, Box<Diagnostic>> {
        if token.text.len() > LONGEST_TEXT {
            return Err(Box::new(self.too_long(&token, "string")));
        }
        let culprit = token.text.chars().find(|c| is_unwelcome(*c));
        match culprit {
            Some(character) => Err(Box::new(self.unwelcome(token.span, character))),
            None => Ok(token),
        }
    }

    fn stray_character(&mut self, first: char) -> Diagnostic {
        let start = self.at;
        let rest = self.rest();
        let run = rest.find(|c| c != first).unwrap_or(rest.len());
        self.at += run;
        let span = Sources::span(self.file, start..start + first.len_utf8());
        if is_unwelcome(first) {
            return self.unwelcome(span, first);
        }
        error(
            self.sources,
            span,
            format!("Parse error: 'a word' expected, but got '{first}'"),
        )
        .with_help(Some("put the whole value into double quotes".to_owned()))
    }

    fn unwelcome(&self, span: Span, character: char) -> Diagnostic {
        let what = match character {
            '\0' => "a NUL byte stands here; the file is damaged".to_owned(),
            char::REPLACEMENT_CHARACTER => "bytes that are not valid UTF-8 stand here".to_owned(),
            other => format!("control character {:#04x} stands here", u32::from(other)),
        };
        error(self.sources, span, what)
    }

    fn too_long(&self, token: &Token, what: &str) -> Diagnostic {
        let message = format!(
            "this {what} has {} bytes; at most {LONGEST_TEXT} are allowed",
            token.text.len()
        );
        error(self.sources, token.span, message)
    }

    fn skip_space_and_comments(&mut self) {
        loop {
            let rest = self.rest();
            let space = rest
                .find(|c: char| !c.is_ascii_whitespace())
                .unwrap_or(rest.len());
            self.at += space;
            let rest = self.rest();
            if !rest.starts_with('#') {
                return;
            }
            self.at += rest.find('\n').unwrap_or(rest.len());
        }
    }

    fn rest(&self) -> &'a str {
        &self.sources.text(self.file)[self.at..]
    }

    fn token(&self, kind: TokenKind, start: usize, text: String) -> Token {
        Token {
            kind,
            text,
            span: Sources::span(self.file, start..self.at),
        }
    }
}

/// More than DRBD's words: what paths, patterns and device names on real machines contain.
fn is_word_character(character: char) -> bool {
    character.is_ascii_alphanumeric() || "/._-+%@=,~*?!()".contains(character)
}

fn is_unwelcome(character: char) -> bool {
    character == char::REPLACEMENT_CHARACTER || (character.is_control() && character != '\t')
}

/// Longest word or string in bytes: the longest path the kernel takes.
pub(crate) const LONGEST_TEXT: usize = 4096;
