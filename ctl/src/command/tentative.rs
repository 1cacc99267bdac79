//! The answer to `connect --tentative`: waits until the nodes have met and prints what a connection
//! would do.

use std::time::{Duration, Instant};

use rbd_protocol::control::ConnectionStatus;

use crate::failure::{Failure, printable};
use crate::session::Session;
use crate::target::Target;

/// Prints the answer for each target, as soon as it is there.
pub(super) fn report(session: &mut Session, words: &[String]) {
    if session.failures() > 0 {
        return;
    }
    let begun = Instant::now();
    for word in words {
        let Ok(target) = Target::parse(word) else {
            continue;
        };
        report_one(session, &target, begun);
    }
}

fn report_one(session: &mut Session, target: &Target, begun: Instant) {
    let name = target.resource.clone();
    loop {
        let fetched = Session::fetch(&session.daemon, &name);
        let Some(statuses) = session.settle(fetched) else {
            return;
        };
        let connections: Vec<&ConnectionStatus> = statuses
            .iter()
            .flat_map(|status| &status.connections)
            .filter(|one| target.has_peer(&one.name))
            .collect();
        let missing = connections.iter().find(|one| one.tentative.is_none());
        let Some(missing) = missing else {
            for connection in connections {
                let said = connection.tentative.as_deref().unwrap_or_default();
                let line = format!("{name}:{}: {}", connection.name, printable(said));
                session.console.line(line);
            }
            return;
        };
        let seconds = u64::from(session.options.timeout.unwrap_or(PATIENCE_S));
        if begun.elapsed() >= Duration::from_secs(seconds) {
            let peer = &missing.name;
            let failure = Failure::TimedOut {
                what: format!("{name}:{peer}"),
                seconds,
                state: format!(
                    "{peer} is {}; the question stays until it is reached; to take it back: \
                     rbdadm disconnect {name}:{peer}",
                    missing.connection_state
                ),
            };
            return session.fail(&failure);
        }
        std::thread::sleep(PAUSE);
    }
}

/// How long the nodes may take to meet, unless told otherwise.
const PATIENCE_S: u32 = 10;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
