//! What a resource amounts to, whichever node looks at it: node ids, the volumes of every host,
//! and which hosts are linked to each other at which addresses.
//!
//! Reports everything in a resource that does not fit together. Options are not looked at.

mod links;

use std::net::SocketAddr;

use crate::config::diagnostics::{Diagnostic, Findings, error};
use crate::config::model::{Device, Disk, Host, Level, MetaDisk, PeerVolume, Resource, Volume};
use crate::config::read::conflict;
use crate::config::source::{Sources, Span, Spanned};

/// One resource, put together.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) resource: &'a Resource,
    pub(crate) hosts: Vec<PlannedHost<'a>>,
    pub(crate) links: Vec<Link<'a>>,
}

/// A host with its node id and volumes.
#[derive(Debug)]
pub(crate) struct PlannedHost<'a> {
    pub(crate) host: &'a Host,
    pub(crate) node_id: u8,
    /// Sorted by number.
    pub(crate) volumes: Vec<PlannedVolume<'a>>,
}

/// A volume of one host: what the host says about it, and what the resource says for all.
#[derive(Debug)]
pub(crate) struct PlannedVolume<'a> {
    pub(crate) number: u16,
    pub(crate) shared: Option<&'a Volume>,
    pub(crate) own: Option<&'a Volume>,
}

/// Two hosts that are connected; `ends` are indices into the hosts of the plan.
#[derive(Debug)]
pub(crate) struct Link<'a> {
    pub(crate) ends: [LinkEnd; 2],
    pub(crate) name: Option<&'a str>,
    /// Where the connection is written; `None` when it is implied.
    pub(crate) span: Option<Span>,
    pub(crate) level: Option<&'a Level>,
    pub(crate) volumes: &'a [PeerVolume],
}

/// One end of a link.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinkEnd {
    pub(crate) host: usize,
    /// Where the host itself listens.
    pub(crate) address: SocketAddr,
    /// Where its peer must connect to.
    pub(crate) outside: SocketAddr,
    /// Whether a proxy was asked for, so that the addresses are those of proxies.
    pub(crate) proxied: bool,
}

impl<'a> PlannedVolume<'a> {
    pub(crate) fn device(&self) -> Option<&'a Spanned<Device>> {
        self.pick(|volume| volume.device.as_ref())
    }

    pub(crate) fn disk(&self) -> Option<&'a Spanned<Disk>> {
        self.pick(|volume| volume.disk.as_ref())
    }

    pub(crate) fn meta_disk(&self) -> Option<&'a Spanned<MetaDisk>> {
        self.pick(|volume| volume.meta_disk.as_ref())
    }

    /// What the host says, or else what the resource says.
    fn pick<T>(&self, part: impl Fn(&'a Volume) -> Option<&'a T>) -> Option<&'a T> {
        self.own
            .and_then(&part)
            .or_else(|| self.shared.and_then(&part))
    }
}

impl<'a> Plan<'a> {
    /// Puts a resource together. What does not fit goes to `findings`; the plan then lacks it.
    pub(crate) fn new(
        resource: &'a Resource,
        sources: &'a Sources,
        findings: &mut Findings,
    ) -> Self {
        let mut planner = Planner {
            resource,
            sources,
            findings,
        };
        let node_ids = planner.node_ids();
        let hosts: Vec<PlannedHost<'a>> = resource
            .hosts
            .iter()
            .zip(node_ids)
            .map(|(host, node_id)| PlannedHost {
                host,
                node_id,
                volumes: planner.volumes(host),
            })
            .collect();
        planner.same_volumes(&hosts);
        let links = planner.links();
        Self {
            resource,
            hosts,
            links,
        }
    }
}

struct Planner<'a, 'f> {
    resource: &'a Resource,
    sources: &'a Sources,
    findings: &'f mut Findings,
}

impl<'a> Planner<'a, '_> {
    /// A node id for each host, in order.
    fn node_ids(&mut self) -> Vec<u8> {
        let hosts = &self.resource.hosts;
        let name = &self.resource.name;
        if hosts.is_empty() {
            let message = format!("resource {} has no host", name.value);
            let help = Some("write 'on HOST { address ADDRESS:PORT; … }' for each".to_owned());
            self.report(error(self.sources, name.span, message).with_help(help));
        }
        let numbered = hosts.iter().filter(|host| host.node_id.is_some()).count();
        // DRBD 8.4 knows no node ids; with two hosts the order of the file decides.
        if numbered == 0 && hosts.len() <= 2 {
            return (0..=1).take(hosts.len()).collect();
        }
        let mut taken: Vec<&Spanned<u8>> = Vec::new();
        for host in hosts {
            let Some(id) = &host.node_id else {
                let message = format!("host {} has no node-id", host.name());
                let help = "once one host has a node-id, or there are more than two, all need one";
                let diagnostic = error(self.sources, host.span(), message);
                self.report(diagnostic.with_help(Some(help.to_owned())));
                continue;
            };
            if let Some(earlier) = taken.iter().find(|other| other.value == id.value) {
                let what = format!("node-id {} in resource {}", id.value, name.value);
                self.report(conflict(self.sources, id.span, &what, earlier.span));
            }
            taken.push(id);
        }
        hosts
            .iter()
            .map(|host| host.node_id.as_ref().map_or(0, |id| id.value))
            .collect()
    }

    fn volumes(&mut self, host: &'a Host) -> Vec<PlannedVolume<'a>> {
        let shared = &self.resource.volumes;
        if let (Some(own), Some(other)) = (host.volumes.first(), shared.first())
            && own.implicit != other.implicit
        {
            let (file, line) = self.sources.line_of(other.number.span);
            let message = "explicit and implicit volumes are mixed";
            let help = "put device, disk and meta-disk into 'volume 0 { … }'".to_owned();
            let diagnostic = error(self.sources, own.number.span, message)
                .with_note(format!("the other form is at {file}:{line}"));
            self.report(diagnostic.with_help(Some(help)));
        }
        let of = |volumes: &'a [Volume], number: u16| {
            volumes.iter().find(|volume| volume.number.value == number)
        };
        let every = shared.iter().chain(&host.volumes);
        let mut numbers: Vec<u16> = every.map(|volume| volume.number.value).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let planned: Vec<PlannedVolume<'a>> = numbers
            .into_iter()
            .map(|number| PlannedVolume {
                number,
                shared: of(shared, number),
                own: of(&host.volumes, number),
            })
            .collect();
        if !self.resource.is_stacked() {
            self.complete(host, &planned);
        }
        planned
    }

    /// Every volume of a host has a device and a disk.
    fn complete(&mut self, host: &Host, volumes: &[PlannedVolume<'_>]) {
        let resource = &self.resource.name.value;
        if volumes.is_empty() {
            let message = format!("host {} of resource {resource} has no volume", host.name());
            let help = "write device, disk and meta-disk in the resource or the host".to_owned();
            self.report(error(self.sources, host.span(), message).with_help(Some(help)));
        }
        for volume in volumes {
            let missing = match (volume.device(), volume.disk()) {
                (Some(_), Some(_)) => continue,
                (None, _) => ("device", "device minor N;"),
                (Some(_), None) => ("disk", "disk PATH;' or 'disk none;"),
            };
            let place = volume
                .own
                .or(volume.shared)
                .map_or(host.span(), |at| at.number.span);
            let (number, name) = (volume.number, host.name());
            let message = format!(
                "volume {number} of resource {resource} has no {} on host {name}",
                missing.0
            );
            let help = Some(format!("write '{}'", missing.1));
            self.report(error(self.sources, place, message).with_help(help));
        }
    }

    fn same_volumes(&mut self, hosts: &[PlannedHost<'_>]) {
        let Some((first, others)) = hosts.split_first() else {
            return;
        };
        let numbers = |host: &PlannedHost<'_>| -> Vec<u16> {
            host.volumes.iter().map(|volume| volume.number).collect()
        };
        let expected = numbers(first);
        for other in others {
            let found = numbers(other);
            if found == expected || self.resource.is_stacked() {
                continue;
            }
            let message = format!(
                "all hosts of resource {} need the same volumes: {} has {}, but {} has {}",
                self.resource.name.value,
                first.host.name(),
                listed(&expected),
                other.host.name(),
                listed(&found)
            );
            let help = "a host without storage for a volume says 'disk none;'".to_owned();
            let diagnostic = error(self.sources, other.host.span(), message);
            self.report(diagnostic.with_help(Some(help)));
        }
    }

    fn report(&mut self, diagnostic: Diagnostic) {
        self.findings.error(diagnostic);
    }
}

fn listed(numbers: &[u16]) -> String {
    let words: Vec<String> = numbers.iter().map(u16::to_string).collect();
    if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(", ")
    }
}
