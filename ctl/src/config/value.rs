//! Values of options: numbers with units, switches, choices and texts, checked against what an
//! option may be.
//!
//! Only the form of a value is judged here; whether this program acts on it is the business
//! of the option table.

use super::options::{Kind, OptionSpec, Unit};
use super::suggest::did_you_mean;

/// The value of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// A number in the option's own unit, and how it was written.
    Number { value: u64, written: String },
    /// `yes` or `no`.
    Switch(bool),
    /// One of the words the option knows, or a text.
    Text(String),
}

/// Why a value cannot be taken: the message, and what may help.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadValue {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

impl Value {
    /// The value in the form the option table lists: `yes`, a plain number, a word.
    pub(crate) fn plain(&self) -> String {
        match self {
            Self::Number { value, .. } => value.to_string(),
            Self::Switch(true) => "yes".to_owned(),
            Self::Switch(false) => "no".to_owned(),
            Self::Text(text) => text.clone(),
        }
    }

    /// The value as it was written, units included.
    pub(crate) fn written(&self) -> String {
        match self {
            Self::Number { written, .. } => written.clone(),
            Self::Switch(_) | Self::Text(_) => self.plain(),
        }
    }
}

/// Reads the value of `option` from its text.
pub(crate) fn parse(option: &OptionSpec, text: &str) -> Result<Value, BadValue> {
    match &option.kind {
        Kind::Switch => match text {
            "yes" => Ok(Value::Switch(true)),
            "no" => Ok(Value::Switch(false)),
            _ => Err(not_a_choice(text, &["yes", "no"])),
        },
        Kind::Number { min, max, unit } => {
            let value = number(option.name, text, *unit, *min, *max)?;
            Ok(Value::Number {
                value,
                written: text.to_owned(),
            })
        }
        Kind::Choice(choices) => choice(choices, text),
        Kind::ChoiceOrNumber { choices, min, max } => {
            if text.starts_with(|first: char| first.is_ascii_digit()) {
                let value = number(option.name, text, Unit::Count, *min, *max)?;
                return Ok(Value::Number {
                    value,
                    written: text.to_owned(),
                });
            }
            choice(choices, text)
        }
        Kind::Policy { choices, prefix } => {
            let host = text.strip_prefix(prefix);
            if host.is_some_and(|host| !host.is_empty()) {
                return Ok(Value::Text(text.to_owned()));
            }
            choice(choices, text)
        }
        Kind::Digest => digest(text),
        Kind::Text { longest } | Kind::Names { longest } => {
            if text.len() > *longest {
                let (name, length) = (option.name, text.len());
                return Err(plain_error(format!(
                    "the value of {name} has {length} characters; at most {longest} are allowed"
                )));
            }
            Ok(Value::Text(text.to_owned()))
        }
    }
}

/// Reads a number with its optional unit letter and converts it to `unit`.
pub(crate) fn number(
    name: &str,
    text: &str,
    unit: Unit,
    min: u64,
    max: u64,
) -> Result<u64, BadValue> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, suffix) = text.split_at(digits);
    if digits.is_empty() {
        return Err(plain_error(format!(
            "Parse error: 'a number' expected, but got '{text}'"
        )));
    }
    let scale = scale(text, suffix, unit)?;
    let too = |what: &str, bound: &str, limit: u64| {
        plain_error(format!(
            "while parsing value ('{text}') for {name}. Value is too {what}: at {bound} {limit}{}",
            unit.words()
        ))
    };
    let value = digits.parse::<u64>().ok().and_then(|value| match scale {
        Scale::Plain => Some(value),
        Scale::Bytes(bytes) => value.checked_mul(bytes).map(|bytes| bytes / unit.bytes()),
    });
    match value {
        Some(value) if value < min => Err(too("small", "least", min)),
        Some(value) if value <= max => Ok(value),
        Some(_) | None => Err(too("big", "most", max)),
    }
}

/// How the digits of a number become its value.
enum Scale {
    /// They are in the option's own unit.
    Plain,
    /// They count pieces of so many bytes.
    Bytes(u64),
}

fn scale(text: &str, suffix: &str, unit: Unit) -> Result<Scale, BadValue> {
    let bytes = match suffix {
        "" => return Ok(Scale::Plain),
        "s" | "S" => 512,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => {
            let message = format!("Parse error: 'a number' expected, but got '{text}'");
            let help = Some("a number may end in one of s, K, M, G".to_owned());
            return Err(BadValue { message, help });
        }
    };
    let fits = match unit {
        Unit::Bytes | Unit::KibiBytes | Unit::Sectors => true,
        Unit::Count => bytes != 512,
        Unit::Seconds | Unit::TenthsOfSeconds | Unit::Milliseconds => false,
    };
    if fits {
        return Ok(Scale::Bytes(bytes));
    }
    let meaning = match unit.words() {
        "" => String::new(),
        words => format!(", meaning{words}"),
    };
    Err(plain_error(format!(
        "'{text}' has a unit; a plain number is expected{meaning}"
    )))
}

fn choice(choices: &[&str], text: &str) -> Result<Value, BadValue> {
    if choices.contains(&text) {
        return Ok(Value::Text(text.to_owned()));
    }
    Err(not_a_choice(text, choices))
}

fn not_a_choice(text: &str, choices: &[&str]) -> BadValue {
    let message = format!(
        "Parse error: '{}' expected, but got '{text}'",
        choices.join(" | ")
    );
    BadValue {
        message,
        help: did_you_mean(text, choices.iter().copied()),
    }
}

/// A digest, or the name of a kernel driver for one, such as `crc32c-intel`.
fn digest(text: &str) -> Result<Value, BadValue> {
    let named = |digest: &&str| -> bool {
        let rest = text.strip_prefix(*digest);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    if DIGESTS.iter().any(named) {
        return Ok(Value::Text(text.to_owned()));
    }
    let message = format!(
        "'{text}' is not a digest; one of {} is expected",
        DIGESTS.join(", ")
    );
    Err(BadValue {
        message,
        help: did_you_mean(text, DIGESTS.iter().copied()),
    })
}

fn plain_error(message: String) -> BadValue {
    BadValue {
        message,
        help: None,
    }
}

/// Digests that DRBD can have from a kernel.
const DIGESTS: &[&str] = &[
    "sha1",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha3-224",
    "sha3-256",
    "sha3-384",
    "sha3-512",
    "md5",
    "crc32",
    "crc32c",
    "crct10dif",
    "xxhash64",
    "blake2b-256",
    "blake2b-512",
    "blake2s-256",
    "rmd160",
    "sm3",
];
