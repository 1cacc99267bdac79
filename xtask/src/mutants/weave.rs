//! All mutants in one program: the body of each function stands there once for every mutant, and
//! a number chooses one of them at run time.
//!
//! A function in another one is a part of its body. What has to be known when a program is built
//! cannot be chosen later: constants, `const` functions, and functions that return `impl Trait`,
//! whose bodies would be of different types.
//!
//! It never judges whether what it makes compiles; see `build`.

use std::collections::{BTreeMap, HashSet};

use super::list::{Mutant, Place, Span};

/// A file with its mutants in it.
#[derive(Debug, Default)]
pub(super) struct Woven {
    pub(super) text: String,
    pub(super) arms: Vec<Arm>,
    /// By mutant: the function it is in, which bears the number of the first mutant in it.
    pub(super) functions: BTreeMap<u32, u32>,
    /// Mutants that cannot be chosen at run time, and why.
    pub(super) left_out: Vec<(u32, &'static str)>,
}

/// Where a mutant's body is in the woven file: lines, counted from one, both of them included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arm {
    pub(super) first: usize,
    pub(super) last: usize,
    pub(super) id: u32,
}

/// Weaves all mutants of one file but those that do not build. `switch` is the path of the
/// function that is told where the program is, and says which mutant runs.
pub(super) fn weave(
    text: &str,
    mutants: &[&Mutant],
    broken: &HashSet<u32>,
    switch: &str,
) -> Result<Woven, String> {
    let mut woven = Woven::default();
    let offsets = Offsets::new(text);
    let mut at = 0;
    let mut line = 1;
    for (span, group) in outermost(mutants, &mut woven.left_out) {
        let (start, end) = offsets.range(span)?;
        let body = match body(&text[start..end], &group) {
            Ok(body) => start + body,
            Err(reason) => {
                let ids = group.iter().map(|mutant| (mutant.id, reason));
                woven.left_out.extend(ids);
                continue;
            }
        };
        let mut add = |piece: &str| {
            woven.text += piece;
            line += piece.matches('\n').count();
            line
        };
        add(&text[at..body]);
        let ids = group.iter().map(|mutant| mutant.id);
        let function = ids.clone().min().unwrap_or_default();
        woven.functions.extend(ids.map(|id| (id, function)));
        let mut first = add(&format!("{{ match {switch}({function}) {{\n"));
        for mutant in group.iter().filter(|mutant| !broken.contains(&mutant.id)) {
            let id = mutant.id;
            let changed = changed(text, &offsets, mutant, (body, end))?;
            let next = add(&format!("{id} => {changed}\n"));
            let last = next - 1;
            woven.arms.push(Arm { first, last, id });
            first = next;
        }
        add(&format!("_ => {}\n}} }}", &text[body..end]));
        at = end;
    }
    woven.text += &text[at..];
    Ok(woven)
}

/// The mutants by the outermost function they are in, in the order of the file.
fn outermost<'a>(
    mutants: &[&'a Mutant],
    left_out: &mut Vec<(u32, &'static str)>,
) -> Vec<(Span, Vec<&'a Mutant>)> {
    let mut functions: BTreeMap<Span, Vec<&Mutant>> = BTreeMap::new();
    for mutant in mutants {
        match &mutant.function {
            Some(function) => functions.entry(function.span).or_default().push(mutant),
            None => left_out.push((mutant.id, "in a constant")),
        }
    }
    let mut tops: Vec<(Span, Vec<&Mutant>)> = Vec::new();
    for (span, group) in functions {
        match tops.last_mut() {
            // They are sorted by where they begin, so one that ends before is inside.
            Some((top, all)) if span.end <= top.end => all.extend(group),
            _ => tops.push((span, group)),
        }
    }
    tops
}

/// Where the body of a function begins, or why it cannot be chosen at run time.
fn body(source: &str, group: &[&Mutant]) -> Result<usize, &'static str> {
    let code = code_only(source);
    let mut depth = 0_usize;
    let body = code.bytes().position(|byte| {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        byte == b'{' && depth == 0
    });
    let (Some(body), true) = (body, code.ends_with('}')) else {
        return Err("no body");
    };
    let words = |text: &str| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let words = text.split(move |c| !is_part(c)).map(str::to_owned);
        words.filter(|word| !word.is_empty()).collect::<Vec<_>>()
    };
    let signature = words(&code[..body]);
    let before = signature.iter().take_while(|word| *word != "fn");
    if before.into_iter().any(|word| word == "const") {
        return Err("a const function");
    }
    let returns = group.iter().filter_map(|mutant| mutant.function.as_ref());
    if returns
        .flat_map(|function| words(&function.return_type))
        .any(|word| word == "impl")
    {
        return Err("returns impl Trait");
    }
    Ok(body)
}

/// The body, from brace to brace, with one mutant in it.
fn changed(
    text: &str,
    offsets: &Offsets<'_>,
    mutant: &Mutant,
    (body, end): (usize, usize),
) -> Result<String, String> {
    let (from, to) = offsets.range(mutant.span)?;
    let Mutant {
        name, replacement, ..
    } = mutant;
    if mutant.is_body && from <= body {
        return Ok(format!("{{ {replacement} }}"));
    }
    if from < body || end < to {
        return Err(format!("{name} is not in its function"));
    }
    // Blanks keep an operator apart from its neighbours.
    let (before, after) = (&text[body..from], &text[to..end]);
    Ok(format!("{before} {replacement} {after}"))
}

/// Where the lines of a text begin, to find the places cargo-mutants names.
struct Offsets<'a> {
    text: &'a str,
    lines: Vec<usize>,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        Self {
            text,
            lines: std::iter::once(0).chain(ends).collect(),
        }
    }

    /// Columns count characters, not bytes.
    fn of(&self, place: Place) -> Option<usize> {
        let start = *self.lines.get(place.line.checked_sub(1)?)?;
        let mut ends = self.text[start..].char_indices().map(|(at, _)| start + at);
        let column = place.column.checked_sub(1)?;
        ends.nth(column)
            .or_else(|| (self.text[start..].chars().count() == column).then_some(self.text.len()))
    }

    fn range(&self, span: Span) -> Result<(usize, usize), String> {
        let range = self.of(span.start).zip(self.of(span.end));
        range.ok_or_else(|| format!("line {} is not there any more", span.start.line))
    }
}

/// The text with blanks for its comments, strings and characters, so that braces and words in
/// them count for nothing. Its bytes stay where they are.
pub(super) fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = literal(rest);
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        }
        code.extend(std::iter::repeat_n(' ', length));
        rest = &rest[length..];
    }
    code
}

/// How long the comment, string or character is that the text begins with; 0 if with none.
fn literal(text: &str) -> usize {
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |at| at + 2);
    }
    // No name stands right before a quote, so this r is no end of one.
    if let Some(raw) = text.strip_prefix('r') {
        let marks = raw.len() - raw.trim_start_matches('#').len();
        if raw[marks..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(marks));
            let from = 1 + marks + 1;
            let end = text[from..].find(&close);
            return end.map_or(text.len(), |at| from + at + close.len());
        }
    }
    if text.starts_with('"') {
        return quoted(text, '"');
    }
    // A lifetime has no second quote right behind its first letter.
    let mut inside = text.strip_prefix('\'').into_iter().flat_map(str::chars);
    match (inside.next(), inside.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(text, '\''),
        _ => 0,
    }
}

/// How far it is to the quote that ends what one begins.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    text.len()
}
