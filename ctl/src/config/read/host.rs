//! Hosts: `on NAME… { … }`, `floating ADDRESS …` and `stacked-on-top-of RESOURCE { … }`.

use std::net::SocketAddr;

use super::Reader;
use crate::config::diagnostics::error;
use crate::config::model::{Host, HostKind, Level, Resource};
use crate::config::options::Section;
use crate::config::source::Spanned;
use crate::config::syntax::Statement;

impl Reader<'_> {
    /// A statement of a resource that brings in a host.
    pub(crate) fn host(&mut self, statement: &Statement, resource: &mut Resource) {
        let host = match statement.keyword.value.as_str() {
            "floating" => self.floating(statement),
            "stacked-on-top-of" => self.stacked(statement),
            _ => self.named(statement),
        };
        let Some(host) = host else { return };
        for name in &host.names {
            if let Some(earlier) = resource
                .hosts
                .iter()
                .find(|host| host.is_called(&name.value))
            {
                let what = format!("host '{}' in resource {}", name.value, resource.name.value);
                let earlier = earlier.span();
                self.twice(name.span, &what, earlier);
                return;
            }
        }
        if resource.hosts.len() >= MOST_HOSTS {
            let message = format!(
                "resource {} has more than {MOST_HOSTS} hosts",
                resource.name.value
            );
            self.findings
                .error(error(self.sources, host.span(), message));
            return;
        }
        resource.hosts.push(host);
    }

    fn named(&mut self, statement: &Statement) -> Option<Host> {
        let mut arguments = self.arguments(statement);
        let mut names = vec![self.host_name(&mut arguments)?];
        while arguments.peek().is_some() {
            let name = self.host_name(&mut arguments)?;
            if let Some(earlier) = names.iter().find(|other| other.value == name.value) {
                let (span, what) = (earlier.span, format!("host name '{}'", name.value));
                self.twice(name.span, &what, span);
                continue;
            }
            names.push(name);
        }
        if !self.end_before_body(&mut arguments) {
            return None;
        }
        let mut host = empty(HostKind::Named, names);
        self.host_items(statement, &mut host);
        Some(host)
    }

    fn floating(&mut self, statement: &Statement) -> Option<Host> {
        let mut arguments = self.arguments(statement);
        let address = self.address(&mut arguments)?;
        if arguments.peek().is_some() {
            self.expected(&arguments, "; | {");
            return None;
        }
        let name = Spanned::new(address.value.to_string(), address.span);
        let mut host = empty(HostKind::Floating, vec![name]);
        host.address = Some(address);
        if statement.body.is_some() {
            self.host_items(statement, &mut host);
        }
        Some(host)
    }

    fn stacked(&mut self, statement: &Statement) -> Option<Host> {
        let mut arguments = self.arguments(statement);
        let lower = self.text(&mut arguments, "a resource name")?;
        if !self.end_before_body(&mut arguments) {
            return None;
        }
        let kind = HostKind::Stacked {
            lower: lower.value.clone(),
        };
        let mut host = empty(kind, vec![lower]);
        self.host_items(statement, &mut host);
        Some(host)
    }

    /// The name of a host: what `uname -n` prints there.
    pub(crate) fn host_name(
        &mut self,
        arguments: &mut super::arguments::Arguments<'_>,
    ) -> Option<Spanned<String>> {
        let name = self.text(arguments, "a host name")?;
        let bad = |c: char| !(c.is_ascii_alphanumeric() || "._-:[]%".contains(c));
        let message = if name.value.is_empty() {
            "a host name is empty".to_owned()
        } else if name.value.len() > LONGEST_HOST_NAME {
            format!(
                "a host name has {} characters; at most {LONGEST_HOST_NAME} are allowed",
                name.value.len()
            )
        } else if let Some(character) = name.value.chars().find(|c| bad(*c)) {
            format!("host name '{}' contains '{character}'", name.value)
        } else {
            return Some(name);
        };
        self.findings.error(error(self.sources, name.span, message));
        None
    }

    fn host_items(&mut self, statement: &Statement, host: &mut Host) {
        for inner in self.body(statement) {
            let keyword = &inner.keyword;
            let mut arguments = self.arguments(inner);
            match keyword.value.as_str() {
                "address" => {
                    let address = self.own_address(inner, host.kind == HostKind::Floating);
                    self.put(keyword, address, &mut host.address);
                }
                "node-id" => {
                    let number = self.number(&mut arguments, "node-id", (0, HIGHEST_NODE_ID));
                    let node_id = number
                        .filter(|_| self.end_of(&mut arguments))
                        .and_then(|id| Some(Spanned::new(u8::try_from(id.value).ok()?, id.span)));
                    self.put(keyword, node_id, &mut host.node_id);
                }
                "options" => {
                    if self.no_arguments(inner) {
                        self.settings(inner, Section::Options, &mut host.level);
                    }
                }
                "disk" if inner.body.is_some() => {
                    if self.no_arguments(inner) {
                        self.settings(inner, Section::Disk, &mut host.level);
                    }
                }
                "export" => self.export(inner, &mut host.level),
                "proxy" => {
                    self.warn(keyword.span, NO_PROXY);
                    host.proxies.push(inner.clone());
                }
                _ => {
                    if !self.volume_statement(inner, &mut host.volumes) {
                        self.unknown_keyword(inner, "in a host section", HOST_KEYWORDS);
                    }
                }
            }
        }
    }

    fn own_address(
        &mut self,
        statement: &Statement,
        floating: bool,
    ) -> Option<Spanned<SocketAddr>> {
        if floating {
            let message = "a floating host has its address behind 'floating' already";
            self.findings
                .error(error(self.sources, statement.keyword.span, message));
            return None;
        }
        let mut arguments = self.arguments(statement);
        let address = self.address(&mut arguments)?;
        self.end_of(&mut arguments).then_some(address)
    }
}

fn empty(kind: HostKind, names: Vec<Spanned<String>>) -> Host {
    Host {
        kind,
        names,
        address: None,
        node_id: None,
        volumes: Vec::new(),
        level: Level::default(),
        proxies: Vec::new(),
    }
}

const HOST_KEYWORDS: &[&str] = &[
    "address",
    "node-id",
    "volume",
    "device",
    "disk",
    "meta-disk",
    "flexible-meta-disk",
    "options",
    "proxy",
    "export",
    "skip",
];
pub(crate) const NO_PROXY: &str =
    "'proxy' is known but has no effect: peers are connected directly, never through a proxy";
const HIGHEST_NODE_ID: u64 = 31;
/// One for each node id.
pub(crate) const MOST_HOSTS: usize = 32;
/// What the kernel allows for a host name, with room for an IPv6 address and port.
const LONGEST_HOST_NAME: usize = 64;
