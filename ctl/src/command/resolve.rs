//! `resolve`: ends a split brain from either node, in one command.
//!
//! Nothing is ordered before it has been said what it destroys, and the order holds only for that:
//! so the two nodes are first made to meet, which shows the peer as it is now. What this node is to
//! give up is saved first when asked for. Then this waits until they have met once more and have
//! decided.

mod save;

use std::path::Path;
use std::time::{Duration, Instant};

use rbd_protocol::control::{
    ConnectionStatus, Divergence, Refusal, RefusalCode, RefusedPeer, Request, ResourceStatus,
    Shown, Standing,
};
use rbd_protocol::state::{ConnectionState, Role};

use crate::arguments::Resolve;
use crate::failure::Failure;
use crate::session::Session;
use crate::status::losses;
use crate::target::{Scope, Target};

/// `resolve`
pub(super) fn run(session: &mut Session, options: &Resolve) {
    let checked = Target::parse(&options.target).and_then(|target| {
        target.check_scope("resolve", Scope::Connection)?;
        Ok(target)
    });
    let Some(target) = session.settle(checked) else {
        return;
    };
    let Some(status) = look(session, &target.resource) else {
        return;
    };
    let keep_own = options.keep == session.node;
    if let (true, Some(file)) = (keep_own, &options.save) {
        return session.fail(&save::wrong_node(&session.node, &status, file));
    }
    let peers: Vec<String> = status
        .connections
        .iter()
        .filter(|one| target.has_peer(&one.name) && (keep_own || one.name == options.keep))
        .map(|one| one.name.clone())
        .collect();
    if peers.is_empty() {
        let peer = target.peer.clone().filter(|_| keep_own);
        return session.fail(&Failure::NoConnection {
            resource: target.resource,
            peer: peer.unwrap_or_else(|| options.keep.clone()),
        });
    }
    for peer in peers {
        let job = Job {
            resource: &target.resource,
            peer: &peer,
            keep_own,
            force: options.force,
            save: options.save.as_deref(),
            whole: options.whole,
        };
        job.run(session);
    }
}

/// One connection to be healed.
struct Job<'a> {
    resource: &'a str,
    peer: &'a str,
    keep_own: bool,
    force: bool,
    /// Where to keep what this node gives up.
    save: Option<&'a Path>,
    whole: bool,
}

impl Job<'_> {
    fn run(&self, session: &mut Session) {
        let Some(mut status) = self.acquaint(session) else {
            return;
        };
        if self.split_brain(session, &status).is_none() {
            return;
        }
        // Before anything else, as it may turn out to be impossible.
        let Ok(saving) = self.create_copy(session) else {
            return;
        };
        if !self.keep_own && status.role == Role::Primary {
            let Some(demoted) = self.demote(session) else {
                return;
            };
            status = demoted;
        }
        let Some((connection, refused)) = self.split_brain(session, &status) else {
            return;
        };
        for line in losses(&status, connection, refused, self.keep_own) {
            session.console.line(format!("{}: {line}", self.resource));
        }
        if self.keep_own && refused.role == Role::Primary {
            let failure = self.not_enough(&session.node, connection, refused);
            return session.fail(&failure);
        }
        let shown = refused.shown(status.tenure);
        match saving {
            Some(saving) => self.order_saved(session, saving, &status, refused),
            None => {
                if let Some(file) = self.save {
                    self.forecast(session, file, connection, refused, &status);
                }
                self.order(session, shown);
            }
        }
    }

    /// What is known of the split brain; says so when there is none, or none that fits.
    fn split_brain<'s>(
        &self,
        session: &mut Session,
        status: &'s ResourceStatus,
    ) -> Option<(&'s ConnectionStatus, &'s RefusedPeer)> {
        let connection = self.connection(status)?;
        if let Some(refused) = &connection.refused {
            let checked = self.check(connection, refused);
            return session.settle(checked).map(|()| (connection, refused));
        }
        let (name, peer) = (self.resource, self.peer);
        session.console.line(match connection.connection_state {
            ConnectionState::Connected => format!("{name}: connected to {peer}: no split brain"),
            state => format!(
                "{name}: {peer} is {state}: whether there is a split brain is not known until the \
                 nodes have met; without --dry-run they are connected first"
            ),
        });
        None
    }

    /// The state, once the two nodes have met anew; in a dry run as it is known.
    fn acquaint(&self, session: &mut Session) -> Option<ResourceStatus> {
        let begun = Instant::now();
        let mut asked = false;
        loop {
            let status = look(session, self.resource)?;
            let connection = self.connection(&status)?;
            let told = connection.refused.as_ref().map(|one| one.told_ms_ago);
            let is_new = told.is_some_and(|ago| Duration::from_millis(ago) < begun.elapsed());
            if connection.connection_state == ConnectionState::Connected
                || session.options.dry_run
                || (asked && is_new)
            {
                return Some(status);
            }
            if !asked {
                asked = true;
                session.perform(
                    self.resource,
                    &Request::Connect {
                        resource: self.resource.to_owned(),
                        peer: Some(self.peer.to_owned()),
                        discard_my_data: false,
                        tentative: false,
                    },
                );
            }
            if begun.elapsed() >= patience(session) {
                self.time_out(session, connection);
                return None;
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Refuses what is no split brain, or one that only the other way of ending it fits.
    fn check(&self, connection: &ConnectionStatus, refused: &RefusedPeer) -> Result<(), Failure> {
        let peer = self.peer;
        let reason = match (refused.divergence, self.keep_own) {
            (Divergence::Both, _) | (Divergence::Own, true) | (Divergence::Peer, false) => {
                return Ok(());
            }
            (Divergence::Own, false) => {
                format!("{peer} has no changes that this node lacks, so its data cannot be kept")
            }
            (Divergence::Peer, true) => {
                format!("this node has no changes that {peer} lacks, so its data cannot be kept")
            }
            (Divergence::Unknown | Divergence::Neither, _) => {
                format!("this is no split brain: {}", connection.note)
            }
        };
        let help = format!("rbdadm explain {}", self.resource);
        Err(self.refused(RefusalCode::InvalidRequest, reason, help))
    }

    /// A Primary that gives up its changes goes on making them until it is demoted: what is lost is
    /// known, and can be shown, only then.
    fn demote(&self, session: &mut Session) -> Option<ResourceStatus> {
        let failures = session.failures();
        session.perform(
            self.resource,
            &Request::Demote {
                resource: self.resource.to_owned(),
                force: self.force,
            },
        );
        (session.failures() == failures).then(|| look(session, self.resource))?
    }

    fn order(&self, session: &mut Session, shown: Shown) {
        let failures = session.failures();
        let begun = Instant::now();
        session.perform(self.resource, &self.request(shown, Vec::new()));
        if session.options.dry_run || session.failures() > failures {
            return;
        }
        self.await_end(session, begun);
    }

    fn request(&self, shown: Shown, saved: Vec<Standing>) -> Request {
        Request::Resolve {
            resource: self.resource.to_owned(),
            peer: self.peer.to_owned(),
            keep_own: self.keep_own,
            shown,
            saved,
        }
    }

    /// Waits until the order has been carried out or has turned out not to be enough.
    fn await_end(&self, session: &mut Session, begun: Instant) {
        loop {
            let Some(status) = look(session, self.resource) else {
                return;
            };
            let Some(connection) = self.connection(&status) else {
                return;
            };
            if connection.connection_state == ConnectionState::Connected {
                let (name, peer) = (self.resource, self.peer);
                return session.console.line(format!(
                    "{name}: the split brain with {peer} has ended; to wait for the resync: \
                     rbdadm wait-sync {name}"
                ));
            }
            if let Some(refused) = &connection.refused {
                let told = Duration::from_millis(refused.told_ms_ago);
                if refused.was_ordered && told < begun.elapsed() {
                    let failure = self.not_enough(&session.node, connection, refused);
                    return session.fail(&failure);
                }
            }
            if begun.elapsed() >= patience(session) {
                return self.time_out(session, connection);
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn not_enough(
        &self,
        own: &str,
        connection: &ConnectionStatus,
        refused: &RefusedPeer,
    ) -> Failure {
        let (name, peer) = (self.resource, self.peer);
        if self.keep_own && refused.role == Role::Primary {
            let reason = format!("{peer} is Primary: its data is in use");
            let help = format!("on {peer}: rbdadm resolve {name} --keep {own}");
            return self.refused(RefusalCode::StateRefusedByPeer, reason, help);
        }
        let help = format!("rbdadm explain {name}");
        self.refused(
            RefusalCode::StateRefusedByPeer,
            connection.note.clone(),
            help,
        )
    }

    fn refused(&self, code: RefusalCode, reason: String, help: String) -> Failure {
        Failure::Refused {
            resource: self.resource.to_owned(),
            refusal: Refusal::new(code, reason, help),
        }
    }

    fn time_out(&self, session: &mut Session, connection: &ConnectionStatus) {
        let (name, peer) = (self.resource, self.peer);
        let state = connection.connection_state;
        let seconds = patience(session).as_secs();
        session.fail(&Failure::TimedOut {
            what: format!("{name}:{peer}"),
            seconds,
            state: format!("{peer} is {state}; next: on {peer}: rbdadm connect {name}"),
        });
    }

    fn connection<'s>(&self, status: &'s ResourceStatus) -> Option<&'s ConnectionStatus> {
        status.connections.iter().find(|one| one.name == self.peer)
    }
}

fn look(session: &mut Session, resource: &str) -> Option<ResourceStatus> {
    let fetched = Session::fetch(&session.daemon, resource).and_then(|statuses| {
        let first = statuses.into_iter().next();
        first.ok_or_else(|| Failure::NoSuchResource(resource.to_owned()))
    });
    session.settle(fetched)
}

fn patience(session: &Session) -> Duration {
    let seconds = session.options.timeout.unwrap_or(PATIENCE_S);
    Duration::from_secs(u64::from(seconds))
}

/// How long the nodes may take to meet, unless told otherwise.
const PATIENCE_S: u32 = 10;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);
