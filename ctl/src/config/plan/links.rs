//! Which hosts of a resource are linked to each other, and at which addresses.

use super::{Link, LinkEnd, Planner};
use crate::config::diagnostics::{error, warning};
use crate::config::model::{End, EndAddress, Host};
use crate::config::read::conflict;
use crate::config::source::{Span, Spanned};
use crate::config::suggest::did_you_mean;

impl<'a> Planner<'a, '_> {
    /// Every connection, the implied one included.
    pub(super) fn links(&mut self) -> Vec<Link<'a>> {
        let resource = self.resource;
        // A stacked resource names hosts of the one below it, and is left alone.
        if resource.is_stacked() {
            return Vec::new();
        }
        let mut links: Vec<Link<'a>> = Vec::new();
        for connection in &resource.connections {
            let ends = connection
                .paths
                .first()
                .map_or(&connection.ends, |path| &path.ends);
            let [one, other] = ends.as_slice() else {
                continue;
            };
            let ends = (self.written_end(one), self.written_end(other));
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

    /// One end of a connection somebody wrote.
    fn written_end(&mut self, end: &End) -> Option<LinkEnd> {
        let planned = self.end(&end.host, end.address)?;
        let outside = end.outside.unwrap_or(planned.address);
        Some(LinkEnd {
            outside,
            proxied: end.proxy.is_some(),
            ..planned
        })
    }

    fn end(&mut self, name: &Spanned<String>, address: EndAddress) -> Option<LinkEnd> {
        let hosts = &self.resource.hosts;
        let resource = &self.resource.name.value;
        let Some(host) = self.resource.host(&name.value) else {
            let message = format!(
                "host '{}' is not defined in resource {resource}",
                name.value
            );
            let help = did_you_mean(&name.value, hosts.iter().map(Host::name));
            self.report(error(self.sources, name.span, message).with_help(help));
            return None;
        };
        let own = hosts[host].address.as_ref().map(|address| address.value);
        let address = match (address, own) {
            (EndAddress::Own(address), _) => address,
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
        Some(LinkEnd {
            host,
            address,
            outside: address,
            proxied: false,
        })
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
        let [here, there] = ends.map(|end| end.outside);
        if ends.iter().any(|end| end.proxied) {
            return;
        }
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
}
