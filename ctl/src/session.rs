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
            Ok(Reply::Status(_) | Reply::Changes(_) | Reply::Daemon { .. }) => {
                self.fail(&unexpected(resource));
            }
            Err(failure) => self.fail(&failure),
        }
    }

    /// The state of these resources, or of all when none is named. Each is asked for by its own
    /// name, so that one nobody asked about cannot get in the way.
    pub(crate) fn fetch_named(
        daemon: &Daemon,
        names: &[String],
    ) -> Result<Vec<ResourceStatus>, Failure> {
        if names.is_empty() {
            return Self::fetch(daemon, None);
        }
        let mut statuses = Vec::new();
        for name in names {
            statuses.extend(Self::fetch(daemon, Some(name))?);
        }
        Ok(statuses)
    }

    /// The state of one resource, or of all; empty when the daemon does not know it.
    pub(crate) fn fetch(
        daemon: &Daemon,
        resource: Option<&str>,
    ) -> Result<Vec<ResourceStatus>, Failure> {
        let name = resource.unwrap_or("all");
        let request = Request::Status {
            resource: resource.map(str::to_owned),
        };
        match daemon.ask(&request)? {
            Reply::Status(mut statuses) => {
                statuses.retain(|status| resource.is_none_or(|name| name == status.name));
                Ok(statuses)
            }
            Reply::Refused(refusal) if refusal.code == RefusalCode::UnknownResource => {
                Ok(Vec::new())
            }
            Reply::Refused(refusal) => Err(Failure::Refused {
                resource: name.to_owned(),
                refusal,
            }),
            Reply::Done | Reply::DoneWithNotes(_) | Reply::Changes(_) | Reply::Daemon { .. } => {
                Err(unexpected(name))
            }
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
