//! `check`: looks for mistakes in the configuration and on this machine before they hurt.
//!
//! One line per finding, `ok|warn|FAIL what: why → do`. Changes nothing; disks are only read.

mod disks;
mod machine;
mod network;
mod secrets;
#[cfg(test)]
mod tests;

use std::fmt;

use rbd_protocol::control::{Reply, Request};

use crate::failure::{Failure, printable};
use crate::session::Session;
use crate::target::Scope;

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    grade: Grade,
    what: String,
    why: String,
    todo: String,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grade {
    /// As it should be.
    Fine,
    /// Somebody should look.
    Doubtful,
    /// It cannot work like this.
    Broken,
}

/// `check`
pub(crate) fn run(session: &mut Session, words: &[String]) {
    if session.options.dry_run {
        session.step("local check");
        return;
    }
    let mut findings = machine::findings();
    findings.push(daemon(session));
    let configuration = match session.configuration(false) {
        Ok(configuration) => configuration,
        Err(failure) => {
            print(session, &findings);
            let path = session.options.config.display().to_string();
            let line = broken(path, "cannot be used, see below", "mend it");
            session.console.line(line);
            return session.fail(&failure);
        }
    };
    for line in configuration.warnings() {
        findings.push(doubtful("configuration", line.as_str(), ""));
    }
    let path = session.options.config.display();
    let count = configuration.site.resources.len();
    let node = session.node.clone();
    findings.push(fine(
        "configuration",
        format!("{path} defines {count} resource(s) for node {node}"),
    ));
    let all = ["all".to_owned()];
    let words = if words.is_empty() { &all[..] } else { words };
    let mut files = vec![session.options.config.clone()];
    for selected in configuration.site.select(words, "check", Scope::Resource) {
        let Some((_, resource)) = session.settle(selected) else {
            continue;
        };
        let config = &resource.config;
        findings.extend(network::findings(config));
        findings.extend(disks::findings(config));
        if let Some((file, _)) = config.defined_at.rsplit_once(':') {
            files.push(file.into());
        }
    }
    findings.extend(secrets::findings(&files));
    print(session, &findings);
    let failed = findings.iter().filter(|one| one.grade == Grade::Broken);
    let failed = failed.count();
    if failed > 0 {
        session.fail(&Failure::ChecksFailed(failed));
    }
}

fn print(session: &mut Session, findings: &[Finding]) {
    for finding in findings {
        session.console.line(printable(&finding.to_string()));
    }
}

fn daemon(session: &Session) -> Finding {
    match session.daemon.ask(&Request::Daemon) {
        Ok(Reply::Daemon { version, pid, node }) if node == session.node => fine(
            "rbdd",
            format!("version {version} runs as process {pid} for node {node}"),
        ),
        Ok(Reply::Daemon { node, .. }) => broken(
            "rbdd",
            format!("the daemon there serves node {node}, not {}", session.node),
            "use another --run-dir or --node",
        ),
        Ok(_) => broken("rbdd", "answers what was not asked", "restart it"),
        Err(failure) => doubtful("rbdd", failure.to_string(), ""),
    }
}

/// A thing that is as it should be.
fn fine(what: impl Into<String>, why: impl Into<String>) -> Finding {
    finding(Grade::Fine, what, why, "")
}

/// A thing somebody should look at.
fn doubtful(what: impl Into<String>, why: impl Into<String>, todo: impl Into<String>) -> Finding {
    finding(Grade::Doubtful, what, why, todo)
}

/// A thing that cannot work.
fn broken(what: impl Into<String>, why: impl Into<String>, todo: impl Into<String>) -> Finding {
    finding(Grade::Broken, what, why, todo)
}

fn finding(
    grade: Grade,
    what: impl Into<String>,
    why: impl Into<String>,
    todo: impl Into<String>,
) -> Finding {
    Finding {
        grade,
        what: what.into(),
        why: why.into(),
        todo: todo.into(),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grade = match self.grade {
            Grade::Fine => "ok  ",
            Grade::Doubtful => "warn",
            Grade::Broken => "FAIL",
        };
        write!(f, "{grade} {}: {}", self.what, self.why)?;
        if !self.todo.is_empty() {
            write!(f, " → {}", self.todo)?;
        }
        Ok(())
    }
}
