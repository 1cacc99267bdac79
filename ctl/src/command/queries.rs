//! The commands that only print what the configuration says: `dump` and the `sh-*` queries, one
//! plain word a line, for scripts.

use rbd_protocol::control::{MetaDisk, VolumeConfig};

use crate::session::Session;
use crate::site::LocalResource;
use crate::target::{Scope, Target};

/// `dump`: the configuration as it was understood.
pub(super) fn dump(session: &mut Session, words: &[String]) {
    let configuration = session.configuration(true);
    let Some(configuration) = session.settle(configuration) else {
        return;
    };
    if words.is_empty() || words.iter().any(|word| word == "all") {
        session.console.print(&configuration.dump_all());
        return;
    }
    for selected in configuration.site.select(words, "dump", Scope::Resource) {
        if let Some((target, _)) = session.settle(selected) {
            session.console.print(&configuration.dump(&target.resource));
        }
    }
}

/// `sh-nop`: nothing but the check that every command does.
pub(super) fn nop(session: &mut Session) {
    let configuration = session.configuration(true);
    session.settle(configuration);
}

/// `sh-resources`
pub(super) fn resources(session: &mut Session) {
    let configuration = session.configuration(false);
    let Some(configuration) = session.settle(configuration) else {
        return;
    };
    for resource in &configuration.site.resources {
        session.console.line(&resource.config.name);
    }
}

/// `sh-resource`
pub(super) fn resource(session: &mut Session, words: &[String]) {
    each(
        session,
        words,
        "sh-resource",
        Scope::Volume,
        |_, resource| vec![resource.config.name.clone()],
    );
}

/// `sh-dev`
pub(super) fn devices(session: &mut Session, words: &[String]) {
    each_volume(session, words, "sh-dev", |volume| volume.device.clone());
}

/// `sh-minor`
pub(super) fn minors(session: &mut Session, words: &[String]) {
    each_volume(session, words, "sh-minor", |volume| match volume.minor {
        Some(minor) => minor.to_string(),
        None => "none".to_owned(),
    });
}

/// `sh-ll-dev`
pub(super) fn backing_disks(session: &mut Session, words: &[String]) {
    each_volume(session, words, "sh-ll-dev", |volume| {
        volume.disk.clone().unwrap_or_else(|| "none".to_owned())
    });
}

/// `sh-md-dev`: where the metadata lies, which for internal metadata is the backing disk.
pub(super) fn metadata_devices(session: &mut Session, words: &[String]) {
    each_volume(session, words, "sh-md-dev", |volume| {
        match (&volume.disk, &volume.meta_disk) {
            (None, _) => "none".to_owned(),
            (Some(disk), MetaDisk::Internal) => disk.clone(),
            (Some(_), MetaDisk::External { path, .. }) => path.clone(),
        }
    });
}

/// `sh-md-idx`
pub(super) fn metadata_indices(session: &mut Session, words: &[String]) {
    each_volume(session, words, "sh-md-idx", |volume| {
        match (&volume.disk, &volume.meta_disk) {
            (None, _) => "none".to_owned(),
            (Some(_), MetaDisk::Internal) => "internal".to_owned(),
            (Some(_), MetaDisk::External { index: None, .. }) => "flexible".to_owned(),
            (
                Some(_),
                MetaDisk::External {
                    index: Some(index), ..
                },
            ) => index.to_string(),
        }
    });
}

/// `sh-ip`: the address this node listens on for its peers, without the port.
pub(super) fn addresses(session: &mut Session, words: &[String]) {
    each(session, words, "sh-ip", Scope::PeerDevice, |_, resource| {
        let listen = resource.config.listen.as_deref();
        let address = listen.map(|text| text.rsplit_once(':').map_or(text, |(address, _)| address));
        let bare = address.map(|text| {
            text.trim_start_matches('[')
                .trim_end_matches(']')
                .to_owned()
        });
        bare.into_iter().collect()
    });
}

fn each_volume(
    session: &mut Session,
    words: &[String],
    verb: &'static str,
    line: impl Fn(&VolumeConfig) -> String,
) {
    each(session, words, verb, Scope::Volume, |target, resource| {
        resource.volumes(target).map(&line).collect()
    });
}

fn each(
    session: &mut Session,
    words: &[String],
    verb: &'static str,
    scope: Scope,
    lines: impl Fn(&Target, &LocalResource) -> Vec<String>,
) {
    let configuration = session.configuration(false);
    let Some(configuration) = session.settle(configuration) else {
        return;
    };
    for selected in configuration.site.select(words, verb, scope) {
        if let Some((target, resource)) = session.settle(selected) {
            for line in lines(&target, resource) {
                session.console.line(line);
            }
        }
    }
}
