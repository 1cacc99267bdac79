//! What came of each mutant, kept in a file from run to run while the code is the same.

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

/// Numbers for what results depend on: others when any of it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint {
    /// Of the code, which holds the mutants: with another one nothing is known.
    pub(super) code: String,
    /// Of its unit tests: others may find what these have missed.
    pub(super) tests: String,
}

/// All that is known, and the file it is added to.
#[derive(Debug)]
pub(super) struct Results {
    by_name: BTreeMap<String, Outcome>,
    file: File,
}

impl Results {
    /// Reads what an earlier run has found of the same code, and what it has missed with the same
    /// tests; anything else is thrown away.
    pub(super) fn open(path: &Path, sources: &Fingerprint) -> Result<Self, String> {
        let text = fs::read_to_string(path).unwrap_or_default();
        let mut lines = text.lines().map(serde_json::from_str::<Value>);
        let header = json!({ "code": sources.code, "tests": sources.tests });
        let former = lines.next().and_then(Result::ok).unwrap_or_default();
        let mut by_name = BTreeMap::new();
        if former["code"] == header["code"] {
            let is_lasting = |outcome: &Outcome| {
                former["tests"] == header["tests"] || !matches!(outcome, Outcome::Missed { .. })
            };
            // A line cut short by the end of a run is no result.
            for line in lines.filter_map(Result::ok) {
                if let Some((name, outcome)) = line["name"].as_str().zip(Outcome::of_json(&line)) {
                    by_name.insert(name.to_owned(), outcome);
                }
            }
            by_name.retain(|_, outcome| is_lasting(outcome));
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|error| cannot("make", directory, &error))?;
        }
        // Written whole beside it first: hours of work are not lost to the end of a run.
        let mut text = format!("{header}\n");
        for (name, outcome) in &by_name {
            text.push_str(&format!("{}\n", outcome.to_json(name)));
        }
        let whole = path.with_extension("new");
        fs::write(&whole, text).map_err(|error| cannot("write", &whole, &error))?;
        fs::rename(&whole, path).map_err(|error| cannot("replace", path, &error))?;
        let file = OpenOptions::new().append(true).open(path);
        let file = file.map_err(|error| cannot("open", path, &error))?;
        Ok(Self { by_name, file })
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

/// What the sources of both crates are now.
pub(super) fn fingerprint(root: &Path) -> Result<Fingerprint, String> {
    let mut code = DefaultHasher::new();
    let mut tests = DefaultHasher::new();
    for directory in ["protocol", "engine"] {
        for path in source_files(&root.join(directory), &[]) {
            let bytes = fs::read(&path).map_err(|error| cannot("read", &path, &error))?;
            let path = path.strip_prefix(root).unwrap_or(&path);
            let is_test = path
                .components()
                .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs");
            let hasher = if is_test { &mut tests } else { &mut code };
            path.hash(hasher);
            bytes.hash(hasher);
        }
    }
    Ok(Fingerprint {
        code: format!("{:016x}", code.finish()),
        tests: format!("{:016x}", tests.finish()),
    })
}
