//! One line of text per thing a command does: what `--dry-run` prints and `--verbose` shows.
//!
//! The first word tells who does it (`rbdd`, or `local` for work on a disk), the second is the
//! command, the third its target; words of the form `key:value` follow. Secrets never appear.

use rbd_protocol::control::{NbdExport, Request, ResourceConfig, VerifyOrder, VolumeConfig};

use crate::site::{meta_disk_words, peer_words};

/// The line for a request to the daemon.
#[expect(clippy::too_many_lines, reason = "one arm for each kind of request")]
pub(crate) fn request_line(request: &Request) -> String {
    match request {
        Request::Daemon => "rbdd identify".to_owned(),
        Request::Up(config) => format!("rbdd up {}", resource_words(config)),
        Request::Adjust(config) => format!("rbdd adjust {}", resource_words(config)),
        Request::Down { resource } => format!("rbdd down {resource}"),
        Request::Attach { config, volume } => {
            format!("rbdd attach {}", volume_target(&config.name, *volume))
        }
        Request::Detach {
            resource,
            volume,
            force,
        } => format!(
            "rbdd detach {} force:{}",
            volume_target(resource, *volume),
            yes_no(*force)
        ),
        Request::Connect {
            resource,
            peer,
            discard_my_data,
            tentative,
        } => {
            let target = connection_words(resource, peer.as_deref());
            let only = if *tentative { " tentative:yes" } else { "" };
            let discard = yes_no(*discard_my_data);
            format!("rbdd connect {target} discard-my-data:{discard}{only}")
        }
        Request::Resolve {
            resource,
            peer,
            keep_own,
            shown: _,
            saved: _,
        } => {
            let discarded = if *keep_own { "peer" } else { "own" };
            format!("rbdd resolve {resource}:{peer} discard:{discarded}")
        }
        Request::Changes {
            resource,
            peer,
            volume,
            from,
        } => format!("rbdd changes {resource}:{peer}/{volume} from:{from}"),
        Request::Disconnect {
            resource,
            peer,
            force,
        } => {
            let target = connection_words(resource, peer.as_deref());
            let forced = if *force { " force:yes" } else { "" };
            format!("rbdd disconnect {target}{forced}")
        }
        Request::Promote { resource, force } => {
            format!("rbdd primary {resource} force:{}", yes_no(*force))
        }
        Request::Migrate { resource, seconds } => {
            format!("rbdd primary {resource} for-migration:yes expires:{seconds}")
        }
        Request::Demote { resource, force } => {
            format!("rbdd secondary {resource} force:{}", yes_no(*force))
        }
        Request::Invalidate {
            resource,
            volume,
            peer,
            remote,
            marked_only,
            force,
        } => {
            let target = connection_words(resource, peer.as_deref());
            let target = volume_target(&target, *volume);
            let verb = if *remote { "-remote" } else { "" };
            let (reset, force) = (yes_no(!*marked_only), yes_no(*force));
            format!("rbdd invalidate{verb} {target} reset-bitmap:{reset} force:{force}")
        }
        Request::Verify {
            resource,
            volume,
            peer,
            order,
        } => {
            let target = connection_words(resource, peer.as_deref());
            let target = volume_target(&target, *volume);
            verify_line(&target, *order)
        }
        Request::PauseSync {
            resource,
            volume,
            peer,
            paused,
        } => {
            let target = connection_words(resource, peer.as_deref());
            let target = volume_target(&target, *volume);
            let verb = if *paused { "pause-sync" } else { "resume-sync" };
            format!("rbdd {verb} {target}")
        }
        Request::Resize {
            resource,
            volume,
            assume_clean,
        } => {
            let target = volume_target(resource, *volume);
            format!(
                "rbdd resize {target} assume-clean:{}",
                yes_no(*assume_clean)
            )
        }
        Request::Outdate { resource } => format!("rbdd outdate {resource}"),
        Request::SuspendIo { resource } => format!("rbdd suspend-io {resource}"),
        Request::ResumeIo { resource } => format!("rbdd resume-io {resource}"),
        Request::Status { resource } => {
            format!("rbdd status {}", resource.as_deref().unwrap_or("all"))
        }
        Request::NewGeneration {
            resource,
            volume,
            clear_bitmap,
        } => format!(
            "rbdd new-current-uuid {resource}/{volume} clear-bitmap:{}",
            yes_no(*clear_bitmap)
        ),
    }
}

fn verify_line(target: &str, order: VerifyOrder) -> String {
    match order {
        VerifyOrder::Stop => format!("rbdd verify {target} abort:yes"),
        VerifyOrder::Start {
            from,
            until,
            repair,
        } => {
            let stop = until.map_or_else(|| "end".to_owned(), |until| until.to_string());
            let start = from.map_or_else(|| "last".to_owned(), |from| from.to_string());
            let repair = yes_no(repair);
            format!("rbdd verify {target} start:{start} stop:{stop} repair:{repair}")
        }
    }
}

fn resource_words(config: &ResourceConfig) -> String {
    let mut words = vec![
        config.name.clone(),
        format!("node:{}", config.node_name),
        format!("node-id:{}", config.node_id),
    ];
    if let Some(listen) = &config.listen {
        words.push(format!("listen:{listen}"));
    }
    words.extend(config.volumes.iter().map(volume_words));
    words.extend(config.peers.iter().map(peer_words));
    words.join(" ")
}

fn volume_words(volume: &VolumeConfig) -> String {
    let mut words = format!(
        "volume:{},{},{},{}",
        volume.number,
        volume.device,
        volume.disk.as_deref().unwrap_or("none"),
        meta_disk_words(&volume.meta_disk),
    );
    for export in &volume.exports {
        match export {
            NbdExport::Unix => words.push_str(",nbd=unix"),
            NbdExport::Tcp(address) => words.push_str(&format!(",nbd={address}")),
        }
    }
    words
}

fn connection_words(resource: &str, peer: Option<&str>) -> String {
    match peer {
        Some(peer) => format!("{resource}:{peer}"),
        None => resource.to_owned(),
    }
}

fn volume_target(resource: &str, volume: Option<u16>) -> String {
    match volume {
        Some(volume) => format!("{resource}/{volume}"),
        None => resource.to_owned(),
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}
