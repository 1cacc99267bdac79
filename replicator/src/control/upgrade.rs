//! Resources that were up under another version of the daemon, whose remembered configurations this
//! one does not read: `rbdadm` brings them up again from the configuration file.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::handlers::Surroundings;

/// Has a resource brought up by `rbdadm`, or says who has to.
pub(super) async fn bring_up(surroundings: &Surroundings, name: &str, config: Option<PathBuf>) {
    let config = config.unwrap_or_else(|| surroundings.config.clone());
    tracing::info!(
        resource = name,
        "it was up under another version of rbdd: rbdadm brings it up again"
    );
    if let Err(error) = ask(surroundings, name, &config).await {
        tracing::error!(
            resource = name,
            "it was up under another version of rbdd and is not up again: {error}; then: \
             rbdadm up {name}"
        );
    }
}

async fn ask(surroundings: &Surroundings, name: &str, config: &Path) -> Result<(), String> {
    let program = program();
    let child = Command::new(&program)
        .arg("--config")
        .arg(config)
        .args(["--node", &surroundings.node, "--run-dir"])
        .arg(&surroundings.run_dir)
        .arg("--state-dir")
        .arg(&surroundings.state_dir)
        .args(["up", name])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}", program.display()))?;
    let output = match timeout(LIMIT, child.wait_with_output()).await {
        Ok(output) => output.map_err(|error| format!("rbdadm: {error}"))?,
        Err(_) => return Err(format!("rbdadm had not ended after {} s", LIMIT.as_secs())),
    };
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).collect();
    Err(said.join("; "))
}

/// The one beside this program, or the one in the search path.
fn program() -> PathBuf {
    let own = std::env::current_exe().ok();
    let beside = own.and_then(|own| Some(own.parent()?.join(NAME)));
    let beside = beside.filter(|path| path.exists());
    beside.unwrap_or_else(|| PathBuf::from(NAME))
}

const NAME: &str = "rbdadm";

/// How long it may take: as long as a resource that is remembered.
const LIMIT: Duration = Duration::from_secs(30);
