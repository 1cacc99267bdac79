//! Whether what waits in a device may still be done although the other node has clients.
//!
//! Of a ublk device only: what the kernel's NBD client has sent and got no answer to may have been
//! done, and it asks again.
//!
//! In general it may not: nobody can tell what of it was done before the daemon went, and has been
//! overwritten since. After an orderly stop nothing of it was. If the other node was Primary then,
//! beside this one, and has been since without a break, which its tenure tells, its clients and
//! those of this node have known of each other all the time, and what waits is merely late.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::PathBuf;

use rbd_protocol::control::ResourceStatus;
use rbd_protocol::state::Role;

use crate::control::service::Service;

/// The other Primary's tenure.
#[derive(Debug, Default)]
pub(super) struct Company {
    /// Before this daemon ends.
    at_the_end: Cell<Option<u64>>,
    /// When the daemon before this one ended, in order.
    before: Cell<Option<u64>>,
}

/// The daemon is about to end: who is Primary beside this node?
pub(super) async fn remember(service: &Service) {
    let company = service
        .status()
        .await
        .ok()
        .and_then(|status| tenure(&status));
    service.kernel.company.at_the_end.set(company);
}

/// Everything asked of this node has been answered: that is left for the next daemon.
pub(in crate::control) fn note_company(service: &Service) {
    let Some(tenure) = service.kernel.company.at_the_end.take() else {
        return;
    };
    let path = path(service);
    let directory = path.parent().map_or(Ok(()), fs::create_dir_all);
    let result = directory.and_then(|()| fs::write(&path, format!("{tenure}\n")));
    if let Err(error) = result {
        tracing::warn!(
            resource = service.name,
            %error,
            "not noted: what waits in its kernel device is failed by the next daemon"
        );
    }
}

/// What the daemon before this one has left. It counts once.
pub(super) fn recall(service: &Service) {
    let path = path(service);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(resource = service.name, %error, "{}", path.display());
            }
            return;
        }
    };
    if let Err(error) = fs::remove_file(&path) {
        let path = path.display();
        tracing::warn!(resource = service.name, %error, "{path} stays, and is not used");
        return;
    }
    service.kernel.company.before.set(text.trim().parse().ok());
}

/// Devices of an earlier daemon have been taken over: from here on this one's are asked for.
pub(super) fn forget(service: &Service) {
    service.kernel.company.before.set(None);
}

/// Whether the node that was Primary beside this one has been so all the time.
pub(super) async fn is_still_there(service: &Service) -> bool {
    let Some(before) = service.kernel.company.before.get() else {
        return false;
    };
    let status = service.status().await;
    status.is_ok_and(|status| tenure(&status) == Some(before))
}

/// The tenure of the one node that is connected and Primary, if this one is too.
fn tenure(status: &ResourceStatus) -> Option<u64> {
    let mut connections = status.connections.iter();
    let (Some(peer), None) = (connections.next(), connections.next()) else {
        return None;
    };
    let both = status.role == Role::Primary
        && peer.peer_role == Role::Primary
        && peer.two_primaries.is_agreed;
    both.then_some(peer.peer_tenure)
        .filter(|tenure| *tenure != 0)
}

fn path(service: &Service) -> PathBuf {
    let run = service.kernel.run_directory();
    run.join("company").join(&*service.name)
}
