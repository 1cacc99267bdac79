//! The question before something is overwritten.

use std::io::{BufRead, IsTerminal, Write};

/// How the question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// With `yes`.
    Yes,
    /// With anything else.
    No,
    /// There is no terminal to ask on.
    Nobody,
}

/// Asks on the terminal.
pub(crate) fn ask(question: &str) -> Answer {
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Answer::Nobody;
    }
    ask_on(&mut input.lock(), &mut std::io::stderr(), question)
}

/// Asks on any pair of streams; only the whole word `yes` is a yes.
pub(super) fn ask_on(input: &mut dyn BufRead, output: &mut dyn Write, question: &str) -> Answer {
    let asked = write!(output, "{question}\n[need to type 'yes' to confirm] ");
    if asked.and_then(|()| output.flush()).is_err() {
        return Answer::Nobody;
    }
    let mut line = String::new();
    match input.read_line(&mut line) {
        Ok(_) if line.trim() == "yes" => Answer::Yes,
        Ok(_) | Err(_) => Answer::No,
    }
}
