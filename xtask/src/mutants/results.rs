//! What came of each mutant, kept in a file from run to run while the sources are the same.

use std::collections::{BTreeMap, hash_map::DefaultHasher};
use std::fs::{self, File, OpenOptions};
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use crate::check::source_files;
use crate::scratch::cannot;

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The compiler refuses it.
    Broken,
    /// A unit test fails.
    Tested { test: String },
    /// The simulation finds something wrong.
    Simulated { profile: String, what: String },
    /// It does not end: in tests, or in a profile of the simulation.
    Endless { place: String },
    /// Nothing was wrong in so many seeds of each profile.
    Missed { seeds: u64 },
}

impl Outcome {
    /// As it is kept, and handed to other programs.
    pub(super) fn to_json(&self, name: &str) -> Value {
        match self {
            Self::Broken => json!({"name": name, "is": "broken"}),
            Self::Tested { test } => json!({"name": name, "is": "tested", "test": test}),
            Self::Simulated { profile, what } => {
                json!({"name": name, "is": "simulated", "profile": profile, "what": what})
            }
            Self::Endless { place } => json!({"name": name, "is": "endless", "place": place}),
            Self::Missed { seeds } => json!({"name": name, "is": "missed", "seeds": seeds}),
        }
    }

    fn of_json(json: &Value) -> Option<Self> {
        let text = |key: &str| json[key].as_str().map(str::to_owned);
        Some(match json["is"].as_str()? {
            "broken" => Self::Broken,
            "tested" => Self::Tested {
                test: text("test")?,
            },
            "simulated" => Self::Simulated {
                profile: text("profile")?,
                what: text("what")?,
            },
            "endless" => Self::Endless {
                place: text("place")?,
            },
            "missed" => Self::Missed {
                seeds: json["seeds"].as_u64()?,
            },
            _ => return None,
        })
    }
}

/// All that is known, and the file it is added to.
#[derive(Debug)]
pub(super) struct Results {
    by_name: BTreeMap<String, Outcome>,
    file: File,
}

impl Results {
    /// Reads what an earlier run has found of the same sources; anything else is thrown away.
    pub(super) fn open(path: &Path, sources: &str) -> Result<Self, String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines().map(serde_json::from_str::<Value>);
        let header = json!({ "sources": sources });
        let is_known = lines
            .next()
            .is_some_and(|line| line.is_ok_and(|line| line == header));
        let mut by_name = BTreeMap::new();
        if is_known {
            // A line cut short by the end of a run is no result.
            for line in lines.filter_map(Result::ok) {
                if let Some((name, outcome)) = line["name"].as_str().zip(Outcome::of_json(&line)) {
                    by_name.insert(name.to_owned(), outcome);
                }
            }
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|error| cannot("make", directory, &error))?;
        }
        let mut options = OpenOptions::new();
        options.create(true).append(is_known).write(true);
        let file = options
            .truncate(!is_known)
            .open(path)
            .map_err(|error| cannot("open", path, &error))?;
        let mut results = Self { by_name, file };
        // Behind a line cut short, a new one begins.
        results.line(&if is_known {
            String::new()
        } else {
            header.to_string()
        })?;
        Ok(results)
    }

    /// What came of a mutant; what has been missed in fewer seeds than these says nothing.
    pub(super) fn of(&self, name: &str, seeds: u64) -> Option<&Outcome> {
        let known = self.by_name.get(name)?;
        let is_enough = !matches!(known, Outcome::Missed { seeds: run } if *run < seeds);
        is_enough.then_some(known)
    }

    /// Keeps what came of a mutant.
    pub(super) fn add(&mut self, name: &str, outcome: Outcome) -> Result<(), String> {
        self.line(&outcome.to_json(name).to_string())?;
        self.by_name.insert(name.to_owned(), outcome);
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        self.file
            .write_all(format!("{line}\n").as_bytes())
            .map_err(|error| format!("cannot keep a result: {error}"))
    }
}

/// A number for the sources of both crates: another one when any of them has changed.
pub(super) fn fingerprint(root: &Path) -> Result<String, String> {
    let mut hasher = DefaultHasher::new();
    for directory in ["protocol", "engine"] {
        for path in source_files(&root.join(directory), &[]) {
            let bytes = fs::read(&path).map_err(|error| cannot("read", &path, &error))?;
            path.strip_prefix(root).unwrap_or(&path).hash(&mut hasher);
            bytes.hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}
