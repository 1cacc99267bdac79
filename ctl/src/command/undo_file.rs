//! `undo-file`: what a file of `resolve --save` holds, and getting it out of it.

use std::path::Path;

use rbd_protocol::ids::VolumeNumber;

use crate::arguments::UndoFile as Options;
use crate::failure::{Failure, printable};
use crate::offline::{Access, Disk, OfflineError};
use crate::session::Session;
use crate::status::{moment, size};
use crate::undo::{Contents, Put, UndoFile, UndoFileError, VolumeContents, put};

/// `undo-file`
pub(super) fn run(session: &mut Session, options: &Options) {
    let result = UndoFile::open(&options.file).and_then(|file| Ok((file.verify()?, file)));
    let result = result.map_err(unusable);
    let Some((contents, file)) = session.settle(result) else {
        return;
    };
    let done = match &options.to {
        None => {
            show(session, &options.file, &contents);
            Ok(())
        }
        Some(to) => write(session, options, (&file, &contents), to),
    };
    session.settle(done);
}

fn show(session: &mut Session, file: &Path, contents: &Contents) {
    let header = &contents.header;
    let [resource, node, kept] = [
        header.resource.as_str(),
        header.node.as_str(),
        header.kept.as_str(),
    ]
    .map(printable);
    session.console.line(format!(
        "{}: complete; {resource} as it was on {node} at {}, before {node} gave it up for {kept}'s \
         data",
        file.display(),
        moment(header.written_at)
    ));
    for volume in &contents.volumes {
        session.console.line(describe(volume));
    }
}

fn describe(volume: &VolumeContents) -> String {
    let saved = &volume.saved;
    let what = if saved.since.is_none() {
        "everything".to_owned()
    } else {
        format!("changed since generation {}", saved.since)
    };
    let bytes = volume.data_bytes.saturating_add(volume.zero_bytes);
    format!(
        "volume {}: {} of {} in {} run(s), {what}; generation {}",
        saved.volume,
        size(bytes),
        size(saved.size_bytes),
        volume.runs,
        saved.generation
    )
}

fn write(
    session: &mut Session,
    options: &Options,
    (file, contents): (&UndoFile, &Contents),
    to: &Path,
) -> Result<(), Failure> {
    let volume = chosen(options, contents)?;
    let number = volume.saved.volume;
    let resource = printable(contents.header.resource.as_str());
    let bytes = size(volume.data_bytes.saturating_add(volume.zero_bytes));
    let line = format!("local undo-file {resource}/{number} to:{}", to.display());
    if !session.step(&line) {
        return Ok(());
    }
    let what = |source: OfflineError| Failure::Offline {
        what: format!("{resource}/{number}"),
        source: Box::new(source),
    };
    let disk = Disk::open(to, Access::Write).map_err(what)?;
    refuse_backing_disk(session, &disk)?;
    if disk.size() < volume.saved.size_bytes {
        return Err(Failure::Usage(format!(
            "{}: has {}, the volume had {}; give a copy of its disk",
            to.display(),
            size(disk.size()),
            size(volume.saved.size_bytes)
        )));
    }
    put(file, number, &disk).map_err(|error| match error {
        Put::File(source) => unusable(source),
        Put::Disk(source) => what(source),
    })?;
    session.console.line(format!(
        "{resource}/{number}: {bytes} written to {}",
        to.display()
    ));
    Ok(())
}

fn chosen<'c>(options: &Options, contents: &'c Contents) -> Result<&'c VolumeContents, Failure> {
    let file = options.file.display();
    let numbers: Vec<String> = contents
        .volumes
        .iter()
        .map(|one| one.saved.volume.to_string())
        .collect();
    let numbers = numbers.join(", ");
    match (options.volume, contents.volumes.as_slice()) {
        (Some(number), _) => contents.volume(VolumeNumber(number)).ok_or_else(|| {
            Failure::Usage(format!("{file}: has no volume {number}, but {numbers}"))
        }),
        (None, [only]) => Ok(only),
        (None, []) => Err(Failure::Usage(format!("{file}: holds no volume"))),
        (None, _) => Err(Failure::Usage(format!(
            "{file}: holds volumes {numbers}; say which one with --volume"
        ))),
    }
}

/// What is written to the backing disk of a resource, past the resource, its peer never learns of:
/// the copies would differ without anybody knowing.
fn refuse_backing_disk(session: &mut Session, disk: &Disk) -> Result<(), Failure> {
    if !session.options.config.exists() {
        return Ok(()); // a machine that is no node
    }
    let configuration = session.configuration(false)?;
    for resource in &configuration.site.resources {
        for volume in &resource.config.volumes {
            let path = volume.disk.as_deref().map(Path::new);
            if path.is_some_and(|path| disk.is_at(path)) {
                let name = &resource.config.name;
                return Err(Failure::Usage(format!(
                    "{}: is the backing disk of {name}/{}, and the peer would not learn of what \
                     is written past {name}; give a copy of it, or the device of {name} where it \
                     is Primary",
                    disk.path().display(),
                    volume.number
                )));
            }
        }
    }
    Ok(())
}

fn unusable(source: UndoFileError) -> Failure {
    Failure::UndoFile {
        what: String::new(),
        source: Box::new(source),
    }
}
