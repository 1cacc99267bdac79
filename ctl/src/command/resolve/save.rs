//! `resolve --save`: what this node is to give up is in a file, completely and durably, before the
//! order is given, and the order holds only for what is in the file.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rbd_protocol::control::{
    Changes, ConnectionStatus, Divergence, RefusalCode, RefusedPeer, RefusedVolume, Reply, Request,
    ResourceStatus, Standing,
};
use rbd_protocol::ids::{ByteRange, GenerationId, VolumeNumber};
use rbd_protocol::metadata::Name;
use rbd_protocol::state::DiskState;
use rbd_protocol::undo::{Header, SavedVolume};

use super::{Job, look};
use crate::failure::Failure;
use crate::session::{Session, unexpected};
use crate::status::{size, to_be_saved};
use crate::step::request_line;
use crate::undo::{BackingDisk, Copy, Filling, Saving, UndoFileError, refuse_existing};

/// What is given up can only be read where it is.
pub(super) fn wrong_node(own: &str, status: &ResourceStatus, file: &Path) -> Failure {
    let resource = &status.name;
    let peers: Vec<&str> = status.connections.iter().map(|one| &*one.name).collect();
    let peers = peers.join(" or ");
    let file = file.display();
    Failure::Usage(format!(
        "{resource}: --save keeps what is given up, and with --keep {own} that is on {peers}; on \
         {peers}: rbdadm resolve {resource} --keep {own} --save {file}"
    ))
}

impl Job<'_> {
    /// The file, empty; none if none was asked for, or nothing is to be done.
    pub(super) fn create_copy(&self, session: &mut Session) -> Result<Option<Saving>, ()> {
        let Some(path) = self.save else {
            return Ok(None);
        };
        let created = if session.options.dry_run {
            refuse_existing(path).map(|()| None)
        } else {
            Saving::create(path).map(Some)
        };
        let created = created.map_err(|error| self.not_saved(error));
        session.settle(created).ok_or(())
    }

    /// How much the file would take.
    pub(super) fn forecast(
        &self,
        session: &mut Session,
        file: &Path,
        connection: &ConnectionStatus,
        refused: &RefusedPeer,
        status: &ResourceStatus,
    ) {
        let volumes = refused.volumes.iter();
        let bytes: u64 = volumes
            .map(|volume| to_be_saved(status, connection, volume, self.whole))
            .sum();
        let free = crate::undo::free_bytes(file).map_or_else(String::new, |free| {
            format!("; {} are free there", size(free))
        });
        session.console.line(format!(
            "{}: {} would take at most {} and a little{free}",
            self.resource,
            file.display(),
            size(bytes)
        ));
    }

    /// Fills the file, gives the order for what is in it, and waits until it has been carried out.
    pub(super) fn order_saved(
        &self,
        session: &mut Session,
        saving: Saving,
        status: &ResourceStatus,
        refused: &RefusedPeer,
    ) {
        let saved = self.save(session, saving, status, refused);
        let Some((copy, saved)) = session.settle(saved) else {
            return;
        };
        // Saving takes its time, and the order is about both nodes as they are now.
        let Some(now) = look(session, self.resource) else {
            return;
        };
        let Some((_, refused)) = self.split_brain(session, &now) else {
            let reason = "the split brain has changed while it was saved".to_owned();
            let help = format!("rbdadm explain {}", self.resource);
            return session.fail(&self.refused(RefusalCode::StateConcurrent, reason, help));
        };
        let request = self.request(refused.shown(status.tenure), saved);
        session.step(&request_line(&request));
        let begun = Instant::now();
        match session.daemon.ask(&request) {
            Ok(Reply::Done | Reply::DoneWithNotes(_)) => {
                copy.keep();
                self.await_end(session, begun);
            }
            Ok(Reply::Refused(refusal)) => {
                session.fail(&Failure::Refused {
                    resource: self.resource.to_owned(),
                    refusal,
                });
                self.tell(session, "nothing has been given up; the file is removed");
            }
            Ok(
                Reply::Status(_)
                | Reply::StatusOfSome { .. }
                | Reply::Changes(_)
                | Reply::Daemon { .. },
            ) => {
                copy.keep();
                session.fail(&unexpected(self.resource));
            }
            Err(failure) => {
                copy.keep();
                session.fail(&failure);
                self.tell(session, "the order may have been taken; the file is kept");
            }
        }
    }

    fn save(
        &self,
        session: &mut Session,
        saving: Saving,
        status: &ResourceStatus,
        refused: &RefusedPeer,
    ) -> Result<(Copy, Vec<Standing>), Failure> {
        let header = self.header(&session.node, status.tenure);
        let header = header.map_err(|error| self.not_saved(error))?;
        let filling = saving.begin(&header);
        let mut filling = filling.map_err(|error| self.not_saved(error))?;
        let mut saved = Vec::new();
        for volume in &refused.volumes {
            if self.is_wanted(status, volume) {
                saved.push(self.save_volume(session, volume.volume, &mut filling)?);
            }
        }
        for standing in &saved {
            let now = self.ask(session, standing.volume, u64::MAX)?;
            self.check_same(*standing, &now)?;
        }
        let finished = filling.finish();
        let (copy, totals) = finished.map_err(|error| self.not_saved(error))?;
        let bytes = totals.data_bytes.saturating_add(totals.zero_bytes);
        let what = format!("{} saved in {}", size(bytes), copy.path().display());
        self.tell(session, &what);
        Ok((copy, saved))
    }

    /// Saves one volume, and tells in which state of it.
    fn save_volume(
        &self,
        session: &Session,
        number: VolumeNumber,
        filling: &mut Filling,
    ) -> Result<Standing, Failure> {
        let first = self.ask(session, number, 0)?;
        let standing = first.standing;
        let disk = BackingDisk::open(&first.backing);
        let disk = disk.map_err(|error| self.not_saved(error))?;
        let since = if self.whole {
            GenerationId::NONE
        } else {
            first.since
        };
        let begun = filling.volume(&SavedVolume {
            volume: number,
            size_bytes: first.size_bytes,
            generation: standing.generation,
            since,
        });
        begun.map_err(|error| self.not_saved(error))?;
        let mut part = first;
        loop {
            let runs = if self.whole {
                whole(part.size_bytes)
            } else {
                part.runs
            };
            for run in runs {
                let copied = filling.copy(&disk, run);
                copied.map_err(|error| self.not_saved(error))?;
            }
            let Some(next) = part.next.filter(|_| !self.whole) else {
                return Ok(standing);
            };
            part = self.ask(session, number, next)?;
            self.check_same(standing, &part)?;
        }
    }

    /// Only what diverged, or whatever there is.
    fn is_wanted(&self, status: &ResourceStatus, volume: &RefusedVolume) -> bool {
        let mut devices = status.devices.iter();
        let device = devices.find(|device| device.volume == volume.volume);
        let has_disk = device.is_some_and(|device| device.disk_state != DiskState::Diskless);
        volume.divergence == Divergence::Both || (self.whole && has_disk)
    }

    fn ask(&self, session: &Session, volume: VolumeNumber, from: u64) -> Result<Changes, Failure> {
        let request = Request::Changes {
            resource: self.resource.to_owned(),
            peer: self.peer.to_owned(),
            volume,
            from,
        };
        match session.daemon.ask(&request)? {
            Reply::Changes(changes) => Ok(changes),
            Reply::Refused(refusal) => Err(Failure::Refused {
                resource: self.resource.to_owned(),
                refusal,
            }),
            Reply::Done
            | Reply::DoneWithNotes(_)
            | Reply::Status(_)
            | Reply::StatusOfSome { .. }
            | Reply::Daemon { .. } => Err(unexpected(self.resource)),
        }
    }

    fn check_same(&self, standing: Standing, now: &Changes) -> Result<(), Failure> {
        if now.standing == standing {
            return Ok(());
        }
        let volume = standing.volume;
        let reason = format!("volume {volume} has changed while it was saved");
        let help = "nothing has been given up; begin anew".to_owned();
        Err(self.refused(RefusalCode::StateConcurrent, reason, help))
    }

    fn header(&self, node: &str, tenure: u64) -> Result<Header, UndoFileError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Header {
            resource: fitting(self.resource)?,
            node: fitting(node)?,
            kept: fitting(self.peer)?,
            tenure,
            written_at: now.map_or(0, |passed| passed.as_secs()),
            is_whole: self.whole,
        })
    }

    fn not_saved(&self, source: UndoFileError) -> Failure {
        Failure::UndoFile {
            what: format!("{}: nothing is given up: ", self.resource),
            source: Box::new(source),
        }
    }

    fn tell(&self, session: &mut Session, what: &str) {
        let line = format!("{}: {what}", self.resource);
        session.console.line(line);
    }
}

fn fitting<const MAX: usize>(name: &str) -> Result<Name<MAX>, UndoFileError> {
    Name::new(name).map_err(|source| UndoFileError::Name {
        name: name.to_owned(),
        source,
    })
}

/// A whole volume, in runs as long as one may be.
fn whole(size: u64) -> Vec<ByteRange> {
    let starts = (0..size).step_by(1 << 30);
    starts
        .map(|at| {
            let length = u32::try_from((size - at).min(1 << 30)).unwrap_or(u32::MAX);
            ByteRange::new(at, length)
        })
        .collect()
}
