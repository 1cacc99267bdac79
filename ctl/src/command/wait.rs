//! `wait-connect` and `wait-sync`: asks the daemon again and again until every target is there,
//! has been given up, or its time is over. All targets wait at the same time.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use rbd_protocol::control::{ConnectionStatus, PeerDeviceStatus, Request, ResourceStatus};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState};

use crate::arguments::Wait;
use crate::failure::Failure;
use crate::session::Session;
use crate::site::Startup;
use crate::status::percent;
use crate::step::request_line;
use crate::target::{Scope, Target};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Every peer connected and its handshake done.
    Connected,
    /// Connected, and all disks UpToDate.
    InSync,
}

/// How far one target is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    /// The goal is reached.
    Reached,
    /// Not yet; in words.
    Waiting(String),
    /// Will not come by itself; in words.
    GivenUp(String),
}

struct Waiting {
    target: Target,
    startup: Startup,
    state: String,
}

/// Waits for all targets.
pub(super) fn run(session: &mut Session, options: &Wait, goal: Goal) {
    let verb = match goal {
        Goal::Connected => "wait-connect",
        Goal::InSync => "wait-sync",
    };
    let configuration = session.configuration(false);
    let Some(configuration) = session.settle(configuration) else {
        return;
    };
    let words = &options.targets.targets;
    let mut waiting = Vec::new();
    for selected in configuration.site.select(words, verb, Scope::PeerDevice) {
        if let Some((target, resource)) = session.settle(selected) {
            waiting.push(Waiting {
                target,
                startup: effective(options, resource.startup),
                state: String::new(),
            });
        }
    }
    if session.options.dry_run {
        for one in &waiting {
            let resource = Some(one.target.resource.clone());
            session.step(&request_line(&Request::Status { resource }));
        }
        return;
    }
    let show = std::io::stderr().is_terminal();
    let begun = Instant::now();
    loop {
        waiting = look(session, waiting, goal, begun);
        if waiting.is_empty() {
            break;
        }
        if show {
            show_progress(session, &waiting, begun);
        }
        std::thread::sleep(pause(begun.elapsed()));
    }
    if show {
        session.console.complain_raw("\r\u{1b}[K");
    }
}

/// Asks once for every target; gives those that still wait.
fn look(session: &mut Session, waiting: Vec<Waiting>, goal: Goal, begun: Instant) -> Vec<Waiting> {
    let daemon = session.daemon.within(PATIENCE);
    let mut still = Vec::new();
    for mut one in waiting {
        let name = &one.target.resource;
        let fetched = Session::fetch(&daemon, name).and_then(|statuses| {
            let first = statuses.into_iter().next();
            first.ok_or_else(|| Failure::UnknownResource(name.clone()))
        });
        let Some(status) = session.settle(fetched) else {
            continue;
        };
        let what = one.target.to_string();
        match progress(&status, &one.target, goal, one.startup.wait_after_sb) {
            Progress::Reached => {}
            Progress::GivenUp(state) => session.fail(&Failure::GivenUp { what, state }),
            Progress::Waiting(state) => {
                let limit = limit(session.options.timeout, one.startup, &status);
                if limit.is_some_and(|limit| begun.elapsed() >= limit) {
                    let seconds = limit.map_or(0, |limit| limit.as_secs());
                    session.fail(&Failure::TimedOut {
                        what,
                        seconds,
                        state,
                    });
                } else {
                    one.state = state;
                    still.push(one);
                }
            }
        }
    }
    still
}

fn progress(status: &ResourceStatus, target: &Target, goal: Goal, wait_after_sb: bool) -> Progress {
    let peers = status.connections.iter();
    let peers = peers.filter(|one| target.has_peer(&one.name));
    let mut waiting = None;
    for connection in peers {
        match towards(status, connection, target, goal) {
            Progress::GivenUp(state) if wait_after_sb => waiting = Some(state),
            Progress::GivenUp(state) => return Progress::GivenUp(state),
            Progress::Waiting(state) => waiting = Some(state),
            Progress::Reached => {}
        }
    }
    waiting.map_or(Progress::Reached, Progress::Waiting)
}

fn towards(
    status: &ResourceStatus,
    connection: &ConnectionStatus,
    target: &Target,
    goal: Goal,
) -> Progress {
    let peer = &connection.name;
    match connection.connection_state {
        ConnectionState::Connected => {}
        ConnectionState::StandAlone if connection.refused.is_some() => {
            return Progress::GivenUp(format!(
                "{peer} is StandAlone: {}; next: rbdadm explain {}",
                connection.note, status.name
            ));
        }
        ConnectionState::StandAlone => {
            return Progress::GivenUp(format!(
                "{peer} is StandAlone; next: rbdadm connect {}:{peer}",
                status.name
            ));
        }
        state @ (ConnectionState::Disconnecting
        | ConnectionState::Unconnected
        | ConnectionState::Timeout
        | ConnectionState::BrokenPipe
        | ConnectionState::NetworkFailure
        | ConnectionState::ProtocolError
        | ConnectionState::TearDown
        | ConnectionState::Connecting) => {
            return Progress::Waiting(format!("{peer} is {state}"));
        }
    }
    let devices = connection.peer_devices.iter();
    for device in devices.filter(|one| target.has_volume(one.volume.0)) {
        if let Some(state) = missing(status, device, goal) {
            let volume = device.volume;
            return Progress::Waiting(format!("{peer} volume {volume} is {state}"));
        }
    }
    Progress::Reached
}

/// What one volume towards one peer still lacks.
fn missing(status: &ResourceStatus, device: &PeerDeviceStatus, goal: Goal) -> Option<String> {
    let replication = device.replication_state;
    if replication == ReplicationState::Off {
        return Some("not replicating yet".to_owned());
    }
    if goal == Goal::Connected {
        return None;
    }
    if !matches!(
        replication,
        ReplicationState::Established | ReplicationState::VerifyS | ReplicationState::VerifyT
    ) {
        let done = device.resync.map_or_else(String::new, |resync| {
            format!(", {} % done", percent(resync.percent_done()))
        });
        return Some(format!("{replication}{done}"));
    }
    let mut devices = status.devices.iter();
    let local = devices.find(|one| one.volume == device.volume);
    let own = local.map_or(DiskState::Diskless, |one| one.disk_state);
    let peers = device.peer_disk_state;
    (own != DiskState::UpToDate || peers != DiskState::UpToDate).then(|| format!("{own}/{peers}"))
}

/// The options of the command line over those of the configuration.
fn effective(options: &Wait, startup: Startup) -> Startup {
    Startup {
        wfc_timeout: options.wfc_timeout.unwrap_or(startup.wfc_timeout),
        degr_wfc_timeout: options.degr_wfc_timeout.unwrap_or(startup.degr_wfc_timeout),
        outdated_wfc_timeout: options
            .outdated_wfc_timeout
            .unwrap_or(startup.outdated_wfc_timeout),
        wait_after_sb: options.wait_after_sb || startup.wait_after_sb,
    }
}

/// How long this target may take, `None` for ever. The cluster was degraded when this node went on
/// without a peer: then it keeps the generation since which that peer lacks its writes.
fn limit(timeout: Option<u32>, startup: Startup, status: &ResourceStatus) -> Option<Duration> {
    if let Some(seconds) = timeout {
        return Some(Duration::from_secs(u64::from(seconds)));
    }
    let mut devices = status.devices.iter();
    let outdated = devices.any(|device| device.disk_state == DiskState::Outdated);
    let peers = status.connections.iter();
    let mut on_peers = peers.flat_map(|connection| &connection.peer_devices);
    let degraded = on_peers.any(|device| !device.bitmap_generation.is_none());
    let seconds = match (outdated, degraded) {
        (true, _) => startup.outdated_wfc_timeout,
        (false, true) => startup.degr_wfc_timeout,
        (false, false) => startup.wfc_timeout,
    };
    (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
}

fn show_progress(session: &mut Session, waiting: &[Waiting], begun: Instant) {
    let seconds = begun.elapsed().as_secs();
    let targets = waiting
        .iter()
        .map(|one| format!("{}: {}", one.target, one.state));
    let line = targets.collect::<Vec<_>>().join(", ");
    let line: String = line.chars().take(PROGRESS_WIDTH).collect();
    session
        .console
        .complain_raw(&format!("\r\u{1b}[K{seconds} s  {line}"));
}

/// How long to wait before the next look: whoever has waited for a moment only is told within
/// another, and a daemon that is busy for long is asked seldom.
fn pause(waited: Duration) -> Duration {
    (waited / 32).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)
}

/// Time between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(150);
/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Columns a line of progress may take beside the seconds.
const PROGRESS_WIDTH: usize = 70;

#[cfg(test)]
mod tests;
