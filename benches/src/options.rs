//! The words after a command: `--name VALUE` and `--name`, taken one by one.
//!
//! It knows no option itself; whoever asks for one says what it is.

/// What is left of a command line.
#[derive(Debug)]
pub(crate) struct Options {
    words: Vec<String>,
}

impl Options {
    /// The words of a command, its name left out. `--name=VALUE` is as good as two words.
    pub(crate) fn new(arguments: &[String]) -> Self {
        let split = |word: &String| match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => vec![name.into(), value.into()],
            _ => vec![word.clone()],
        };
        Self {
            words: arguments.iter().flat_map(split).collect(),
        }
    }

    /// Takes an option without a value; tells whether it was there.
    pub(crate) fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word != name);
        self.words.len() != before
    }

    /// Takes an option and its value.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.words.iter().position(|word| word == name) else {
            return Ok(None);
        };
        if at + 1 >= self.words.len() {
            return Err(format!("{name} needs a value"));
        }
        self.words.remove(at);
        Ok(Some(self.words.remove(at)))
    }

    /// Takes an option whose value is a number, or the default; at least `least`.
    pub(crate) fn number(&mut self, name: &str, default: u64, least: u64) -> Result<u64, String> {
        let Some(text) = self.text(name)? else {
            return Ok(default);
        };
        match text.parse::<u64>() {
            Ok(number) if number >= least => Ok(number),
            Ok(_) | Err(_) => Err(format!(
                "{name} takes a number from {least} on, not '{text}'"
            )),
        }
    }

    /// Takes an option whose value is some of the known words with commas between, or the default:
    /// all of them. The order is the known words' own.
    pub(crate) fn choice<'a>(
        &mut self,
        name: &str,
        known: &[&'a str],
    ) -> Result<Vec<&'a str>, String> {
        let Some(text) = self.text(name)? else {
            return Ok(known.to_vec());
        };
        let asked: Vec<&str> = text.split(',').filter(|word| !word.is_empty()).collect();
        if let Some(unknown) = asked.iter().find(|word| !known.contains(word)) {
            return Err(format!(
                "{name} does not know '{unknown}', only {}",
                known.join(", ")
            ));
        }
        let chosen: Vec<&str> = known
            .iter()
            .copied()
            .filter(|word| asked.contains(word))
            .collect();
        if chosen.is_empty() {
            return Err(format!("{name} needs at least one of {}", known.join(", ")));
        }
        Ok(chosen)
    }

    /// Complains about the first word nobody has taken.
    pub(crate) fn end(self) -> Result<(), String> {
        match self.words.first() {
            None => Ok(()),
            Some(word) => Err(format!("unknown option '{word}'")),
        }
    }
}

#[cfg(test)]
mod tests;
