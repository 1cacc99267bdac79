//! Sections of options, looked up in the option table.
//!
//! Checks the form of a value and says once which known options have no effect. Whether a value
//! must be refused is decided by the resolver, where it is known which value holds.

use super::Reader;
use crate::config::diagnostics::{Diagnostic, error};
use crate::config::model::{Level, Setting};
use crate::config::options::{Judgement, Kind, OptionSpec, Section, find, names_in, sections_of};
use crate::config::source::Spanned;
use crate::config::suggest::did_you_mean;
use crate::config::syntax::Statement;
use crate::config::value::{self, Value};

impl Reader<'_> {
    /// Everything inside one section of options.
    pub(crate) fn settings(&mut self, statement: &Statement, section: Section, level: &mut Level) {
        for inner in self.body(statement) {
            if section == Section::Proxy && inner.keyword.value == "plugin" {
                continue;
            }
            if let Some(setting) = self.setting(inner, section) {
                self.set(level, setting);
            }
        }
    }

    /// Stores an option; the last one wins.
    pub(crate) fn set(&mut self, level: &mut Level, setting: Setting) {
        let same = |other: &&mut Setting| std::ptr::eq(other.option, setting.option);
        let Some(earlier) = level.settings.iter_mut().find(same) else {
            level.settings.push(setting);
            return;
        };
        let name = setting.option.name;
        let message =
            format!("'{name}' is set more than once in the same place; the last one holds");
        self.warn(setting.span, message);
        *earlier = setting;
    }

    /// One option with its value.
    pub(crate) fn setting(&mut self, statement: &Statement, section: Section) -> Option<Setting> {
        let name = &statement.keyword;
        let mut arguments = self.arguments(statement);
        let (option, value) = if let Some(option) = find(section, &name.value) {
            let bare = arguments.peek().is_none() && statement.body.is_none();
            if bare && option.kind == Kind::Switch {
                (option, Value::Switch(true))
            } else {
                let mut text = self.text(&mut arguments, &expectation(option))?;
                while matches!(option.kind, Kind::Names { .. }) && arguments.peek().is_some() {
                    let next = self.text(&mut arguments, "a host name | ;")?;
                    text.value = format!("{} {}", text.value, next.value);
                }
                (option, self.value(option, &text)?)
            }
        } else if let Some(option) = negated(section, &name.value) {
            (option, Value::Switch(false))
        } else {
            let unknown = self.unknown_option(section, name);
            self.findings.error(unknown);
            return None;
        };
        if !self.end_of(&mut arguments) {
            return None;
        }
        if let Judgement::Warn(reason) = option.judge(&value) {
            let message = format!(
                "option '{}' is known but has no effect: {reason}",
                option.name
            );
            self.warn(name.span, message);
        }
        Some(Setting {
            option,
            value,
            span: statement.span,
        })
    }

    fn value(&mut self, option: &OptionSpec, text: &Spanned<String>) -> Option<Value> {
        match value::parse(option, &text.value) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let diagnostic = error(self.sources, text.span, wrong.message);
                self.findings.error(diagnostic.with_help(wrong.help));
                None
            }
        }
    }

    fn unknown_option(&self, section: Section, name: &Spanned<String>) -> Diagnostic {
        let keyword = section.keyword();
        let place = match section {
            Section::PeerDisk => "the disk section of a connection",
            Section::Global
            | Section::Net
            | Section::Disk
            | Section::Options
            | Section::Startup
            | Section::Handlers
            | Section::Proxy
            | Section::Syncer
            | Section::Volume => keyword,
        };
        let plain = name.value.strip_prefix("no-").unwrap_or(&name.value);
        if let Some(home) = sections_of(plain) {
            let message = format!("option '{plain}' may not stand in {place}");
            let home = match home {
                Section::PeerDisk | Section::Disk if section == Section::PeerDisk => {
                    "the disk section of the resource".to_owned()
                }
                _ => format!("{} {{ … }}", home.keyword()),
            };
            let help = Some(format!("it belongs in {home}"));
            return error(self.sources, name.span, message).with_help(help);
        }
        let message = format!("unknown option '{}' in {place}", name.value);
        let help = did_you_mean(&name.value, names_in(section))
            .or_else(|| did_you_mean(plain, names_in(section)));
        error(self.sources, name.span, message).with_help(help)
    }
}

/// The switch meant by `no-NAME`.
fn negated(section: Section, name: &str) -> Option<&'static OptionSpec> {
    let option = find(section, name.strip_prefix("no-")?)?;
    (option.kind == Kind::Switch).then_some(option)
}

fn expectation(option: &OptionSpec) -> String {
    match option.kind {
        Kind::Switch => "yes | no".to_owned(),
        Kind::Number { .. } => "a number".to_owned(),
        Kind::Choice(choices) | Kind::Policy { choices, .. } => choices.join(" | "),
        Kind::ChoiceOrNumber { choices, .. } => format!("{} | a number", choices.join(" | ")),
        Kind::Digest => "a digest".to_owned(),
        Kind::Names { .. } => "a host name".to_owned(),
        Kind::Text { .. } => "a value".to_owned(),
    }
}
