//! One run of the program: its options, its output, and the worst that has happened so far.

use std::time::Duration;

use rbd_protocol::control::{Refusal, RefusalCode, Reply, Request, ResourceStatus};

use crate::arguments::{DEFAULT_RUN_DIR, GlobalOptions};
use crate::configuration::Configuration;
use crate::console::Console;
use crate::daemon::Daemon;
use crate::failure::{Failure, printable};
use crate::step::request_line;

/// What every command has at hand.
pub(crate) struct Session {
    /// The options all commands share.
    pub(crate) options: GlobalOptions,
    /// Where it prints.
    pub(crate) console: Console,
    /// Name of this node.
    pub(crate) node: String,
    /// Whom it asks.
    pub(crate) daemon: Daemon,
    worst: u8,
    failures: usize,
}

impl Session {
    /// Begins with nothing done.
    pub(crate) fn new(options: GlobalOptions, console: Console) -> Self {
        let node = options.node.clone().unwrap_or_else(name_of_machine);
        let is_default = options.run_dir.as_os_str() == DEFAULT_RUN_DIR;
        let patience = patience(options.timeout, PATIENCE);
        let daemon = Daemon::new(&options.run_dir, &node, is_default, patience);
        Self {
            options,
            console,
            node,
            daemon,
            worst: 0,
            failures: 0,
        }
    }

    /// The exit code: that of the worst failure.
    pub(crate) fn finish(mut self) -> u8 {
        if let Some(kind) = self.console.lost_output() {
            self.fail(&Failure::Output(kind));
        }
        self.worst
    }

    /// Reports a failure and goes on.
    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.console.complain(failure);
        self.failures += 1;
        self.worst = self.worst.max(failure.exit_code());
    }

    /// How many failures have been reported.
    pub(crate) fn failures(&self) -> usize {
        self.failures
    }

    /// Reports a failure, if it is one, and goes on.
    pub(crate) fn settle<T>(&mut self, result: Result<T, Failure>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(failure) => {
                self.fail(&failure);
                None
            }
        }
    }

    /// Reads the configuration; what it warns about goes to standard error when `aloud`.
    pub(crate) fn configuration(&mut self, aloud: bool) -> Result<Configuration, Failure> {
        let configuration = Configuration::read(&self.options.config, &self.node)?;
        if aloud {
            for line in configuration.warnings() {
                self.console.complain(line);
            }
        }
        Ok(configuration)
    }

    /// Shows a step. Whether it is to be taken.
    pub(crate) fn step(&mut self, line: &str) -> bool {
        if self.options.dry_run || self.options.verbose > 0 {
            self.console.line(line);
        }
        !self.options.dry_run
    }

    /// Has the daemon do something, as far as this is not a dry run.
    pub(crate) fn perform(&mut self, resource: &str, request: &Request) {
        if !self.step(&request_line(request)) {
            return;
        }
        let patience = patience(self.options.timeout, usual_patience(request));
        match self.daemon.given(patience).ask(request) {
            Ok(Reply::Done) => {}
            Ok(Reply::DoneWithNotes(notes)) => {
                for note in notes {
                    self.console
                        .complain(format!("{resource}: {}", printable(&note)));
                }
            }
            Ok(Reply::Refused(refusal)) => self.fail(&Failure::Refused {
                resource: resource.to_owned(),
                refusal,
            }),
            Ok(
                Reply::Status(_)
                | Reply::StatusOfSome { .. }
                | Reply::Changes(_)
                | Reply::Daemon { .. },
            ) => self.fail(&unexpected(resource)),
            Err(failure) => self.fail(&failure),
        }
    }

    /// The state of these resources, or of all when none is named. Each is asked for by its own
    /// name, so that one nobody asked about cannot get in the way.
    pub(crate) fn fetch_named(daemon: &Daemon, names: &[String]) -> Result<Fetched, Failure> {
        if names.is_empty() {
            return Self::fetch_what_answers(daemon, None);
        }
        let mut fetched = Fetched::default();
        for name in names {
            let one = Self::fetch_what_answers(daemon, Some(name))?;
            fetched.statuses.extend(one.statuses);
            fetched.silent.extend(one.silent);
        }
        Ok(fetched)
    }

    /// The state of one resource; empty when the daemon does not know it.
    pub(crate) fn fetch(daemon: &Daemon, resource: &str) -> Result<Vec<ResourceStatus>, Failure> {
        let mut fetched = Self::fetch_what_answers(daemon, Some(resource))?;
        match fetched.silent.pop() {
            Some(silent) => Err(silent.into()),
            None => Ok(fetched.statuses),
        }
    }

    fn fetch_what_answers(daemon: &Daemon, resource: Option<&str>) -> Result<Fetched, Failure> {
        let request = Request::Status {
            resource: resource.map(str::to_owned),
        };
        let mut fetched = Fetched::default();
        let mut miss = |resource: &str, refusal| {
            let resource = resource.to_owned();
            fetched.silent.push(Silent { resource, refusal });
        };
        match (daemon.ask(&request)?, resource) {
            (Reply::Status(mut statuses), _) => {
                statuses.retain(|status| resource.is_none_or(|name| name == status.name));
                fetched.statuses = statuses;
            }
            (Reply::StatusOfSome { answered, silent }, None) => {
                for (name, refusal) in silent {
                    miss(&name, refusal);
                }
                fetched.statuses = answered;
            }
            (Reply::Refused(refusal), _) if refusal.code == RefusalCode::UnknownResource => {}
            (Reply::Refused(refusal), Some(resource)) => miss(resource, refusal),
            (Reply::Refused(refusal), None) => {
                let resource = "all".to_owned();
                return Err(Failure::Refused { resource, refusal });
            }
            (
                Reply::Done
                | Reply::DoneWithNotes(_)
                | Reply::StatusOfSome { .. }
                | Reply::Changes(_)
                | Reply::Daemon { .. },
                _,
            ) => return Err(unexpected(resource.unwrap_or("all"))),
        }
        Ok(fetched)
    }
}

/// What was learned of the resources asked about; those the daemon does not know are in neither.
#[derive(Default)]
pub(crate) struct Fetched {
    /// The state of those that answered.
    pub(crate) statuses: Vec<ResourceStatus>,
    /// Those that did not.
    pub(crate) silent: Vec<Silent>,
}

impl Fetched {
    /// The state of a resource that answered.
    pub(crate) fn status(&self, resource: &str) -> Option<&ResourceStatus> {
        self.statuses.iter().find(|status| status.name == resource)
    }

    /// Whether the daemon has such a resource.
    pub(crate) fn knows(&self, resource: &str) -> bool {
        self.names().any(|name| name == resource)
    }

    /// All the daemon has, of those asked about.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let answered = self.statuses.iter().map(|status| status.name.as_str());
        answered.chain(self.silent.iter().map(|one| one.resource.as_str()))
    }

    /// Whether the daemon has none of them.
    pub(crate) fn is_empty(&self) -> bool {
        self.names().next().is_none()
    }
}

/// A resource that did not say in what state it is.
#[derive(Debug)]
pub(crate) struct Silent {
    /// Its name.
    resource: String,
    /// Why, as far as the daemon knows.
    refusal: Refusal,
}

impl From<Silent> for Failure {
    fn from(silent: Silent) -> Self {
        Self::Refused {
            resource: silent.resource,
            refusal: silent.refusal,
        }
    }
}

/// The daemon's answer is to another question.
pub(crate) fn unexpected(resource: &str) -> Failure {
    Failure::Refused {
        resource: resource.to_owned(),
        refusal: Refusal::new(
            RefusalCode::Environment,
            "rbdd answered a question that was not asked",
            "install rbdd and rbdadm of the same version",
        ),
    }
}

fn name_of_machine() -> String {
    let machine = rustix::system::uname();
    machine.nodename().to_string_lossy().into_owned()
}

/// What a request may take, in all: so many seconds if that was said.
fn patience(said: Option<u32>, usual: Duration) -> Duration {
    said.map_or(usual, |seconds| Duration::from_secs(u64::from(seconds)))
}

fn usual_patience(request: &Request) -> Duration {
    match request {
        Request::Promote { .. } | Request::Migrate { .. } => PROMOTION_PATIENCE,
        Request::Resize { .. } => RESIZE_PATIENCE,
        _ => PATIENCE,
    }
}

/// How long a promotion may take unless told otherwise: the peer may have to be fenced first, and
/// this is longer than a handler by default.
const PROMOTION_PATIENCE: Duration = Duration::from_secs(180);

/// How long a resize may take unless told otherwise: internal metadata is written anew on one node
/// after the other, up to gigabytes of it, on disks that are busy.
const RESIZE_PATIENCE: Duration = Duration::from_secs(960);

/// How long a command may take unless told otherwise.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
