//! The life of the daemon: start, serve, stop.

use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::net::UnixListener as TokioUnixListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::timeout;

use super::daemon::Daemon;
use super::handlers::Surroundings;
use super::remembered::Remembered;
use super::run_directory::{
    CONTROL_SOCKET, NBD_SOCKET, RunDirectory, StartError, create_directory,
};
use super::settings::Settings;
use super::task::Task;
use super::{bring_up, dependencies, kernel, log, pressure, socket, system};
use crate::shell;

/// Runs the daemon until it is told to stop. The exit code is 0 after an orderly stop and 20 when
/// it could not start.
#[must_use]
pub fn run(settings: Settings) -> ExitCode {
    let _log = log::start();
    match start_and_serve(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(COULD_NOT_START)
        }
    }
}

fn start_and_serve(settings: Settings) -> Result<(), StartError> {
    let node = settings
        .node
        .or_else(system::host_name)
        .ok_or(StartError::NoName)?;
    shell::probe().map_err(|error| StartError::Ring(error.to_string()))?;
    let directory = RunDirectory::claim(&settings.run_dir)?;
    create_directory(&settings.state_dir, 0o700)?;
    let remembered = Remembered::open(directory.path())?;
    let control = directory.bind(CONTROL_SOCKET, 0o600)?;
    let nbd = directory.bind(NBD_SOCKET, 0o660)?;
    system::raise_file_limit();
    pressure::prepare();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| StartError::System {
            what: "start the runtime",
            source,
        })?;
    let (notices, heard) = mpsc::unbounded_channel();
    let surroundings = Surroundings {
        config: settings.config,
        node,
        run_dir: settings.run_dir,
        state_dir: settings.state_dir,
        deadline: Duration::from_secs(u64::from(settings.handler_timeout)),
    };
    let daemon = Rc::new(Daemon::new(surroundings, notices, remembered));
    let tasks = LocalSet::new();
    let served = tasks.block_on(&runtime, async {
        let signals = Signals::listen()?;
        let _heeding = Task::spawn(Rc::clone(&daemon).heed_notices(heard));
        let _ordering = Task::spawn(dependencies::keep(Rc::clone(&daemon)));
        serve(&daemon, signals, control, nbd).await
    });
    directory.remove_sockets();
    drop(tasks);
    // A thread that is stuck on a dead disk must not keep the daemon from ending.
    runtime.shutdown_background();
    served
}

async fn serve(
    daemon: &Rc<Daemon>,
    mut signals: Signals,
    control: UnixListener,
    nbd: UnixListener,
) -> Result<(), StartError> {
    let failed = |source| StartError::System {
        what: "listen on the sockets of the run directory",
        source,
    };
    let control = TokioUnixListener::from_std(control).map_err(failed)?;
    let nbd = TokioUnixListener::from_std(nbd).map_err(failed)?;
    let remembered = daemon.remembered.all();
    daemon.will_resume(&remembered);
    let conversations = Task::spawn(socket::serve(Rc::clone(daemon), control));
    daemon.nbd.serve_unix(daemon, nbd);
    tracing::info!(
        node = daemon.node,
        pid = std::process::id(),
        config = %daemon.surroundings.config.display(),
        "rbdd {} serves this node",
        env!("CARGO_PKG_VERSION")
    );
    let resuming = async {
        bring_up::resume(daemon, remembered).await;
        tell_systemd(&[NotifyState::Ready]);
        std::future::pending::<()>().await;
    };
    let cause = tokio::select! {
        cause = signals.next() => cause,
        () = resuming => "",
    };
    tracing::info!("stopping: {cause}");
    tell_systemd(&[NotifyState::Stopping]);
    drop(conversations);
    stop(daemon).await;
    Ok(())
}

/// Stops every resource: no new clients and links, in-flight I/O finished or failed, metadata
/// written. What was up stays remembered, so that a restart resumes it.
async fn stop(daemon: &Rc<Daemon>) {
    daemon.will_stop();
    daemon.nbd.close();
    // Side by side: a device that hangs costs the others no time.
    let mut leaving = JoinSet::new();
    for service in daemon.all() {
        leaving.spawn_local(async move { kernel::leave(&service).await });
    }
    if timeout(LEAVE_DEADLINE, leaving.join_all()).await.is_err() {
        tracing::warn!("kernel devices hang: they are left as they are");
    }
    for service in daemon.all() {
        service.links.close();
        service.shut_down();
    }
    if timeout(STOP_DEADLINE, daemon.emptied()).await.is_err() {
        let names: Vec<_> = daemon
            .all()
            .iter()
            .map(|service| service.name.clone())
            .collect();
        tracing::error!(
            "still busy after {} s, left as after a crash: {}",
            STOP_DEADLINE.as_secs(),
            names.join(", ")
        );
    }
    tracing::info!("stopped");
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, StartError> {
        let listen = |kind| {
            signal(kind).map_err(|source| StartError::System {
                what: "listen for signals",
                source,
            })
        };
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Without systemd there is nobody to tell.
fn tell_systemd(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "systemd not told");
    }
}

/// The exit code of a daemon that could not start.
const COULD_NOT_START: u8 = 20;

/// How long kernel devices may take to go. With the following less than systemd waits.
const LEAVE_DEADLINE: Duration = Duration::from_secs(8);

/// How long all resources together may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(15);
