//! What a resource amounts to, whichever node looks at it: node ids, the volumes of every host,
//! and which hosts are linked to each other at which addresses.
//!
//! Reports everything in a resource that does not fit together. Options are not looked at.

use std::net::SocketAddr;

use super::diagnostics::{Diagnostic, Findings, error, warning};
use super::model::{Device, Disk, EndAddress, Host, Level, MetaDisk, PeerVolume, Resource, Volume};
use super::read::conflict;
use super::source::{Sources, Span, Spanned};
use super::suggest::did_you_mean;

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
    pub(crate) address: SocketAddr,
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

    fn links(&mut self) -> Vec<Link<'a>> {
        let resource = self.resource;
        let mut links: Vec<Link<'a>> = Vec::new();
        for connection in &resource.connections {
            let ends = connection
                .paths
                .first()
                .map_or(&connection.ends, |path| &path.ends);
            let [one, other] = ends.as_slice() else {
                continue;
            };
            let ends = (
                self.end(&one.host, one.address),
                self.end(&other.host, other.address),
            );
            let (Some(one), Some(other)) = ends else {
                continue;
            };
            let link = Link {
                ends: [one, other],
                name: connection.name.as_ref().map(|name| name.value.as_str()),
                span: Some(connection.span),
                level: Some(&connection.level),
                volumes: &connection.volumes,
            };
            self.add(link, &mut links);
        }
        for mesh in &resource.meshes {
            for (position, one) in mesh.hosts.iter().enumerate() {
                for other in &mesh.hosts[position + 1..] {
                    let own = EndAddress::Host;
                    let ends = (self.end(one, own), self.end(other, own));
                    let (Some(one), Some(other)) = ends else {
                        continue;
                    };
                    let level = Some(&mesh.level);
                    let ends = [one, other];
                    let link = Link {
                        ends,
                        name: None,
                        span: Some(mesh.span),
                        level,
                        volumes: &[],
                    };
                    self.add(link, &mut links);
                }
            }
        }
        if resource.connections.is_empty() && resource.meshes.is_empty() {
            links.extend(self.implied());
        } else {
            self.unlinked(&links);
        }
        links
    }

    /// The connection nobody wrote: the one between exactly two hosts.
    fn implied(&mut self) -> Option<Link<'a>> {
        let [one, other] = self.resource.hosts.as_slice() else {
            if self.resource.hosts.len() > 2 {
                let name = &self.resource.name;
                let hosts: Vec<&str> = self.resource.hosts.iter().map(Host::name).collect();
                let message = format!(
                    "resource {} has {} hosts but no connection",
                    name.value,
                    hosts.len()
                );
                let help = format!("write 'connection-mesh {{ hosts {}; }}'", hosts.join(" "));
                self.report(error(self.sources, name.span, message).with_help(Some(help)));
            }
            return None;
        };
        let one = self.end(&one.names[0], EndAddress::Host);
        let other = self.end(&other.names[0], EndAddress::Host);
        let ends = [one?, other?];
        self.check_addresses(&ends, self.resource.name.span);
        Some(Link {
            ends,
            name: None,
            span: None,
            level: None,
            volumes: &[],
        })
    }

    fn end(&mut self, name: &Spanned<String>, address: EndAddress) -> Option<LinkEnd> {
        let hosts = &self.resource.hosts;
        let resource = &self.resource.name.value;
        let Some(host) = hosts.iter().position(|host| host.is_called(&name.value)) else {
            let message = format!(
                "host '{}' is not defined in resource {resource}",
                name.value
            );
            let help = did_you_mean(&name.value, hosts.iter().map(Host::name));
            self.report(error(self.sources, name.span, message).with_help(help));
            return None;
        };
        let own = hosts[host]
            .address
            .as_ref()
            .map(|address| address.value.socket);
        let address = match (address, own) {
            (EndAddress::Own(address), _) => address.socket,
            (EndAddress::Host, Some(own)) => own,
            (EndAddress::Port(port), Some(mut own)) => {
                own.set_port(port);
                own
            }
            (EndAddress::Host | EndAddress::Port(_), None) => {
                let message = format!("host {} of resource {resource} has no address", name.value);
                let help = Some("write 'address ADDRESS:PORT;' in its section".to_owned());
                let place = hosts[host].span();
                self.report(error(self.sources, place, message).with_help(help));
                return None;
            }
        };
        Some(LinkEnd { host, address })
    }

    fn add(&mut self, link: Link<'a>, links: &mut Vec<Link<'a>>) {
        let pair = |link: &Link<'_>| {
            let [one, other] = link.ends.map(|end| end.host);
            (one.min(other), one.max(other))
        };
        let span = link.span.unwrap_or(self.resource.name.span);
        if let Some(earlier) = links.iter().find(|earlier| pair(earlier) == pair(&link)) {
            let [one, other] = link.ends.map(|end| self.resource.hosts[end.host].name());
            let what = format!("the connection between {one} and {other}");
            let earlier = earlier.span.unwrap_or(span);
            self.report(conflict(self.sources, span, &what, earlier));
            return;
        }
        self.check_addresses(&link.ends, span);
        links.push(link);
    }

    fn check_addresses(&mut self, ends: &[LinkEnd; 2], span: Span) {
        let [one, other] = ends.map(|end| self.resource.hosts[end.host].name());
        let [here, there] = ends.map(|end| end.address);
        let message = if here == there {
            format!("{one} and {other} have the same address {here}")
        } else if here.is_ipv4() != there.is_ipv4() {
            format!("{one} has {here} and {other} has {there}: two address families")
        } else {
            return;
        };
        self.report(error(self.sources, span, message));
    }

    fn unlinked(&mut self, links: &[Link<'_>]) {
        for (number, host) in self.resource.hosts.iter().enumerate() {
            let linked = links
                .iter()
                .any(|link| link.ends.iter().any(|end| end.host == number));
            if !linked && self.resource.hosts.len() > 1 {
                let (name, resource) = (host.name(), &self.resource.name.value);
                let message = format!("host {name} of resource {resource} has no connection");
                self.findings
                    .warning(warning(self.sources, host.span(), message));
            }
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
