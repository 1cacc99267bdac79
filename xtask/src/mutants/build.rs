//! One build of all mutants: woven, checked, and woven again without those the compiler refuses,
//! until it refuses none.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::list::Mutant;
use super::weave::{Arm, weave};
use crate::process;
use crate::scratch::{PROFILE, ScratchCopy};
use crate::workspace::Workspace;

/// The files with mutants in them, as they are, and what becomes of them.
#[derive(Debug)]
pub(super) struct Loom<'a> {
    copy: ScratchCopy,
    /// By file: its text, and its mutants.
    files: BTreeMap<&'a str, (String, Vec<&'a Mutant>)>,
    /// The root of `protocol`, which has one more module in the copy.
    root: String,
    /// Mutants the compiler refuses.
    pub(super) broken: HashSet<u32>,
}

/// The built programs, each with all mutants in it.
#[derive(Debug, Default)]
pub(super) struct Programs {
    /// Programs of tests by the name of their target, and the directory to run them in.
    pub(super) tests: BTreeMap<String, (PathBuf, PathBuf)>,
    pub(super) simulation: PathBuf,
    /// By mutant: the number of the function it is in.
    pub(super) functions: BTreeMap<u32, u32>,
}

/// The texts of one weaving.
#[derive(Debug, Default)]
struct Cloth {
    texts: BTreeMap<PathBuf, String>,
    arms: BTreeMap<String, Vec<Arm>>,
    functions: BTreeMap<u32, u32>,
    left_out: BTreeMap<u32, &'static str>,
}

impl<'a> Loom<'a> {
    /// Reads the sources of these mutants.
    pub(super) fn new(workspace: &Workspace, mutants: &[&'a Mutant]) -> Result<Self, String> {
        let read = |file: &str| {
            fs::read_to_string(workspace.root.join(file))
                .map_err(|error| format!("{file}: {error}"))
        };
        let mut files: BTreeMap<&str, (String, Vec<&Mutant>)> = BTreeMap::new();
        for mutant in mutants {
            if !files.contains_key(mutant.file.as_str()) {
                files.insert(&mutant.file, (read(&mutant.file)?, Vec::new()));
            }
            if let Some((_, all)) = files.get_mut(mutant.file.as_str()) {
                all.push(mutant);
            }
        }
        Ok(Self {
            copy: ScratchCopy::new(&workspace.target_directory.join("mutants")),
            files,
            root: read(ROOT)?,
            broken: HashSet::new(),
        })
    }

    /// Mutants that cannot be chosen at run time, and why.
    pub(super) fn left_out(&self) -> Result<BTreeMap<u32, &'static str>, String> {
        Ok(self.weave()?.left_out)
    }

    /// Weaves and builds until the compiler is content; `broken` says then which are not there.
    /// The simulation is built if it is to be run.
    pub(super) fn build(
        &mut self,
        workspace: &Workspace,
        simulation: bool,
    ) -> Result<Programs, String> {
        let mut cloth = self.weave()?;
        self.copy.fill(workspace, &cloth.texts)?;
        for round in 1..=ROUNDS {
            let refused = match self.compile(&["check"], &["--package", "rbd-engine"])? {
                Ok(_) => match self.compile_all(simulation)? {
                    Ok(programs) => {
                        return Ok(Programs {
                            functions: cloth.functions,
                            ..programs
                        });
                    }
                    Err(refused) => refused,
                },
                Err(refused) => refused,
            };
            let before = self.broken.len();
            let mut others = Vec::new();
            for line in refused.lines() {
                match mutants_of(line, &cloth.arms) {
                    Blame::Nobody => {}
                    Blame::Mutants(ids) => self.broken.extend(ids),
                    Blame::Other(text) => others.push(text),
                }
            }
            if self.broken.len() == before {
                let text = others.first().cloned();
                return Err(text.unwrap_or_else(|| "cargo does not say why it fails".to_owned()));
            }
            println!("round {round}: {} do not build", self.broken.len());
            cloth = self.weave()?;
            self.copy.replace(&cloth.texts)?;
        }
        Err(format!("after {ROUNDS} rounds it still does not build"))
    }

    fn weave(&self) -> Result<Cloth, String> {
        let mut cloth = Cloth::default();
        for (file, (text, mutants)) in &self.files {
            let switch = if file.starts_with("protocol/") {
                "crate::mutants::active_in"
            } else {
                "::rbd_protocol::mutants::active_in"
            };
            let woven = weave(text, mutants, &self.broken, switch)
                .map_err(|error| format!("{file}: {error}"))?;
            cloth.texts.insert(file.into(), woven.text);
            cloth.arms.insert((*file).to_owned(), woven.arms);
            cloth.functions.extend(woven.functions);
            cloth.left_out.extend(woven.left_out);
        }
        cloth
            .texts
            .insert(SWITCH.into(), include_str!("switch.rs").to_owned());
        let root = cloth
            .texts
            .entry(ROOT.into())
            .or_insert_with(|| self.root.clone());
        root.push_str("\npub mod mutants;\n");
        Ok(cloth)
    }

    fn compile_all(&self, simulation: bool) -> Result<Result<Programs, String>, String> {
        let packages = [
            "--package",
            "rbd-protocol",
            "--package",
            "rbd-engine",
            "--lib",
        ];
        let tests = TESTS.iter().flat_map(|test| ["--test", test]);
        let arguments: Vec<&str> = packages.into_iter().chain(tests).collect();
        let built = match self.compile(&["test", "--no-run"], &arguments)? {
            Ok(built) => built,
            Err(refused) => return Ok(Err(refused)),
        };
        let program = [
            "--package",
            "rbd-tests",
            "--bin",
            "rbd-simulate",
            "--no-default-features",
        ];
        if simulation && let Err(refused) = self.compile(&["build"], &program)? {
            return Ok(Err(refused));
        }
        Ok(Ok(Programs {
            tests: built.lines().filter_map(test_program).collect(),
            simulation: self.copy.target.join(PROFILE).join("rbd-simulate"),
            functions: BTreeMap::new(),
        }))
    }

    /// What Cargo prints: of what it has built, or else of errors.
    fn compile(&self, verb: &[&str], what: &[&str]) -> Result<Result<String, String>, String> {
        let mut command = self.copy.cargo();
        command.args(verb).args(["--quiet", "--profile", PROFILE]);
        command.args(["--message-format", "json"]).args(what);
        let answer = process::capture(&mut command, DEADLINE)?;
        if answer.status.success() {
            return Ok(Ok(answer.stdout));
        }
        if !answer.stdout.contains("compiler-message") {
            return Err(answer.stderr.trim().to_owned());
        }
        Ok(Err(answer.stdout))
    }
}

/// Whose fault a line of Cargo's JSON is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// It is no error.
    Nobody,
    Mutants(Vec<u32>),
    /// An error outside of all mutants.
    Other(String),
}

/// The mutants in whose bodies the compiler sees an error.
pub(super) fn mutants_of(line: &str, arms: &BTreeMap<String, Vec<Arm>>) -> Blame {
    let Ok(json) = serde_json::from_str::<Value>(line) else {
        return Blame::Nobody;
    };
    let message = &json["message"];
    let text = message["rendered"].as_str().unwrap_or_default();
    // The last one only counts the others.
    let is_error = message["level"] == "error" && !text.starts_with("error: aborting due to");
    if json["reason"] != "compiler-message" || !is_error {
        return Blame::Nobody;
    }
    let mut found = Vec::new();
    for span in message["spans"].as_array().into_iter().flatten() {
        let lines = span["line_start"].as_u64().zip(span["line_end"].as_u64());
        let (Some((first, last)), true) = (lines, span["is_primary"] == true) else {
            continue;
        };
        let file = span["file_name"].as_str().unwrap_or_default();
        let is_around = |arm: &&Arm| arm.first as u64 <= first && last <= arm.last as u64;
        let arms = arms.get(file).into_iter().flatten().filter(is_around);
        found.extend(arms.map(|arm| arm.id));
    }
    if found.is_empty() {
        return Blame::Other(text.to_owned());
    }
    Blame::Mutants(found)
}

/// The name, the program and the directory of a test program a line of Cargo's JSON is about.
fn test_program(line: &str) -> Option<(String, (PathBuf, PathBuf))> {
    let json: Value = serde_json::from_str(line).ok()?;
    let program = json["executable"].as_str()?;
    let directory = Path::new(json["manifest_path"].as_str()?).parent()?;
    let name = json["target"]["name"].as_str()?;
    let is_test = json["profile"]["test"] == true;
    is_test.then(|| (name.to_owned(), (program.into(), directory.into())))
}

/// Tests of `protocol` that are programs of their own and need no other one.
const TESTS: [&str; 2] = ["nbd_hostile", "nbd_crate_oracle"];

const ROOT: &str = "protocol/src/lib.rs";
const SWITCH: &str = "protocol/src/mutants.rs";

/// Errors of types hide errors of borrows, and those of one crate the other's: a few suffice.
const ROUNDS: u32 = 30;

/// The first build makes everything, and functions are hundreds of times as long as usual.
const DEADLINE: Duration = Duration::from_secs(7_200);
