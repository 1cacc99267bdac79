//! The option table as a person reads it in docs/configuration.md, which a test compares with it.

use super::options::{Generation, Kind, OptionSpec, Section, Verdict, all};

/// Every option as rows of a Markdown table, grouped under a heading for each section.
pub(crate) fn option_table() -> String {
    let mut text = String::new();
    for (section, heading) in SECTIONS {
        text.push_str(heading);
        text.push_str("\n\n| Option | Values | Default | DRBD | Here |\n|---|---|---|---|---|\n");
        for option in all().filter(|option| option.home() == *section) {
            text.push_str(&row(option));
        }
        text.push('\n');
    }
    text
}

fn row(option: &OptionSpec) -> String {
    let default = match option.default {
        "" => "unset".to_owned(),
        default => format!("`{default}`"),
    };
    let generation = match option.generation {
        Generation::Both => "8.4, 9",
        Generation::Eight => "8.4",
        Generation::Nine => "9",
        Generation::Neither => "none",
    };
    let verdict = match option.verdict {
        Verdict::Implemented => "acted upon".to_owned(),
        Verdict::Warned { kept: [], reason } => format!("warning: {reason}"),
        Verdict::Warned { kept, reason } => {
            format!("{} kept; else a warning: {reason}", code(kept))
        }
        Verdict::Refused {
            allowed: [],
            reason,
        } => format!("**refused**: {reason}"),
        Verdict::Refused { allowed, reason } => {
            format!("only {}; else **refused**: {reason}", code(allowed))
        }
    };
    format!(
        "| `{}` | {} | {default} | {generation} | {verdict} |\n",
        option.name,
        values(&option.kind)
    )
}

fn values(kind: &Kind) -> String {
    match kind {
        Kind::Switch => "`yes`, `no`".to_owned(),
        Kind::Number { min, max, unit } => format!("{min}–{max}{}", unit.words()),
        Kind::Choice(choices) => code(choices),
        Kind::ChoiceOrNumber { choices, min, max } => format!("{}, {min}–{max}", code(choices)),
        Kind::Policy { choices, prefix } => format!("{}, `{prefix}HOST`", code(choices)),
        Kind::Digest => "a digest".to_owned(),
        Kind::Names { .. } => "host names".to_owned(),
        Kind::Text { longest } => format!("text, at most {longest} bytes"),
    }
}

fn code(words: &[&str]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(", ")
}

const SECTIONS: &[(Section, &str)] = &[
    (Section::Net, "### net: the link to a peer"),
    (Section::Disk, "### disk: a volume's backing device"),
    (
        Section::PeerDisk,
        "### disk inside connection: one peer's replica",
    ),
    (Section::Options, "### options: the resource as a whole"),
    (Section::Startup, "### startup: waiting for peers"),
    (Section::Handlers, "### handlers: shell commands"),
    (Section::Global, "### global"),
    (Section::Volume, "### volume"),
    (Section::Proxy, "### proxy"),
];
