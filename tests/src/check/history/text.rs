//! A history as text: one event a line, words between blanks.

use std::fmt::{self, Write};

use super::{Event, MOST_SECTORS, Value, Values};

/// The event on a line, if there is one.
pub(super) fn parse(line: &str) -> Result<Option<Event>, String> {
    let line = line.split_once('#').map_or(line, |(before, _)| before);
    let mut words = line.split_whitespace();
    let Some(verb) = words.next() else {
        return Ok(None);
    };
    let mut rest: Vec<&str> = words.collect();
    let fua = rest.pop_if(|word| *word == "fua").is_some();
    if fua && !matches!(verb, "write" | "zero") {
        return Err(format!("{verb} takes no fua"));
    }
    let event = match (verb, rest.as_slice()) {
        ("initial-zeroes", []) => Event::InitialZeroes,
        ("power-loss", []) => Event::PowerLoss,
        ("write", [id, first, values @ ..]) if !values.is_empty() => Event::Write {
            id: number(id)?,
            first: number(first)?,
            values: read_values(values)?,
            fua,
        },
        ("zero", [id, first, count]) => Event::Zero {
            id: number(id)?,
            first: number(first)?,
            count: number(count)?,
            fua,
        },
        ("trim", [id, first, count]) => Event::Trim {
            id: number(id)?,
            first: number(first)?,
            count: number(count)?,
        },
        ("read", [id, first, count]) => Event::Read {
            id: number(id)?,
            first: number(first)?,
            count: number(count)?,
        },
        ("flush", [id]) => Event::Flush { id: number(id)? },
        ("ok", [id, values @ ..]) => Event::Done {
            id: number(id)?,
            values: read_values(values)?,
        },
        ("lost", [id]) => Event::Lost { id: number(id)? },
        _ => return Err(format!("cannot read {:?}", line.trim())),
    };
    Ok(Some(event))
}

fn number(word: &str) -> Result<u64, String> {
    word.parse()
        .map_err(|_| format!("{word:?} is not a number"))
}

/// `VALUE` or `VALUE*COUNT` each.
fn read_values(words: &[&str]) -> Result<Values, String> {
    let mut values = Vec::new();
    for word in words {
        let (value, count) = word.split_once('*').unwrap_or((word, "1"));
        let value = match value {
            "i" => Value::Initial,
            "z" => Value::Zeroes,
            "?" => Value::Foreign,
            value => Value::Written(number(value)?),
        };
        let count = number(count)?;
        let length = usize::try_from(count)
            .ok()
            .filter(|_| count <= MOST_SECTORS)
            .ok_or_else(|| format!("{word:?} is too long"))?;
        values.resize(values.len() + length, value);
    }
    Ok(values)
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InitialZeroes => f.write_str("initial-zeroes"),
            Self::Write {
                id,
                first,
                values,
                fua,
            } => {
                write!(f, "write {id} {first}")?;
                write_values(f, values)?;
                f.write_str(if *fua { " fua" } else { "" })
            }
            Self::Zero {
                id,
                first,
                count,
                fua,
            } => {
                let fua = if *fua { " fua" } else { "" };
                write!(f, "zero {id} {first} {count}{fua}")
            }
            Self::Trim { id, first, count } => write!(f, "trim {id} {first} {count}"),
            Self::Read { id, first, count } => write!(f, "read {id} {first} {count}"),
            Self::Flush { id } => write!(f, "flush {id}"),
            Self::Done { id, values } => {
                write!(f, "ok {id}")?;
                write_values(f, values)
            }
            Self::Lost { id } => write!(f, "lost {id}"),
            Self::PowerLoss => f.write_str("power-loss"),
        }
    }
}

fn write_values(f: &mut fmt::Formatter<'_>, values: &[Value]) -> fmt::Result {
    for run in values.chunk_by(|one, next| one == next) {
        f.write_char(' ')?;
        match run.first() {
            Some(Value::Initial) => f.write_char('i')?,
            Some(Value::Zeroes) => f.write_char('z')?,
            Some(Value::Foreign) => f.write_char('?')?,
            Some(Value::Written(value)) => write!(f, "{value}")?,
            None => {}
        }
        if run.len() > 1 {
            write!(f, "*{}", run.len())?;
        }
    }
    Ok(())
}
