//! `create-md`, `wipe-md`, `dump-md`: work on the disks of volumes that are not up.

use rbd_protocol::control::{ResourceConfig, VolumeConfig};

use crate::arguments::{CreateMd, WipeMd};
use crate::failure::Failure;
use crate::offline::{self, Access, Answer, Area, Creator, OfflineError};
use crate::session::Session;
use crate::site::{LocalResource, meta_disk_words};
use crate::status::size;
use crate::target::Scope;

/// `create-md`
pub(super) fn create_md(session: &mut Session, options: &CreateMd) {
    let words = &options.targets.targets;
    each_volume(session, words, "create-md", |session, resource, volume| {
        create_one(session, options, &resource.config, volume)
    });
}

/// `wipe-md`
pub(super) fn wipe_md(session: &mut Session, options: &WipeMd) {
    let words = &options.targets.targets;
    each_volume(session, words, "wipe-md", |session, resource, volume| {
        let label = label(&resource.config, volume);
        let line = format!("local wipe-md {label} {}", disk_words(volume));
        if !session.step(&line) {
            return Ok(());
        }
        let area = Area::open(volume, Access::Write)?;
        let losses = offline::losses_of_wipe(&area)?;
        confirm(session, &label, &area, &losses, options.force)?;
        offline::wipe(&area)?;
        session.console.line(format!("{label}: metadata wiped"));
        Ok(())
    });
}

/// `dump-md`
pub(super) fn dump_md(session: &mut Session, words: &[String]) {
    each_volume(session, words, "dump-md", |session, resource, volume| {
        let label = label(&resource.config, volume);
        let line = format!("local dump-md {label} {}", disk_words(volume));
        if !session.step(&line) {
            return Ok(());
        }
        let area = Area::open(volume, Access::Read)?;
        let text = offline::dump(&area, &resource.config, volume)?;
        session.console.print(&text);
        Ok(())
    });
}

fn create_one(
    session: &mut Session,
    options: &CreateMd,
    resource: &ResourceConfig,
    volume: &VolumeConfig,
) -> Result<(), OfflineError> {
    let label = label(resource, volume);
    let peers = u8::try_from(resource.peers.len()).unwrap_or(u8::MAX);
    let max_peers = options.max_peers.unwrap_or(peers.max(1));
    let disk = disk_words(volume);
    let line = format!("local create-md {label} {disk} max-peers:{max_peers}");
    if !session.step(&line) {
        return Ok(());
    }
    let area = Area::open(volume, Access::Write)?;
    let layout = area.layout(max_peers, volume.size_limit_bytes)?;
    let creator = Creator {
        resource,
        volume: volume.number,
    };
    let losses = offline::losses(&area, &layout, creator)?;
    confirm(session, &label, &area, &losses, options.force)?;
    offline::create(&area, &layout, creator)?;
    session.console.line(format!(
        "{label}: {} on {}, {} for data, {} of metadata with room for {max_peers} peer(s)",
        meta_disk_words(&volume.meta_disk),
        area.metadata().path().display(),
        size(layout.data_bytes()),
        size(layout.metadata_bytes()),
    ));
    session
        .console
        .line("New rbd meta data block successfully created.");
    Ok(())
}

/// Asks whether all this may be lost; an error unless it may.
fn confirm(
    session: &mut Session,
    label: &str,
    area: &Area,
    losses: &[String],
    force: bool,
) -> Result<(), OfflineError> {
    if losses.is_empty() || force {
        return Ok(());
    }
    let path = area.metadata().path().display();
    session
        .console
        .complain(format!("{label}: found on {path}:"));
    for loss in losses {
        session.console.complain(format!("  {loss}"));
    }
    match offline::ask("Do you want to overwrite it?") {
        Answer::Yes => Ok(()),
        Answer::No => Err(OfflineError::Declined),
        Answer::Nobody => Err(OfflineError::NobodyToAsk),
    }
}

pub(super) fn each_volume(
    session: &mut Session,
    words: &[String],
    verb: &'static str,
    work: impl Fn(&mut Session, &LocalResource, &VolumeConfig) -> Result<(), OfflineError>,
) {
    let configuration = session.configuration(verb == "create-md");
    let Some(configuration) = session.settle(configuration) else {
        return;
    };
    for selected in configuration.site.select(words, verb, Scope::Volume) {
        let Some((target, resource)) = session.settle(selected) else {
            continue;
        };
        for volume in resource.volumes(&target) {
            // A node without a disk for one of several volumes is no mistake.
            if volume.disk.is_none() && target.volume.is_none() {
                continue;
            }
            let done = work(session, resource, volume).map_err(|source| Failure::Offline {
                what: label(&resource.config, volume),
                source: Box::new(source),
            });
            session.settle(done);
        }
    }
}

pub(super) fn label(resource: &ResourceConfig, volume: &VolumeConfig) -> String {
    format!("{}/{}", resource.name, volume.number)
}

fn disk_words(volume: &VolumeConfig) -> String {
    format!(
        "disk:{} meta-disk:{}",
        volume.disk.as_deref().unwrap_or("none"),
        meta_disk_words(&volume.meta_disk)
    )
}
