//! The mutants: what cargo-mutants says of them, which are asked for, and which a person has
//! judged already.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::process;
use crate::workspace;

/// One change of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// Its number among all mutants of both crates, from one.
    pub(super) id: u32,
    /// What cargo-mutants calls it, with line and column.
    pub(super) name: String,
    /// The same without them; a second one of this name in the file ends in ` #2`.
    pub(super) lasting_name: String,
    /// Below the workspace's root.
    pub(super) file: String,
    /// What is replaced.
    pub(super) span: Span,
    /// By what.
    pub(super) replacement: String,
    /// Whether the whole body of the function is.
    pub(super) is_body: bool,
    /// The function it is in.
    pub(super) function: Option<Function>,
}

/// A function with a mutant in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) span: Span,
    /// What it returns, with the arrow.
    pub(super) return_type: String,
}

/// A piece of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) start: Place,
    pub(super) end: Place,
}

/// A character of a file: both are counted from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// Asks cargo-mutants, or says how to get it.
pub(super) fn load() -> Result<Vec<Mutant>, String> {
    let mut command = workspace::cargo();
    command.args(["mutants", "--list", "--json", "--no-config"]);
    command.args(["--package", "rbd-protocol", "--package", "rbd-engine"]);
    let answer = process::capture(&mut command, DEADLINE)?;
    if answer.stderr.contains("no such command") {
        return Err(
            "cargo-mutants is not installed: cargo install cargo-mutants --locked".to_owned(),
        );
    }
    if !answer.status.success() {
        return Err(format!("cargo mutants failed: {}", answer.stderr.trim()));
    }
    read(&answer.stdout)
}

/// Reads the list cargo-mutants prints.
pub(super) fn read(text: &str) -> Result<Vec<Mutant>, String> {
    let json: Value = serde_json::from_str(text)
        .map_err(|error| format!("cargo mutants does not print JSON: {error}"))?;
    let mut seen = HashMap::new();
    let mut mutants = Vec::new();
    for (json, id) in json.as_array().into_iter().flatten().zip(1..) {
        let mutant = mutant(json, id, &mut seen);
        mutants.push(mutant.ok_or_else(|| format!("cargo mutants lists what it is not: {json}"))?);
    }
    Ok(mutants)
}

fn mutant(json: &Value, id: u32, seen: &mut HashMap<String, u32>) -> Option<Mutant> {
    let text = |key: &str| json[key].as_str().map(str::to_owned);
    let (name, file) = (text("name")?, text("file")?);
    let what = name.strip_prefix(&file)?.splitn(4, ':').nth(3)?;
    let mut lasting_name = format!("{file}:{what}");
    let times = seen.entry(lasting_name.clone()).or_insert(0);
    *times += 1;
    if *times > 1 {
        lasting_name += &format!(" #{times}");
    }
    let function = match &json["function"] {
        Value::Null => None,
        function => Some(Function {
            span: span(&function["span"])?,
            return_type: function["return_type"].as_str()?.to_owned(),
        }),
    };
    Some(Mutant {
        id,
        lasting_name,
        span: span(&json["span"])?,
        replacement: text("replacement")?,
        is_body: json["genre"] == "FnValue",
        function,
        name,
        file,
    })
}

fn span(json: &Value) -> Option<Span> {
    let place = |json: &Value| {
        Some(Place {
            line: usize::try_from(json["line"].as_u64()?).ok()?,
            column: usize::try_from(json["column"].as_u64()?).ok()?,
        })
    };
    Some(Span {
        start: place(&json["start"])?,
        end: place(&json["end"])?,
    })
}

/// Lasting names of mutants a person has looked at, from the file that holds them.
pub(super) fn judged(root: &Path) -> Result<Vec<String>, String> {
    match fs::read_to_string(root.join(JUDGED)) {
        Ok(text) => read_judged(&text),
        Err(error) => Err(format!("{JUDGED}: {error}")),
    }
}

/// Each line is a name, a tab and a reason; other lines begin with `#` or are empty.
pub(super) fn read_judged(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.split_once('\t') {
            Some((name, reason)) if !reason.trim().is_empty() => names.push(name.to_owned()),
            _ => return Err(format!("{JUDGED}:{number}: not a name, a tab and a reason")),
        }
    }
    Ok(names)
}

/// Where those are.
pub(super) const JUDGED: &str = "tests/mutants/judged.txt";

/// Reading all sources takes seconds.
const DEADLINE: Duration = Duration::from_secs(600);
