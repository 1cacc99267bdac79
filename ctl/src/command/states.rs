//! `status`, `explain`, `role`, `cstate`, `dstate`: what the daemon knows, printed.
//!
//! None of them needs the configuration: a broken file must not hide the state of what runs.

use rbd_protocol::control::{Request, ResourceStatus};

use super::watch;
use crate::arguments::Status;
use crate::console::Console;
use crate::failure::{Failure, printable};
use crate::session::{Fetched, Session, Silent};
use crate::status::{self, Layout, document, render};
use crate::step::request_line;
use crate::target::{Scope, Target};

/// What `status` was asked to show.
pub(super) struct View {
    /// Names of resources; all when empty.
    pub(super) names: Vec<String>,
    /// Whether as JSON.
    pub(super) json: bool,
    /// How as text.
    pub(super) layout: Layout,
}

/// `status`
pub(super) fn status(session: &mut Session, options: &Status) {
    let layout = Layout {
        verbose: session.options.verbose > 0,
        statistics: options.statistics,
        color: options.color.is_wanted(),
        width: Console::width(),
        advice: true,
    };
    let words = &options.targets.targets;
    let names = names(session, words, "status");
    if names.is_empty() && !words.is_empty() && !words.iter().any(|word| word == "all") {
        return;
    }
    let view = View {
        names,
        json: options.json,
        layout,
    };
    if session.options.dry_run {
        return dry_run(session, &view.names);
    }
    match options.watch {
        Some(interval) => watch::run(session, &view, interval),
        None => show_once(session, &view),
    }
}

fn show_once(session: &mut Session, view: &View) {
    let fetched = Session::fetch_named(&session.daemon, &view.names);
    let Some(fetched) = session.settle(fetched) else {
        return;
    };
    let (shown, missing) = view.pick(&fetched);
    if shown.is_empty() && !fetched.silent.is_empty() {
        // Nothing is known, which is not the same as that there is nothing.
    } else if view.json {
        session.console.line(view.json_text(&shown));
    } else if shown.is_empty() && view.names.is_empty() {
        session
            .console
            .line("# No currently configured rbd resources found.");
    } else {
        session.console.print(&render(&shown, view.layout));
    }
    let nothing_is_up = view.names.is_empty() && fetched.is_empty();
    hint_at_what_is_not_up(session, &missing, nothing_is_up);
    complain_of(session, fetched.silent);
}

/// Of some resources nothing is known: one line each, and the exit code says so.
pub(super) fn complain_of(session: &mut Session, silent: Vec<Silent>) {
    for one in silent {
        session.fail(&one.into());
    }
}

impl View {
    /// What is to be shown of everything there is, and the names that are not there.
    pub(super) fn pick(&self, fetched: &Fetched) -> (Vec<ResourceStatus>, Vec<String>) {
        if self.names.is_empty() {
            return (fetched.statuses.clone(), Vec::new());
        }
        let shown = self.names.iter().filter_map(|name| fetched.status(name));
        let missing = self.names.iter().filter(|name| !fetched.knows(name));
        (shown.cloned().collect(), missing.cloned().collect())
    }

    /// The document, on many lines.
    fn json_text(&self, statuses: &[ResourceStatus]) -> String {
        serde_json::to_string_pretty(&document(statuses))
            .expect("plain structures with text keys always become JSON")
    }
}

/// Reports names the daemon does not know, and what the configuration knows of them.
fn hint_at_what_is_not_up(session: &mut Session, missing: &[String], nothing_is_up: bool) {
    for name in missing {
        session.fail(&Failure::NoSuchResource(name.clone()));
    }
    if missing.is_empty() && !nothing_is_up {
        return;
    }
    // A configuration that cannot be read is no reason to complain here.
    let Ok(configuration) = session.configuration(false) else {
        return;
    };
    for resource in &configuration.site.resources {
        let name = &resource.config.name;
        if nothing_is_up || missing.contains(name) {
            session.console.complain(format!(
                "# {name} is defined but not up; next: rbdadm up {name}"
            ));
        }
    }
}

/// `explain`: the state of whole resources in sentences. However bad the state is, the question has
/// been answered, so the exit code is 0.
pub(super) fn explain(session: &mut Session, words: &[String]) {
    let names = names(session, words, "explain");
    if names.is_empty() && !words.iter().any(|word| word == "all") {
        return;
    }
    if session.options.dry_run {
        return dry_run(session, &names);
    }
    let fetched = Session::fetch_named(&session.daemon, &names);
    let Some(fetched) = session.settle(fetched) else {
        return;
    };
    let missing = names.iter().filter(|name| !fetched.knows(name));
    let missing: Vec<String> = missing.cloned().collect();
    for status in &fetched.statuses {
        for paragraph in status::explain(status) {
            let text = status::wrapped(&printable(&paragraph), Console::width());
            session.console.line(format!("{text}\n"));
        }
    }
    let nothing_is_up = names.is_empty() && fetched.is_empty();
    hint_at_what_is_not_up(session, &missing, nothing_is_up);
    complain_of(session, fetched.silent);
}

/// `role`: own role, or with a peer named the peer's.
pub(super) fn role(session: &mut Session, words: &[String]) {
    each(
        session,
        words,
        "role",
        Scope::Connection,
        |target, status| {
            if target.peer.is_none() {
                return vec![status.role.to_string()];
            }
            let peers = status.connections.iter();
            let peers = peers.filter(|one| target.has_peer(&one.name));
            peers.map(|one| one.peer_role.to_string()).collect()
        },
    );
}

/// `cstate`: one line per connection.
pub(super) fn cstate(session: &mut Session, words: &[String]) {
    each(
        session,
        words,
        "cstate",
        Scope::PeerDevice,
        |target, status| {
            let peers = status.connections.iter();
            let peers = peers.filter(|one| target.has_peer(&one.name));
            peers.map(|one| one.connection_state.to_string()).collect()
        },
    );
}

/// `dstate`: one line per volume, the local disk's state and each peer's.
pub(super) fn dstate(session: &mut Session, words: &[String]) {
    each(
        session,
        words,
        "dstate",
        Scope::PeerDevice,
        |target, status| {
            let devices = status.devices.iter();
            let devices = devices.filter(|device| target.has_volume(device.volume.0));
            let line = |device: &rbd_protocol::control::DeviceStatus| {
                let peers = status.connections.iter();
                let peers = peers.filter(|one| target.has_peer(&one.name));
                let on_peers = peers.flat_map(|one| &one.peer_devices);
                let on_peers = on_peers.filter(|one| one.volume == device.volume);
                let states = on_peers.map(|one| one.peer_disk_state.to_string());
                let own = std::iter::once(device.disk_state.to_string());
                own.chain(states).collect::<Vec<_>>().join("/")
            };
            devices.map(line).collect()
        },
    );
}

fn each(
    session: &mut Session,
    words: &[String],
    verb: &'static str,
    scope: Scope,
    lines: impl Fn(&Target, &ResourceStatus) -> Vec<String>,
) {
    if session.options.dry_run {
        return dry_run(session, words);
    }
    let fetched = Session::fetch_named(&session.daemon, &resources(words));
    let Some(fetched) = session.settle(fetched) else {
        return;
    };
    let statuses = &fetched.statuses;
    for word in words {
        let found = if word == "all" {
            let every = statuses.iter();
            Ok(every
                .map(|status| (Target::whole(&status.name), status))
                .collect())
        } else {
            find(word, verb, scope, &fetched).map(Vec::from_iter)
        };
        for (target, status) in session.settle(found).unwrap_or_default() {
            for line in lines(&target, status) {
                session.console.line(line);
            }
        }
    }
    complain_of(session, fetched.silent);
}

/// None of a resource that does not answer, of which is complained apart.
fn find<'a>(
    word: &str,
    verb: &'static str,
    scope: Scope,
    fetched: &'a Fetched,
) -> Result<Option<(Target, &'a ResourceStatus)>, Failure> {
    let target = Target::parse(word)?;
    let Some(status) = fetched.status(&target.resource) else {
        return if fetched.knows(&target.resource) {
            Ok(None)
        } else {
            Err(Failure::UnknownResource(target.resource))
        };
    };
    target.check_scope(verb, scope)?;
    let mut peers = status.connections.iter();
    if let Some(peer) = &target.peer
        && !peers.any(|one| one.name == *peer)
    {
        return Err(Failure::NoConnection {
            resource: target.resource.clone(),
            peer: peer.clone(),
        });
    }
    let mut devices = status.devices.iter();
    if let Some(volume) = target.volume
        && !devices.any(|one| one.volume.0 == volume)
    {
        return Err(Failure::NoVolume {
            resource: target.resource.clone(),
            volume,
        });
    }
    Ok(Some((target, status)))
}

/// The resources the words are about; none for `all` and for words that are no targets.
fn resources(words: &[String]) -> Vec<String> {
    if words.iter().any(|word| word == "all") {
        return Vec::new();
    }
    let targets = words.iter().filter_map(|word| Target::parse(word).ok());
    let mut names: Vec<String> = targets.map(|target| target.resource).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The names among the words that are whole resources; none for `all`.
pub(super) fn names(session: &mut Session, words: &[String], verb: &'static str) -> Vec<String> {
    if words.iter().any(|word| word == "all") {
        return Vec::new();
    }
    let mut names = Vec::new();
    for word in words {
        let checked = Target::parse(word).and_then(|target| {
            target.check_scope(verb, Scope::Resource)?;
            Ok(target.resource)
        });
        names.extend(session.settle(checked));
    }
    names
}

/// Says what would be asked.
pub(super) fn dry_run(session: &mut Session, names: &[String]) {
    let requests = match names {
        [] => vec![None],
        names => names.iter().cloned().map(Some).collect(),
    };
    for resource in requests {
        session.step(&request_line(&Request::Status { resource }));
    }
}
