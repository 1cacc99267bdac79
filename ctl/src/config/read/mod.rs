//! From statements to the [`Model`]: which keyword may stand where, and what it takes.
//!
//! Every reader reports what is wrong and goes on with the next statement. Nothing is compared
//! across sections here; that is done by the checks and the resolver.

mod address;
mod arguments;
mod connection;
mod export;
mod host;
mod resource;
mod settings;
mod volume;

use std::collections::HashMap;

use super::diagnostics::{Findings, error, warning};
use super::include::{Loaded, LoadedTemplate};
use super::model::{Common, Level, Model};
use super::options::{Section, sections_of};
use super::source::{Sources, Span};
use super::suggest::did_you_mean;
use super::syntax::Statement;

/// Reads the statements of all files.
pub(crate) fn read(loaded: &Loaded, findings: &mut Findings) -> Model {
    let mut reader = Reader {
        sources: &loaded.sources,
        templates: &loaded.templates,
        findings,
    };
    let mut model = Model::default();
    for statement in &loaded.statements {
        if reader.findings.is_full() {
            break;
        }
        reader.top(statement, &mut model);
    }
    model
}

/// Holds what every reader needs.
pub(crate) struct Reader<'a> {
    sources: &'a Sources,
    templates: &'a HashMap<Span, LoadedTemplate>,
    findings: &'a mut Findings,
}

impl Reader<'_> {
    fn top(&mut self, statement: &Statement, model: &mut Model) {
        let keyword = statement.keyword.value.as_str();
        match keyword {
            "skip" => {}
            "global" => {
                if self.no_arguments(statement) {
                    let level = model.global.get_or_insert_default();
                    self.settings(statement, Section::Global, level);
                }
            }
            "common" => {
                if let Some(common) = self.common(statement) {
                    if let Some(earlier) = &model.common {
                        self.twice(statement.keyword.span, "the common section", earlier.span);
                    }
                    model.common = Some(common);
                }
            }
            "resource" => model.resources.extend(self.resource(statement)),
            _ if keyword.starts_with("require-drbd-module-version-") => {
                self.module_version(statement);
            }
            _ => self.unknown_keyword(statement, "at the top of a file", TOP_KEYWORDS),
        }
    }

    /// `common { … }`
    fn common(&mut self, statement: &Statement) -> Option<Common> {
        if !self.no_arguments(statement) {
            return None;
        }
        let mut level = Level::default();
        for inner in self.body(statement) {
            let keyword = inner.keyword.value.as_str();
            if self.section_of_options(inner, &mut level) {
                continue;
            }
            if RESOURCE_KEYWORDS.contains(&keyword) {
                let message = format!("'{keyword}' may not stand in common");
                let help = "common holds options only; hosts and volumes belong in a resource";
                let diagnostic = error(self.sources, inner.keyword.span, message);
                self.findings
                    .error(diagnostic.with_help(Some(help.to_owned())));
                continue;
            }
            self.unknown_keyword(inner, "in common", OPTION_SECTIONS);
        }
        Some(Common {
            span: statement.keyword.span,
            level,
        })
    }

    /// The sections that hold options and may stand both in `common` and in a resource.
    /// Returns whether the statement was one of them.
    fn section_of_options(&mut self, statement: &Statement, level: &mut Level) -> bool {
        let section = match statement.keyword.value.as_str() {
            "net" => Section::Net,
            "disk" if statement.body.is_some() => Section::Disk,
            "options" => Section::Options,
            "startup" => Section::Startup,
            "handlers" => Section::Handlers,
            "proxy" if statement.arguments.is_empty() => Section::Proxy,
            "syncer" => {
                let message = "'syncer' is deprecated; its options belong in net and disk";
                self.warn(statement.keyword.span, message);
                Section::Syncer
            }
            // The place DRBD 8.4 has for it.
            "protocol" => {
                if let Some(setting) = self.setting(statement, Section::Net) {
                    self.set(level, setting);
                }
                return true;
            }
            "export" => {
                self.export(statement, level);
                return true;
            }
            _ => return false,
        };
        if self.no_arguments(statement) {
            self.settings(statement, section, level);
        }
        true
    }

    fn module_version(&mut self, statement: &Statement) {
        let keyword = &statement.keyword;
        let comparison = keyword.value.rsplit('-').next().unwrap_or_default();
        if !["eq", "ne", "gt", "ge", "lt", "le"].contains(&comparison) {
            self.unknown_keyword(statement, "at the top of a file", TOP_KEYWORDS);
            return;
        }
        let mut arguments = self.arguments(statement);
        let Some(version) = self.text(&mut arguments, "a version") else {
            return;
        };
        let parts: Vec<&str> = version.value.split('.').collect();
        if parts.len() > 4 || parts.iter().any(|part| part.parse::<u32>().is_err()) {
            let got = &version.value;
            let message =
                format!("Parse error: 'a version such as 9.1.0' expected, but got '{got}'");
            self.findings
                .error(error(self.sources, version.span, message));
            return;
        }
        if self.end_of(&mut arguments) {
            let message = "'require-drbd-module-version' has no effect: there is no kernel module";
            self.warn(keyword.span, message);
        }
    }

    /// The statements inside braces that are not skipped; an error when there are no braces.
    /// Ends early once enough errors were found.
    fn body<'s>(
        &mut self,
        statement: &'s Statement,
    ) -> impl Iterator<Item = &'s Statement> + use<'s> {
        if statement.body.is_none() {
            let message = "Parse error: '{' expected, but got ';'";
            self.findings
                .error(error(self.sources, statement.span.behind(), message));
        }
        let full = self.findings.full();
        let inner = statement
            .body
            .iter()
            .flatten()
            .take_while(move |_| !full.get());
        inner.filter(|inner| inner.keyword.value != "skip")
    }

    /// Reports a keyword that cannot stand where it stands, with what was probably meant.
    fn unknown_keyword(&mut self, statement: &Statement, place: &str, known: &[&str]) {
        let keyword = &statement.keyword;
        let name = keyword.value.as_str();
        let expected = known.join(" | ");
        let message = format!("Parse error: '{expected}' expected, but got '{name}'");
        let elsewhere = ELSEWHERE.iter().find(|(known, _)| *known == name);
        let help = if let Some(home) = sections_of(name.strip_prefix("no-").unwrap_or(name)) {
            Some(format!("'{name}' belongs in {} {{ … }}", home.keyword()))
        } else if let Some((_, home)) = elsewhere {
            Some(format!("'{name}' belongs {home}"))
        } else {
            did_you_mean(name, known.iter().copied())
        };
        let diagnostic = error(self.sources, keyword.span, message)
            .with_label(format!("not known {place}"))
            .with_help(help);
        self.findings.error(diagnostic);
    }

    /// Reports that something exists twice, with both places.
    fn twice(&mut self, span: Span, what: &str, earlier: Span) {
        let diagnostic = conflict(self.sources, span, what, earlier);
        self.findings.error(diagnostic);
    }

    fn warn(&mut self, span: Span, message: impl Into<String>) {
        let message = message.into();
        if !self.findings.has_warned(&message) {
            self.findings.warning(warning(self.sources, span, message));
        }
    }
}

/// DRBD's phrase for something that exists twice, with both places.
pub(crate) fn conflict(
    sources: &Sources,
    span: Span,
    what: &str,
    earlier: Span,
) -> super::diagnostics::Diagnostic {
    let first = sources.place(earlier);
    let note = format!(
        "first used at {}:{}:{}",
        first.file, first.line, first.column
    );
    error(sources, span, format!("conflicting use of {what}")).with_note(note)
}

const TOP_KEYWORDS: &[&str] = &[
    "global",
    "common",
    "resource",
    "include",
    "skip",
    "require-drbd-module-version-eq",
    "require-drbd-module-version-ne",
    "require-drbd-module-version-gt",
    "require-drbd-module-version-ge",
    "require-drbd-module-version-lt",
    "require-drbd-module-version-le",
];

const OPTION_SECTIONS: &[&str] = &[
    "protocol", "net", "disk", "options", "startup", "handlers", "proxy", "syncer", "export",
    "skip",
];

const RESOURCE_KEYWORDS: &[&str] = &[
    "on",
    "floating",
    "stacked-on-top-of",
    "volume",
    "device",
    "disk",
    "meta-disk",
    "flexible-meta-disk",
    "connection",
    "connection-mesh",
    "template-file",
    "protocol",
    "net",
    "options",
    "startup",
    "handlers",
    "proxy",
    "syncer",
    "export",
    "skip",
];

/// Keywords with one place of their own, for those who put them elsewhere.
const ELSEWHERE: &[(&str, &str)] = &[
    ("address", "in an 'on HOST { … }' section"),
    ("node-id", "in an 'on HOST { … }' section"),
    ("host", "in a 'connection { … }' section"),
    ("hosts", "in a 'connection-mesh { … }' section"),
    ("path", "in a 'connection { … }' section"),
    ("nbd", "in an 'export { … }' section"),
    ("kernel", "in an 'export { … }' section"),
    ("include", "at the top of a file"),
    (
        "resource",
        "at the top of a file; a '}' may be missing before it",
    ),
    (
        "common",
        "at the top of a file; a '}' may be missing before it",
    ),
    (
        "global",
        "at the top of a file; a '}' may be missing before it",
    ),
    ("on", "in a 'resource NAME { … }' section"),
    ("volume", "in a 'resource NAME { … }' section"),
    ("device", "in a resource, host or volume section"),
    ("meta-disk", "in a resource, host or volume section"),
    ("inherit", "nowhere: outer sections are always inherited"),
];
