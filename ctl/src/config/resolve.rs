//! What one node has to do: its resources with everything inherited, every default filled in,
//! and its peers as it sees them.
//!
//! The result owns its data and knows nothing of files, apart from where a resource was defined.

mod link;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use rbd_protocol::control::{DiskTrouble, Fencing, KernelExport, OnIoError, ResyncOptions};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbd_protocol::policy::{ResyncConflict, SplitPolicies};

use super::diagnostics::{Findings, Severity, error, warning};
use super::effective::Effective;
use super::model::{Common, Disk, Export, Level, MetaDisk, Model, NbdListen};
use super::options::Section;
use super::plan::{Link, LinkEnd, Plan, PlannedHost, PlannedVolume};
use super::resync::{self, resync_options};
use super::source::Sources;

/// One resource as one of its nodes sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedResource {
    /// The resource's name.
    pub name: String,
    /// Where it is defined.
    pub defined_at: DefinedAt,
    /// This node.
    pub own: OwnHost,
    /// The nodes it is connected to, by node id.
    pub peers: Vec<ResolvedPeer>,
    /// The volumes, by number.
    pub volumes: Vec<ResolvedVolume>,
    /// `options { … }`: what was set, by name, as written.
    pub options: BTreeMap<String, String>,
    /// `handlers { … }`: shell commands by the handler's name.
    pub handlers: BTreeMap<String, String>,
    /// `startup { … }`
    pub startup: StartupTimes,
    /// What a person should know, each one line beginning with `FILE:LINE:COLUMN`.
    pub warnings: Vec<String>,
}

/// File and line of a definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinedAt {
    /// The file as it was reached.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
}

/// This node's part in a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnHost {
    /// The name peers know this node by: the first name of its `on` section.
    pub name: String,
    /// Its number in the resource.
    pub node_id: NodeId,
    /// Where it listens when a connection does not say otherwise. `None` only when every
    /// connection has addresses of its own, or there is no peer.
    pub address: Option<SocketAddr>,
}

/// A node this one is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPeer {
    /// The peer's name: the first name of its `on` section.
    pub name: String,
    /// The peer's number in the resource.
    pub node_id: NodeId,
    /// The name behind `connection`, if there is one.
    pub connection_name: Option<String>,
    /// Where this node listens for, and connects from, towards this peer.
    pub own_address: SocketAddr,
    /// Where the peer listens.
    pub address: SocketAddr,
    /// `net { … }` of this connection.
    pub net: NetOptions,
    /// Volumes the peer has no disk for.
    pub diskless: Vec<VolumeNumber>,
    /// Limits of the speed of resyncs from this peer, by volume.
    pub resync: Vec<(VolumeNumber, ResyncOptions)>,
}

/// The options of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetOptions {
    /// When a write is completed; `C` is the only one there is.
    pub protocol: String,
    /// How long a peer may take to answer a request, in tenths of a second.
    pub timeout_tenths: u64,
    /// Pause between two attempts to connect, in seconds.
    pub connect_interval_seconds: u64,
    /// Idle time after which the peer is asked for a sign of life, in seconds.
    pub ping_interval_seconds: u64,
    /// How long that sign may take, in tenths of a second.
    pub ping_timeout_tenths: u64,
    /// How many timeouts a request may take before the peer counts as dead; 0 waits for ever.
    pub ko_count: u64,
    /// What happens before this node goes on without the peer.
    pub fencing: Fencing,
    /// Size of the send buffer in bytes; 0 leaves it to the kernel.
    pub send_buffer_bytes: u64,
    /// Size of the receive buffer in bytes; 0 leaves it to the kernel.
    pub receive_buffer_bytes: u64,
    /// Whether two nodes may be Primary at once.
    pub allow_two_primaries: bool,
    /// Whether they may be although neither waits until the other has been fenced.
    pub two_without_fencing: bool,
    /// What both nodes must know to be let in.
    pub shared_secret: Option<Secret>,
    /// What may end a split brain without a person.
    pub split: SplitPolicies,
    /// What happens when a Primary would have to be overwritten.
    pub resync_conflict: ResyncConflict,
    /// Whether copies may be compared online.
    pub verify: bool,
    /// Resyncs compare before they copy.
    pub compare_first: bool,
    /// Everything set for the connection, by name, as written; the secret is left out.
    pub written: BTreeMap<String, String>,
}

/// A shared secret. It is not shown when printed for debugging.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

/// One volume on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedVolume {
    /// Its number in the resource.
    pub number: VolumeNumber,
    /// The path a kernel block device appears at.
    pub device: PathBuf,
    /// The minor number DRBD would have given it.
    pub minor: u32,
    /// A block device or regular file; `None` for a node without storage.
    pub disk: Option<PathBuf>,
    /// Where the metadata is; means nothing without a disk.
    pub meta_disk: MetaDisk,
    /// Use no more of the disk than this.
    pub size_limit_bytes: Option<u64>,
    /// How many regions may stay marked as being written to.
    pub al_extents: u64,
    /// What the disk's errors and silence lead to.
    pub on_disk_trouble: DiskTrouble,
    /// The volume whose resyncs on this node go first.
    pub resync_after: Option<(String, VolumeNumber)>,
    /// Where NBD clients reach the volume; never empty.
    pub nbd: Vec<NbdListen>,
    /// Which kernel block device it appears as.
    pub kernel: KernelExport,
    /// Everything set in `disk { … }`, by name, as written.
    pub written: BTreeMap<String, String>,
}

/// How long to wait for peers at start-up, in seconds; 0 means for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartupTimes {
    /// When all was well at the last shutdown.
    pub wait_seconds: u64,
    /// When the peer was away at the last shutdown.
    pub degraded_wait_seconds: u64,
    /// When the local disk is Outdated.
    pub outdated_wait_seconds: u64,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Resolves one resource for its host number `own`. What must be refused goes to `findings`.
pub(crate) fn resolve(
    plan: &Plan<'_>,
    own: usize,
    model: &Model,
    sources: &Sources,
    findings: &mut Findings,
) -> ResolvedResource {
    let template = plan.resource.template.as_ref();
    let common = model.common.as_ref();
    let common = template.map_or(common, |template| template.common.as_ref());
    let planned = &plan.hosts[own];
    let mut resolver = Resolver {
        plan,
        own: planned,
        model,
        common,
        sources,
        findings,
        warnings: Vec::new(),
    };
    let volumes = planned
        .volumes
        .iter()
        .filter_map(|one| resolver.volume(one))
        .collect();
    let mut peers: Vec<ResolvedPeer> = plan
        .links
        .iter()
        .filter_map(|link| resolver.peer(link, own))
        .collect();
    peers.sort_by_key(|peer| peer.node_id);
    if peers.is_empty() {
        resolver.outer(&[Section::Net, Section::PeerDisk]);
    }
    let options = resolver.outer(&[Section::Options]).written();
    let handlers = resolver.outer(&[Section::Handlers]).written();
    let startup = resolver.startup();
    let (file, line) = sources.line_of(plan.resource.name.span);
    let address = planned.host.address.as_ref().map(|address| address.value);
    ResolvedResource {
        name: plan.resource.name.value.clone(),
        defined_at: DefinedAt { file, line },
        own: OwnHost {
            name: planned.host.name().to_owned(),
            node_id: NodeId(planned.node_id),
            address,
        },
        peers,
        volumes,
        options,
        handlers,
        startup,
        warnings: resolver.warnings,
    }
}

struct Resolver<'a, 'f> {
    plan: &'a Plan<'a>,
    own: &'a PlannedHost<'a>,
    model: &'a Model,
    common: Option<&'a Common>,
    sources: &'a Sources,
    findings: &'f mut Findings,
    warnings: Vec<String>,
}

impl<'a> Resolver<'a, '_> {
    /// `common`, the resource and the host, outermost first.
    fn outer_levels(&self) -> [Option<&'a Level>; 3] {
        let common = self.common.map(|common| &common.level);
        [
            common,
            Some(&self.plan.resource.level),
            Some(&self.own.host.level),
        ]
    }

    /// The options of a resource as a whole.
    fn outer(&mut self, sections: &[Section]) -> Effective<'a> {
        let effective = Effective::new(sections, self.outer_levels());
        self.judge(effective)
    }

    fn judge(&mut self, effective: Effective<'a>) -> Effective<'a> {
        for diagnostic in effective.judge(self.sources) {
            match diagnostic.severity {
                Severity::Error => self.findings.error(diagnostic),
                Severity::Warning => {
                    let line = diagnostic.headline();
                    if !self.warnings.contains(&line) {
                        self.warnings.push(line);
                    }
                }
            }
        }
        effective
    }

    fn startup(&mut self) -> StartupTimes {
        let startup = self.outer(&[Section::Startup]);
        let seconds = |name| startup.number(Section::Startup, name);
        StartupTimes {
            wait_seconds: seconds("wfc-timeout"),
            degraded_wait_seconds: seconds("degr-wfc-timeout"),
            outdated_wait_seconds: seconds("outdated-wfc-timeout"),
        }
    }

    fn volume(&mut self, planned: &PlannedVolume<'a>) -> Option<ResolvedVolume> {
        let device = &planned.device()?.value;
        let [common, resource, host] = self.outer_levels();
        let shared = planned.shared.map(|volume| &volume.level);
        let own = planned.own.map(|volume| &volume.level);
        let levels = [common, resource, host, shared, own];
        let disk = self.judge(Effective::new(&[Section::Disk, Section::Volume], levels));
        let limit = disk.number(Section::Disk, "size") * SECTOR;
        let exports: Vec<&Export> = levels
            .into_iter()
            .flatten()
            .rev()
            .map(|level| &level.export)
            .collect();
        let nbd = exports
            .iter()
            .map(|export| &export.nbd)
            .find(|nbd| !nbd.is_empty());
        Some(ResolvedVolume {
            number: VolumeNumber(planned.number),
            device: device.path.clone(),
            minor: device.minor,
            disk: match &planned.disk()?.value {
                Disk::None => None,
                Disk::Path(path) => Some(path.clone()),
            },
            meta_disk: planned
                .meta_disk()
                .map_or(MetaDisk::Internal, |at| at.value.clone()),
            size_limit_bytes: (limit > 0).then_some(limit),
            al_extents: disk.number(Section::Disk, "al-extents"),
            on_disk_trouble: DiskTrouble {
                on_error: match disk.text(Section::Disk, "on-io-error").as_deref() {
                    Some("pass_on") => OnIoError::PassOn,
                    Some("call-local-io-error") => OnIoError::CallHandler,
                    _ => OnIoError::Detach,
                },
                timeout_ms: u32::try_from(disk.number(Section::Disk, "disk-timeout") * 100)
                    .unwrap_or(u32::MAX),
            },
            resync_after: self.resync_after(&disk),
            nbd: nbd.cloned().unwrap_or_else(|| vec![NbdListen::Unix]),
            kernel: exports
                .iter()
                .find_map(|export| export.kernel)
                .unwrap_or(KernelExport::Auto),
            written: disk.written(),
        })
    }

    /// The volume named in `resync-after`. One of no resource is not waited for, as with DRBD.
    fn resync_after(&mut self, disk: &Effective<'a>) -> Option<(String, VolumeNumber)> {
        let text = disk.text(Section::Disk, "resync-after")?;
        let setting = disk.setting(Section::Disk, "resync-after")?;
        if text == "-1" {
            return None;
        }
        let Some((resource, volume)) = resync::named_volume(&text) else {
            let message = format!("expected RESOURCE or RESOURCE/VOLUME, not '{text}'");
            self.findings
                .error(error(self.sources, setting.span, message));
            return None;
        };
        let mut resources = self.model.resources.iter();
        if !resources.any(|one| one.name.value == resource) {
            let message = format!("'resync-after' names {resource}, which is no resource");
            let diagnostic = warning(self.sources, setting.span, message);
            if !self.warnings.contains(&diagnostic.headline()) {
                self.warnings.push(diagnostic.headline());
                self.findings.warning(diagnostic);
            }
            return None;
        }
        Some((resource.to_owned(), volume))
    }

    fn peer(&mut self, link: &Link<'a>, own: usize) -> Option<ResolvedPeer> {
        let (here, there): (LinkEnd, LinkEnd) = match link.ends {
            [one, other] if one.host == own => (one, other),
            [one, other] if other.host == own => (other, one),
            _ => return None,
        };
        let peer = &self.plan.hosts[there.host];
        let [common, resource, _] = self.outer_levels();
        let levels = [common, resource, link.level];
        let net = self.judge(Effective::new(&[Section::Net], levels));
        self.check_authentication(&net);
        self.check_two_primaries(&net);
        let mut resync = Vec::new();
        for volume in &self.own.volumes {
            let in_link = link
                .volumes
                .iter()
                .find(|one| one.number.value == volume.number);
            let shared = volume.shared.map(|volume| &volume.level);
            let in_link = in_link.map(|volume| &volume.level);
            let levels = [common, resource, shared, link.level, in_link];
            let disk = self.judge(Effective::new(&[Section::PeerDisk], levels));
            resync.push((VolumeNumber(volume.number), resync_options(&disk)));
        }
        let without_disk = peer
            .volumes
            .iter()
            .filter(|volume| volume.disk().is_some_and(|disk| disk.value == Disk::None));
        Some(ResolvedPeer {
            name: peer.host.name().to_owned(),
            node_id: NodeId(peer.node_id),
            connection_name: link.name.map(str::to_owned),
            own_address: here.address,
            address: there.outside,
            net: NetOptions {
                split: self.split_policies(&net, peer.host.name()),
                ..net_options(&net)
            },
            diskless: without_disk
                .map(|volume| VolumeNumber(volume.number))
                .collect(),
            resync,
        })
    }
}

fn net_options(net: &Effective<'_>) -> NetOptions {
    let number = |name| net.number(Section::Net, name);
    let mut written = net.written();
    written.remove("shared-secret");
    NetOptions {
        protocol: net.text(Section::Net, "protocol").unwrap_or_default(),
        timeout_tenths: number("timeout"),
        connect_interval_seconds: number("connect-int"),
        ping_interval_seconds: number("ping-int"),
        ping_timeout_tenths: number("ping-timeout"),
        ko_count: number("ko-count"),
        fencing: match net.text(Section::Net, "fencing").as_deref() {
            Some("resource-only") => Fencing::ResourceOnly,
            Some("resource-and-stonith") => Fencing::ResourceAndStonith,
            _ => Fencing::DontCare,
        },
        send_buffer_bytes: number("sndbuf-size"),
        receive_buffer_bytes: number("rcvbuf-size"),
        allow_two_primaries: net.switch(Section::Net, "allow-two-primaries"),
        two_without_fencing: net.switch(Section::Net, "allow-two-primaries-without-fencing"),
        shared_secret: net.text(Section::Net, "shared-secret").map(Secret),
        split: SplitPolicies::default(),
        resync_conflict: net
            .text(Section::Net, "rr-conflict")
            .and_then(|word| ResyncConflict::from_word(&word))
            .unwrap_or_default(),
        verify: net.text(Section::Net, "verify-alg").is_some(),
        compare_first: net.text(Section::Net, "csums-alg").is_some(),
        written,
    }
}

const SECTOR: u64 = 512;
