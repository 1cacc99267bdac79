//! What must not be used twice: resource names, and on one host disks, devices, metadata slots
//! and addresses.
//!
//! Compares resources with each other; a single resource is checked by its plan.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnostics::Findings;
use super::model::{Disk, HostKind, MetaDisk, Resource};
use super::plan::{Plan, PlannedHost, PlannedVolume};
use super::read::conflict;
use super::source::{Sources, Span};
use super::suggest::did_you_mean;

/// Checks all resources against each other.
pub(crate) fn check(plans: &[Plan<'_>], sources: &Sources, findings: &mut Findings) {
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    let mut uses = Uses {
        sources,
        findings,
        taken: BTreeMap::new(),
    };
    for (number, plan) in plans.iter().enumerate() {
        let name = &plan.resource.name;
        if let Some(earlier) = names.insert(&name.value, name.span) {
            let what = format!("resource name '{}'", name.value);
            uses.findings
                .error(conflict(sources, name.span, &what, earlier));
        }
        // The upper half of a stacked pair uses the lower one's devices on purpose.
        if !plan.resource.is_stacked() {
            uses.plan(number, plan);
        }
    }
    let resources: Vec<&Resource> = plans.iter().map(|plan| plan.resource).collect();
    stacked(&resources, sources, findings);
}

/// A stacked resource names an existing one. It is otherwise left alone.
fn stacked(resources: &[&Resource], sources: &Sources, findings: &mut Findings) {
    let defined: BTreeSet<&str> = resources
        .iter()
        .map(|resource| resource.name.value.as_str())
        .collect();
    for resource in resources {
        if findings.is_full() {
            return;
        }
        for host in &resource.hosts {
            let HostKind::Stacked { lower } = &host.kind else {
                continue;
            };
            if !defined.contains(lower.as_str()) {
                let names = defined.iter().copied();
                let message = format!("resource '{lower}' is not defined");
                let diagnostic = super::diagnostics::error(sources, host.span(), message);
                findings.error(diagnostic.with_help(did_you_mean(lower, names)));
            }
            let message = "'stacked-on-top-of' is known but has no effect: \
                           a stacked resource is left alone";
            findings.warning(super::diagnostics::warning(sources, host.span(), message));
        }
    }
}

struct Uses<'a, 'f> {
    sources: &'a Sources,
    findings: &'f mut Findings,
    /// What is used on a host, by which resource, and where that is written.
    taken: BTreeMap<(String, Thing), (usize, Span)>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// A backing device or an external metadata device.
    Disk(String),
    /// One slot of an indexed metadata device.
    Slot(String, u32),
    Device(String),
    Minor(u32),
    Address(String),
}

impl Uses<'_, '_> {
    fn plan(&mut self, number: usize, plan: &Plan<'_>) {
        for (index, planned) in plan.hosts.iter().enumerate() {
            for name in &planned.host.names {
                for volume in &planned.volumes {
                    self.volume(&name.value, number, volume);
                }
                self.addresses(&name.value, number, plan, (index, planned));
            }
        }
    }

    fn volume(&mut self, host: &str, number: usize, volume: &PlannedVolume<'_>) {
        if let Some(device) = volume.device() {
            let path = device.value.path.display().to_string();
            // The same device has the same minor; one message is enough.
            if self.once(host, Thing::Minor(device.value.minor), number, device.span) {
                self.once(host, Thing::Device(path), number, device.span);
            }
        }
        let Some(disk) = volume.disk() else { return };
        let Disk::Path(path) = &disk.value else {
            return;
        };
        self.once(
            host,
            Thing::Disk(path.display().to_string()),
            number,
            disk.span,
        );
        let Some(meta_disk) = volume.meta_disk() else {
            return;
        };
        match &meta_disk.value {
            MetaDisk::Internal => {}
            MetaDisk::External(path) => {
                let path = path.display().to_string();
                self.no_slots(host, &path, meta_disk.span);
                self.once(host, Thing::Disk(path), number, meta_disk.span);
            }
            MetaDisk::Indexed(path, index) => {
                let path = path.display().to_string();
                let whole = (host.to_owned(), Thing::Disk(path.clone()));
                if let Some((_, earlier)) = self.taken.get(&whole).copied() {
                    self.conflict(meta_disk.span, &Thing::Disk(path.clone()), earlier);
                }
                self.once(host, Thing::Slot(path, *index), number, meta_disk.span);
            }
        }
    }

    /// A metadata device used whole has no slots in use.
    fn no_slots(&mut self, host: &str, path: &str, span: Span) {
        let from = (host.to_owned(), Thing::Slot(path.to_owned(), 0));
        let to = (host.to_owned(), Thing::Slot(path.to_owned(), u32::MAX));
        let earlier = self
            .taken
            .range(from..=to)
            .next()
            .map(|(_, (_, span))| *span);
        if let Some(earlier) = earlier {
            self.conflict(span, &Thing::Disk(path.to_owned()), earlier);
        }
    }

    fn addresses(
        &mut self,
        host: &str,
        number: usize,
        plan: &Plan<'_>,
        (index, planned): (usize, &PlannedHost<'_>),
    ) {
        let own = planned.host.address.as_ref();
        let mut used: Vec<(String, Span)> = own
            .map(|address| (address.value.to_string(), address.span))
            .into_iter()
            .collect();
        for link in &plan.links {
            for end in link.ends.iter().filter(|end| end.host == index) {
                let address = end.address.to_string();
                if !used.iter().any(|(earlier, _)| *earlier == address) {
                    used.push((address, link.span.unwrap_or(planned.host.span())));
                }
            }
        }
        for (address, span) in used {
            let thing = Thing::Address(address);
            let key = (host.to_owned(), thing.clone());
            match self.taken.get(&key).copied() {
                // One resource may use its address for several connections.
                Some((same, _)) if same == number => {}
                Some((_, earlier)) => self.conflict(span, &thing, earlier),
                None => {
                    self.taken.insert(key, (number, span));
                }
            }
        }
    }

    /// Takes note that a thing is used; reports it and returns false when it is used already.
    fn once(&mut self, host: &str, thing: Thing, number: usize, span: Span) -> bool {
        if let Some((_, earlier)) = self.taken.get(&(host.to_owned(), thing.clone())).copied() {
            self.conflict(span, &thing, earlier);
            return false;
        }
        self.taken.insert((host.to_owned(), thing), (number, span));
        true
    }

    fn conflict(&mut self, span: Span, thing: &Thing, earlier: Span) {
        let what = match thing {
            Thing::Disk(path) => format!("disk '{path}'"),
            Thing::Slot(path, index) => format!("meta-disk '{path}[{index}]'"),
            Thing::Device(path) => format!("device '{path}'"),
            Thing::Minor(minor) => format!("device-minor '{minor}'"),
            Thing::Address(address) => format!("IP '{address}'"),
        };
        self.findings
            .error(conflict(self.sources, span, &what, earlier));
    }
}
