//! Running the administrator's handlers: programs that are told of something, or asked something.
//!
//! Each runs as `/bin/sh -c COMMAND` in a process group of its own, without input, its output in
//! the log. It has a deadline, after which the whole group is killed. Nothing waits for it but the
//! engine, which is told how it ended exactly once; what that means is the engine's business.

mod environment;
mod output;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rbd_engine::HandlerResult;
use rbd_protocol::control::ResourceConfig;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::task::Task;
use crate::messages::HandlerRun;

/// What handlers are told of this daemon.
#[derive(Clone, Debug)]
pub(super) struct Surroundings {
    /// The configuration file.
    pub(super) config: PathBuf,
    /// Name of the node.
    pub(super) node: String,
    /// The daemon's run directory.
    pub(super) run_dir: PathBuf,
    /// The daemon's state directory.
    pub(super) state_dir: PathBuf,
    /// How long a handler may take.
    pub(super) deadline: Duration,
}

/// The handlers of one resource.
#[derive(Debug)]
pub(super) struct Handlers {
    surroundings: Rc<Surroundings>,
    running: RefCell<Vec<Task>>,
}

impl Handlers {
    /// None runs yet.
    pub(super) fn new(surroundings: Rc<Surroundings>) -> Self {
        Self {
            surroundings,
            running: RefCell::default(),
        }
    }

    /// Runs a handler, and tells `done` how it ended.
    pub(super) fn run(
        &self,
        config: &ResourceConfig,
        run: HandlerRun,
        done: impl FnOnce(HandlerResult) + 'static,
    ) {
        let mut known = config.handlers.iter();
        let command = known
            .find(|(name, _)| name == run.handler.name())
            .map(|(_, command)| command.clone());
        let variables = environment::variables(&self.surroundings, config, &run);
        let deadline = self.surroundings.deadline;
        let about = About {
            resource: config.name.clone(),
            handler: run.handler.name(),
        };
        let work = async move {
            let result = match command {
                Some(command) => execute(&about, &command, variables, deadline).await,
                // The configuration has been changed since the engine looked.
                None => HandlerResult::Failed,
            };
            done(result);
        };
        let mut running = self.running.borrow_mut();
        running.retain(|task| !task.is_finished());
        running.push(Task::spawn(work));
    }

    /// Kills what runs: nobody wants to know any more.
    pub(super) fn close(&self) {
        self.running.borrow_mut().clear();
    }
}

/// Whose handler, for the log.
#[derive(Clone, Debug)]
struct About {
    resource: String,
    handler: &'static str,
}

/// Runs a command to its end, or to its deadline.
async fn execute(
    about: &About,
    command: &str,
    variables: Vec<(String, String)>,
    deadline: Duration,
) -> HandlerResult {
    let About { resource, handler } = about;
    tracing::info!(resource, handler, "handler starts: {command}");
    let (mut child, group) = match start(command, variables) {
        Ok(started) => started,
        Err(error) => {
            tracing::error!(resource, handler, "handler cannot be started: {error}");
            return HandlerResult::Failed;
        }
    };
    let output = output::follow(about, &mut child);
    let result = match timeout(deadline, child.wait()).await {
        Ok(Ok(status)) => {
            group.leader_ended();
            tracing::info!(resource, handler, "handler ended: {status}");
            verdict(status)
        }
        Ok(Err(error)) => {
            tracing::error!(resource, handler, "handler lost sight of: {error}");
            HandlerResult::Failed
        }
        Err(_) => {
            let seconds = deadline.as_secs();
            tracing::error!(resource, handler, "handler killed after {seconds} s");
            drop(group);
            // It cannot refuse, but a process in the middle of a system call may take its time.
            drop(timeout(KILL_DEADLINE, child.wait()).await);
            HandlerResult::Failed
        }
    };
    // What it left running in the background may keep its output open.
    drop(timeout(OUTPUT_DEADLINE, output).await);
    result
}

fn start(command: &str, variables: Vec<(String, String)>) -> io::Result<(Child, Group)> {
    let child = Command::new("/bin/sh")
        .arg("-c")
        .arg(command)
        .envs(variables)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let id = child.id().and_then(|id| i32::try_from(id).ok());
    let group = Group(id.and_then(Pid::from_raw));
    Ok((child, group))
}

/// The exit code, if it ended by itself.
fn verdict(status: ExitStatus) -> HandlerResult {
    status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(HandlerResult::Failed, HandlerResult::Exited)
}

/// A process group, killed when this is dropped.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    /// Its leader has ended by itself; what it has put into the background lives on.
    fn leader_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It may have ended at this moment.
            let _gone = kill_process_group(leader, Signal::KILL);
        }
    }
}

/// How long a killed process may take to be gone.
const KILL_DEADLINE: Duration = Duration::from_secs(2);

/// How long the last lines may take to come after the end.
const OUTPUT_DEADLINE: Duration = Duration::from_millis(200);
