//! Which value of an option holds, once every level that may set it was asked.
//!
//! Fills in the defaults of the option table. Never looks at hosts or volumes.

use std::collections::BTreeMap;

use super::diagnostics::{Diagnostic, error, warning};
use super::model::{Level, Setting};
use super::options::{Judgement, Section, Verdict, find};
use super::source::Sources;
use super::value::{self, Value};

/// The settings that hold in one place, inner levels having won over outer ones.
#[derive(Debug, Default)]
pub(crate) struct Effective<'a> {
    settings: BTreeMap<(Section, &'static str), &'a Setting>,
}

impl<'a> Effective<'a> {
    /// Takes the options that belong in one of `sections` from `levels`, outermost first.
    pub(crate) fn new(
        sections: &[Section],
        levels: impl IntoIterator<Item = Option<&'a Level>>,
    ) -> Self {
        let mut settings = BTreeMap::new();
        for setting in levels
            .into_iter()
            .flatten()
            .flat_map(|level| &level.settings)
        {
            let home = setting.option.home();
            if sections.contains(&home) {
                settings.insert((home, setting.option.name), setting);
            }
        }
        Self { settings }
    }

    /// The number that holds for an option of `section`, its default included.
    pub(crate) fn number(&self, section: Section, name: &str) -> u64 {
        match self.value(section, name) {
            Some(Value::Number { value, .. }) => value,
            Some(Value::Switch(_) | Value::Text(_)) | None => 0,
        }
    }

    /// Whether a switch of `section` is on, its default included.
    pub(crate) fn switch(&self, section: Section, name: &str) -> bool {
        self.value(section, name) == Some(Value::Switch(true))
    }

    /// The text that holds for an option of `section`; `None` when it has neither value nor
    /// default.
    pub(crate) fn text(&self, section: Section, name: &str) -> Option<String> {
        self.value(section, name).map(|value| value.plain())
    }

    /// The setting of an option of `section`, when it was set anywhere.
    pub(crate) fn setting(&self, section: Section, name: &'static str) -> Option<&'a Setting> {
        self.settings.get(&(section, name)).copied()
    }

    /// Every option that was set anywhere, by name, as it was written.
    pub(crate) fn written(&self) -> BTreeMap<String, String> {
        let each = self.settings.iter();
        each.map(|((_, name), setting)| ((*name).to_owned(), setting.value.written()))
            .collect()
    }

    /// What must be said about the values that hold: refusals as errors, options without effect
    /// as warnings.
    pub(crate) fn judge(&self, sources: &Sources) -> Vec<Diagnostic> {
        let each = self.settings.values();
        each.filter_map(|setting| judge(sources, setting)).collect()
    }

    fn value(&self, section: Section, name: &str) -> Option<Value> {
        let option = find(section, name)?;
        match self.settings.get(&(option.home(), option.name)) {
            Some(setting) => Some(setting.value.clone()),
            None if option.default.is_empty() => None,
            None => value::parse(option, option.default).ok(),
        }
    }
}

fn judge(sources: &Sources, setting: &Setting) -> Option<Diagnostic> {
    let option = setting.option;
    match option.judge(&setting.value) {
        Judgement::Silent => None,
        Judgement::Warn(reason) => {
            let message = format!(
                "option '{}' is known but has no effect: {reason}",
                option.name
            );
            Some(warning(sources, setting.span, message))
        }
        Judgement::Refuse(reason) => {
            let (name, value) = (option.name, setting.value.written());
            let message = format!("'{name} {value}' cannot be accepted: {reason}");
            let help = match option.verdict {
                Verdict::Refused {
                    allowed: [first, ..],
                    ..
                } => Some(format!("what can be done today is '{name} {first};'")),
                Verdict::Refused { .. } => Some("remove the line".to_owned()),
                Verdict::Implemented | Verdict::Warned { .. } => None,
            };
            Some(error(sources, setting.span, message).with_help(help))
        }
    }
}
