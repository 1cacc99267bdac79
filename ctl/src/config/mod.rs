//! The configuration language: DRBD's, in its 8.4 and 9 spellings, and the `export` section.
//!
//! [`load`] reads the files and finds everything that is wrong in them at once;
//! [`Config::resolve`] says what one node has to do; [`Config::dump`] prints the configuration
//! again. From file to answer the way is: files → lexer → syntax tree → model → plan →
//! resolved resource. Nothing here talks to a daemon or touches a disk.

mod check;
mod diagnostics;
mod dump;
mod effective;
mod files;
mod include;
mod lexer;
mod model;
mod options;
mod plan;
mod read;
mod resolve;
mod resync;
mod source;
mod suggest;
mod syntax;
mod value;

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

use std::io::Read;
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

pub use diagnostics::{Diagnostic, Diagnostics, Severity};
pub use files::{Files, MachineFiles, MemoryFiles};
pub use model::{MetaDisk, NbdListen};
pub use rbd_protocol::control::KernelExport;
pub use resolve::{
    DefinedAt, NetOptions, OwnHost, ResolvedPeer, ResolvedResource, ResolvedVolume, Secret,
    StartupTimes,
};
pub use source::Place;

use diagnostics::{Findings, file_error};
use include::{First, LARGEST_FILE};
use model::{HostKind, Model, Resource};
use plan::Plan;
use source::Sources;
use suggest::did_you_mean;

/// A configuration without errors.
#[derive(Debug)]
pub struct Config {
    name: String,
    sources: Sources,
    model: Model,
    warnings: Diagnostics,
}

/// A target that the configuration does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{target}' not defined in your config (for this host).")]
pub struct UnknownTarget {
    /// The target as it was asked for.
    pub target: String,
    /// The resource whose name is nearest, if one is near.
    pub nearest: Option<String>,
}

/// Reads a configuration from a file, or from standard input when `path` is `-`.
///
/// # Errors
/// Everything that is wrong, up to 20 messages.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    if path != Path::new("-") {
        return load_from(&MachineFiles, path);
    }
    let mut bytes = Vec::new();
    if let Err(cause) = std::io::stdin()
        .lock()
        .take(LARGEST_FILE + 1)
        .read_to_end(&mut bytes)
    {
        let message = format!("cannot be read: {cause}");
        return Err(Diagnostics::unreadable(file_error(STANDARD_INPUT, message)));
    }
    load_text(&MachineFiles, STANDARD_INPUT, bytes)
}

/// Reads a configuration from a file of `files`.
///
/// # Errors
/// Everything that is wrong, up to 20 messages.
pub fn load_from(files: &dyn Files, path: &Path) -> Result<Config, Diagnostics> {
    understand(files, First::Path(path), path.display().to_string())
}

/// Reads a configuration whose first file is in memory already. Includes are relative to the
/// current directory of `files`.
///
/// # Errors
/// Everything that is wrong, up to 20 messages.
pub fn load_text(files: &dyn Files, name: &str, bytes: Vec<u8>) -> Result<Config, Diagnostics> {
    understand(files, First::Text { name, bytes }, name.to_owned())
}

fn understand(files: &dyn Files, first: First<'_>, name: String) -> Result<Config, Diagnostics> {
    let mut findings = Findings::default();
    let loaded = include::load(files, first, &mut findings)?;
    let model = read::read(&loaded, &mut findings);
    let sources = loaded.sources;
    // What could not be read leaves gaps; judging them would only repeat the first errors.
    if !findings.has_errors() {
        check_whole(&model, &sources, &mut findings);
    }
    let warnings = findings.into_result()?;
    Ok(Config {
        name,
        sources,
        model,
        warnings,
    })
}

/// Everything that can be checked for all nodes, so that all nodes refuse the same file.
fn check_whole(model: &Model, sources: &Sources, findings: &mut Findings) {
    let mut plans = Vec::new();
    for resource in &model.resources {
        if findings.is_full() {
            return;
        }
        plans.push(Plan::new(resource, sources, findings));
    }
    check::check(&plans, sources, findings);
    // A stacked resource is left alone, so nothing it asks for can be missed.
    for plan in plans.iter().filter(|plan| !plan.resource.is_stacked()) {
        for host in 0..plan.hosts.len() {
            if findings.is_full() {
                return;
            }
            resolve::resolve(plan, host, model, sources, findings);
        }
    }
}

impl Config {
    /// What `node` has to do, resource by resource in the order of the files. A floating host
    /// is this node when this machine has its address.
    ///
    /// # Errors
    /// When there are resources but `node` is a host of none of them, or of one twice.
    pub fn resolve(&self, node: &str) -> Result<Vec<ResolvedResource>, Diagnostics> {
        self.resolve_with(node, &is_own_address)
    }

    /// As [`resolve`](Self::resolve), where `is_own` says which addresses this machine has.
    ///
    /// # Errors
    /// As [`resolve`](Self::resolve).
    pub fn resolve_with(
        &self,
        node: &str,
        is_own: &dyn Fn(IpAddr) -> bool,
    ) -> Result<Vec<ResolvedResource>, Diagnostics> {
        let mut findings = Findings::default();
        let mut resolved = Vec::new();
        let mut named = false;
        for resource in &self.model.resources {
            let Some(own) = self.own_host(resource, node, is_own, &mut findings) else {
                continue;
            };
            named = true;
            if resource.is_stacked() {
                continue;
            }
            let plan = Plan::new(resource, &self.sources, &mut findings);
            resolved.push(resolve::resolve(
                &plan,
                own,
                &self.model,
                &self.sources,
                &mut findings,
            ));
        }
        if !named && !self.model.resources.is_empty() && !findings.has_errors() {
            findings.error(self.unknown_node(node));
        }
        findings.into_result().map(|_| resolved)
    }

    /// What a person should know although the configuration can be used.
    #[must_use]
    pub fn warnings(&self) -> &Diagnostics {
        &self.warnings
    }

    /// The names of all resources, those of other nodes included, in the order of the files.
    pub fn resource_names(&self) -> impl Iterator<Item = &str> {
        self.model
            .resources
            .iter()
            .map(|resource| resource.name.value.as_str())
    }

    /// The names of all hosts of all resources, sorted.
    #[must_use]
    pub fn host_names(&self) -> Vec<&str> {
        let hosts = self
            .model
            .resources
            .iter()
            .flat_map(|resource| &resource.hosts);
        let named = hosts.filter(|host| !matches!(host.kind, HostKind::Stacked { .. }));
        let mut names: Vec<&str> = named
            .flat_map(|host| &host.names)
            .map(|name| name.value.as_str())
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Prints resources in DRBD's layout; all of them, with `global` and `common`, when
    /// `targets` is empty or says `all`.
    ///
    /// # Errors
    /// The first target that is no resource of this configuration.
    pub fn dump(&self, node: &str, targets: &[&str]) -> Result<String, UnknownTarget> {
        if targets.is_empty() || targets.contains(&"all") {
            return Ok(dump::everything(
                &self.model,
                &self.sources,
                &self.name,
                node,
            ));
        }
        let found: Result<Vec<&Resource>, UnknownTarget> =
            targets.iter().map(|target| self.resource(target)).collect();
        Ok(dump::resources(&found?, &self.sources, node))
    }

    fn resource(&self, target: &str) -> Result<&Resource, UnknownTarget> {
        let found = self
            .model
            .resources
            .iter()
            .find(|resource| resource.name.value == target);
        found.ok_or_else(|| UnknownTarget {
            target: target.to_owned(),
            nearest: suggest::nearest(target, self.resource_names()).map(str::to_owned),
        })
    }

    /// Which host of a resource `node` is.
    fn own_host(
        &self,
        resource: &Resource,
        node: &str,
        is_own: &dyn Fn(IpAddr) -> bool,
        findings: &mut Findings,
    ) -> Option<usize> {
        let hosts = &resource.hosts;
        if let Some(named) = resource.host(node) {
            return Some(named);
        }
        let has_address = |host: &&model::Host| {
            let address = host.address.as_ref().map(|address| address.value.ip());
            host.kind == HostKind::Floating && address.is_some_and(is_own)
        };
        let mut own = hosts.iter().filter(has_address);
        let (first, second) = (own.next()?, own.next());
        if let Some(second) = second {
            let message = format!(
                "this machine has the addresses of two hosts of resource {}: {} and {}",
                resource.name.value,
                first.name(),
                second.name()
            );
            let help = "name the host by its address and port, or use 'on HOST'".to_owned();
            let diagnostic = diagnostics::error(&self.sources, second.span(), message);
            findings.error(diagnostic.with_help(Some(help)));
            return None;
        }
        hosts.iter().position(|host| std::ptr::eq(host, first))
    }

    fn unknown_node(&self, node: &str) -> Diagnostic {
        let names = self.host_names();
        let listed = names.join(", ");
        let message = format!("node '{node}' is a host of no resource; the hosts are: {listed}");
        let short = node.split('.').next().unwrap_or(node);
        let near = did_you_mean(node, names.iter().copied())
            .or_else(|| did_you_mean(short, names.iter().copied()));
        file_error(&self.name, message).with_help(near)
    }
}

/// Whether this machine has an address: only then can a socket be bound to it.
fn is_own_address(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// What standard input is called in messages.
const STANDARD_INPUT: &str = "STDIN";
