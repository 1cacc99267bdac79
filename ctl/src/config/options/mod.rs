//! The option table: every option DRBD 8.4 and 9 know, where it may stand, what it may be, and
//! what this program does with it.
//!
//! The rule behind the verdicts: an option that is known but not acted upon is accepted with
//! one warning; one whose silent loss could cost data is refused; one nobody knows is an error
//! before this table is asked for a verdict. The table never reads a file.

mod disk;
mod net;
mod node;

use super::value::Value;

/// A section that holds options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Section {
    /// `global { … }`
    Global,
    /// `net { … }`
    Net,
    /// `disk { … }` of `common`, a resource, a host or a volume.
    Disk,
    /// `disk { … }` of a connection: options for one peer's replica.
    PeerDisk,
    /// `options { … }`
    Options,
    /// `startup { … }`
    Startup,
    /// `handlers { … }`
    Handlers,
    /// `proxy { … }`
    Proxy,
    /// `syncer { … }`, which DRBD 8.4 abolished.
    Syncer,
    /// A volume itself.
    Volume,
}

/// What a number counts when it has no unit letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Things; `K`, `M`, `G` multiply.
    Count,
    /// Seconds, without unit letter.
    Seconds,
    /// Tenths of a second, without unit letter.
    TenthsOfSeconds,
    /// Thousandths of a second, without unit letter.
    Milliseconds,
    /// Bytes.
    Bytes,
    /// 1024 bytes.
    KibiBytes,
    /// 512 bytes.
    Sectors,
}

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `yes`, `no`, nothing (yes), or `no-` before the name.
    Switch,
    /// A number between two bounds, both included.
    Number { min: u64, max: u64, unit: Unit },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One of these words or a number.
    ChoiceOrNumber {
        choices: &'static [&'static str],
        min: u64,
        max: u64,
    },
    /// One of these words, or the prefix with a host name behind it.
    Policy {
        choices: &'static [&'static str],
        prefix: &'static str,
    },
    /// The name of a digest.
    Digest,
    /// One or more words, which are host names.
    Names { longest: usize },
    /// Any text up to a length in bytes.
    Text { longest: usize },
}

/// Which DRBD has the option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Generation {
    /// 8.4 and 9.
    Both,
    /// 8.4 or older only.
    Eight,
    /// 9 only.
    Nine,
    /// Neither.
    Neither,
}

/// What this program does with an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Acts on it.
    Implemented,
    /// Accepts it and says once that it has no effect, unless the value asks for what is done
    /// anyway.
    Warned {
        kept: &'static [&'static str],
        reason: &'static str,
    },
    /// Refuses it, unless the value asks for what is done anyway.
    Refused {
        allowed: &'static [&'static str],
        reason: &'static str,
    },
}

/// What is to be said about one value of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// Nothing.
    Silent,
    /// It has no effect, for this reason.
    Warn(&'static str),
    /// It cannot be accepted, for this reason.
    Refuse(&'static str),
}

/// One row of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    pub(crate) name: &'static str,
    /// The sections it may stand in; the first is where it belongs.
    pub(crate) sections: &'static [Section],
    pub(crate) kind: Kind,
    /// What holds when it is not set, written as in a file; empty when that is "unset".
    pub(crate) default: &'static str,
    pub(crate) generation: Generation,
    pub(crate) verdict: Verdict,
}

impl Section {
    /// The keyword that opens the section.
    pub(crate) fn keyword(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Net => "net",
            Self::Disk | Self::PeerDisk => "disk",
            Self::Options => "options",
            Self::Startup => "startup",
            Self::Handlers => "handlers",
            Self::Proxy => "proxy",
            Self::Syncer => "syncer",
            Self::Volume => "volume",
        }
    }
}

impl Unit {
    /// How many bytes one of it is; 1 for what is no size.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::KibiBytes => 1 << 10,
            Self::Sectors => 512,
            Self::Count
            | Self::Bytes
            | Self::Seconds
            | Self::TenthsOfSeconds
            | Self::Milliseconds => 1,
        }
    }

    /// The unit in words, to stand behind a number.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Count => "",
            Self::Seconds => " seconds",
            Self::TenthsOfSeconds => " tenths of a second",
            Self::Milliseconds => " milliseconds",
            Self::Bytes => " bytes",
            Self::KibiBytes => " KiB",
            Self::Sectors => " sectors of 512 bytes",
        }
    }
}

impl OptionSpec {
    /// Where the option belongs, whatever section it was found in.
    pub(crate) fn home(&self) -> Section {
        self.sections[0]
    }

    /// What is to be said when the option has this value.
    pub(crate) fn judge(&self, value: &Value) -> Judgement {
        let plain = value.plain();
        match self.verdict {
            Verdict::Implemented => Judgement::Silent,
            Verdict::Warned { kept, .. } if kept.contains(&plain.as_str()) => Judgement::Silent,
            Verdict::Warned { reason, .. } => Judgement::Warn(reason),
            Verdict::Refused { allowed, .. } if allowed.contains(&plain.as_str()) => {
                Judgement::Silent
            }
            Verdict::Refused { reason, .. } => Judgement::Refuse(reason),
        }
    }

    const fn new(
        name: &'static str,
        sections: &'static [Section],
        kind: Kind,
        default: &'static str,
        verdict: Verdict,
    ) -> Self {
        Self {
            name,
            sections,
            kind,
            default,
            generation: Generation::Both,
            verdict,
        }
    }

    const fn nine(self) -> Self {
        Self {
            generation: Generation::Nine,
            ..self
        }
    }

    /// It has an effect after all.
    const fn runs(self) -> Self {
        Self {
            verdict: Verdict::Implemented,
            ..self
        }
    }

    const fn ours(self) -> Self {
        Self {
            generation: Generation::Neither,
            ..self
        }
    }

    const fn eight(self) -> Self {
        Self {
            generation: Generation::Eight,
            ..self
        }
    }
}

/// The options of the whole language, section by section.
pub(crate) fn all() -> impl Iterator<Item = &'static OptionSpec> {
    [
        net::OPTIONS,
        disk::OPTIONS,
        disk::PEER_OPTIONS,
        node::OPTIONS,
    ]
    .into_iter()
    .flatten()
}

/// The option called `name` where it may stand in `section`. Old names find their successors.
pub(crate) fn find(section: Section, name: &str) -> Option<&'static OptionSpec> {
    let current = ALIASES
        .iter()
        .find(|(sections, alias, _)| *alias == name && sections.contains(&section))
        .map_or(name, |(_, _, current)| current);
    all().find(|option| option.name == current && option.sections.contains(&section))
}

/// The names that may stand in `section`.
pub(crate) fn names_in(section: Section) -> impl Iterator<Item = &'static str> {
    all()
        .filter(move |option| option.sections.contains(&section))
        .map(|option| option.name)
}

/// Sections an option called `name` may stand in, when it is known at all.
pub(crate) fn sections_of(name: &str) -> Option<Section> {
    all()
        .find(|option| option.name == name)
        .map(OptionSpec::home)
}

const fn warned(reason: &'static str) -> Verdict {
    Verdict::Warned { kept: &[], reason }
}

const fn warned_unless(kept: &'static [&'static str], reason: &'static str) -> Verdict {
    Verdict::Warned { kept, reason }
}

const fn refused_unless(allowed: &'static [&'static str], reason: &'static str) -> Verdict {
    Verdict::Refused { allowed, reason }
}

const fn number(min: u64, max: u64, unit: Unit) -> Kind {
    Kind::Number { min, max, unit }
}

/// Names of older releases: where they may stand, and what they are called today.
const ALIASES: &[(&[Section], &str, &str)] = &[
    (&[Section::Syncer, Section::Disk], "rate", "resync-rate"),
    (&[Section::Syncer, Section::Disk], "after", "resync-after"),
    (&[Section::Handlers], "outdate-peer", "fence-peer"),
];
