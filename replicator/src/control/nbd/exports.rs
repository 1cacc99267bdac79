//! What can be had through one listener at this moment.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use rbd_protocol::control::{NbdExport, VolumeConfig};
use rbd_protocol::ids::VolumeNumber;
use rbd_protocol::nbd::{BlockSizes, ExportInfo, Exports, Features, Lookup, MAXIMUM_PAYLOAD};
use rbd_protocol::state::Role;

use crate::control::daemon::Daemon;
use crate::control::service::Service;
use crate::messages::ExportAnswer;

/// Where a client came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// The Unix socket in the run directory.
    Unix,
    /// A TCP address.
    Tcp(SocketAddr),
}

/// The exports behind one door, asked for a moment ago.
#[derive(Debug)]
pub(super) struct Snapshot {
    entries: Vec<Entry>,
    /// The one that was looked up last and may be served.
    chosen: RefCell<Option<(Rc<Service>, VolumeNumber)>>,
}

#[derive(Debug)]
struct Entry {
    service: Rc<Service>,
    volume: VolumeNumber,
    answer: Result<ExportInfo, String>,
}

impl Door {
    fn offers(self, volume: &VolumeConfig) -> bool {
        volume.exports.iter().any(|export| match (self, export) {
            (Self::Unix, NbdExport::Unix) => true,
            (Self::Tcp(door), NbdExport::Tcp(address)) => address.parse() == Ok(door),
            (Self::Unix, NbdExport::Tcp(_)) | (Self::Tcp(_), NbdExport::Unix) => false,
        })
    }
}

impl Snapshot {
    /// Asks every resource that has an export behind the door.
    pub(super) async fn take(daemon: &Daemon, door: Door) -> Self {
        let mut entries = Vec::new();
        for service in daemon.all() {
            let volumes: Vec<VolumeNumber> = {
                let config = service.config.borrow();
                let offered = config.volumes.iter().filter(|volume| door.offers(volume));
                offered.map(|volume| volume.number).collect()
            };
            for volume in volumes {
                let answer = question(daemon, &service, volume).await;
                entries.push(Entry {
                    service: Rc::clone(&service),
                    volume,
                    answer,
                });
            }
        }
        Self {
            entries,
            chosen: RefCell::default(),
        }
    }

    /// The export the client ended up with.
    pub(super) fn into_chosen(self) -> Option<(Rc<Service>, VolumeNumber)> {
        self.chosen.into_inner()
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        if name.is_empty() {
            return match &*self.entries {
                [only] => Some(only),
                _ => None,
            };
        }
        self.entries.iter().find(|entry| {
            name == entry.name() || (entry.volume.0 == 0 && name == entry.service.name)
        })
    }
}

impl Entry {
    fn name(&self) -> String {
        export_name(&self.service, self.volume)
    }
}

impl Exports for Snapshot {
    fn lookup(&self, name: &str) -> Lookup {
        let Some(entry) = self.find(name) else {
            return Lookup::Unknown;
        };
        match &entry.answer {
            Ok(info) => {
                *self.chosen.borrow_mut() = Some((Rc::clone(&entry.service), entry.volume));
                Lookup::Serve(info.clone())
            }
            Err(why) => Lookup::Refuse(why.clone()),
        }
    }

    fn list(&self) -> Vec<(String, String)> {
        self.entries
            .iter()
            .map(|entry| {
                let description = match &entry.answer {
                    Ok(info) => info.description.clone(),
                    Err(why) => why.clone(),
                };
                (entry.name(), description)
            })
            .collect()
    }
}

async fn question(
    daemon: &Daemon,
    service: &Service,
    volume: VolumeNumber,
) -> Result<ExportInfo, String> {
    let answer = service
        .export(volume)
        .await
        .map_err(|refusal| refusal.reason)?;
    let info = judge(daemon, service, volume, &answer)?;
    let status = service.status().await.map_err(|refusal| refusal.reason)?;
    let device = status.devices.iter().find(|device| device.volume == volume);
    if device.is_some_and(|device| device.open_count >= CLIENT_LIMIT) {
        return Err(format!("{} has {CLIENT_LIMIT} clients already", info.name));
    }
    Ok(info)
}

fn judge(
    daemon: &Daemon,
    service: &Service,
    volume: VolumeNumber,
    answer: &ExportAnswer,
) -> Result<ExportInfo, String> {
    let resource = &service.name;
    if answer.role != Role::Primary {
        let primary = match answer.primary_peer {
            Some(peer) => format!("Primary is {}", service.node_name(peer)),
            None => "no node is known to be Primary".to_owned(),
        };
        return Err(format!(
            "{resource} is {} on {}; {primary}",
            answer.role, daemon.node
        ));
    }
    let name = export_name(service, volume);
    let Some(facts) = &answer.facts else {
        return Err(format!("{name} has no usable data on {}", daemon.node));
    };
    let preferred = PREFERRED_BLOCK.max(facts.block_bytes);
    let block_sizes = BlockSizes::new(facts.block_bytes, preferred, MAXIMUM_PAYLOAD)
        .map_err(|error| format!("{name}: {error}"))?;
    Ok(ExportInfo {
        description: format!("volume {volume} of resource {resource} on {}", daemon.node),
        name,
        size: facts.size_bytes,
        features: Features {
            read_only: false,
            rotational: false,
            trim: true,
            write_zeroes: true,
            fast_zero: false,
            // A flush covers every write completed before it, on whichever connection.
            multi_conn: true,
        },
        block_sizes,
    })
}

fn export_name(service: &Service, volume: VolumeNumber) -> String {
    format!("{}/{volume}", service.name)
}

/// Clients of one volume at once: more than any client opens connections, few enough that their
/// buffers stay bounded.
const CLIENT_LIMIT: u32 = 64;

/// The unit of the dirty bitmap: smaller writes cost as much to resync.
const PREFERRED_BLOCK: u32 = rbd_protocol::ids::BLOCK_SIZE;
