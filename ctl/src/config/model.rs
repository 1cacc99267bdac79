//! A configuration as its files say it: resources, hosts, volumes and connections, each with the
//! options written at that level and the place of everything.
//!
//! Nothing is inherited here and no default is filled in; that is done by the resolver for one
//! node.

use std::net::SocketAddr;
use std::path::PathBuf;

use rbd_protocol::control::KernelExport;

use super::options::OptionSpec;
use super::source::{Span, Spanned};
use super::syntax::Statement;
use super::value::Value;

/// One option with its value.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) option: &'static OptionSpec,
    pub(crate) value: Value,
    /// The whole statement.
    pub(crate) span: Span,
}

/// The options written directly inside one section that can have some.
#[derive(Clone, Debug, Default)]
pub(crate) struct Level {
    /// In the order written; a later one wins over an earlier one of the same option.
    pub(crate) settings: Vec<Setting>,
    pub(crate) export: Export,
}

/// What `export { … }` says at one level. Each keyword that appears replaces what outer levels
/// say for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Export {
    /// Empty when no `nbd` line was written.
    pub(crate) nbd: Vec<NbdListen>,
    pub(crate) kernel: Option<KernelExport>,
}

/// Where NBD clients reach a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NbdListen {
    /// The NBD socket in the run directory.
    Unix,
    /// A TCP address.
    Tcp(SocketAddr),
}

/// `global { … }`, `common { … }` and every resource.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) global: Option<Level>,
    pub(crate) common: Option<Common>,
    pub(crate) resources: Vec<Resource>,
}

/// `common { … }`
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) span: Span,
    pub(crate) level: Level,
}

/// `resource NAME { … }`
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) name: Spanned<String>,
    pub(crate) level: Level,
    /// A file whose `common` holds for this resource instead of the global one.
    pub(crate) template: Option<Template>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) connections: Vec<Connection>,
    pub(crate) meshes: Vec<Mesh>,
}

/// `template-file "FILE";`
#[derive(Debug)]
pub(crate) struct Template {
    pub(crate) path: PathBuf,
    pub(crate) common: Option<Common>,
}

/// How a host came to be in a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostKind {
    /// `on NAME…`
    Named,
    /// `floating ADDRESS`: whichever machine has the address.
    Floating,
    /// `stacked-on-top-of RESOURCE`
    Stacked { lower: String },
}

/// One replica's machine.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) kind: HostKind,
    /// At least one. The first is the name the host has towards its peers.
    pub(crate) names: Vec<Spanned<String>>,
    /// Where it listens for its peers.
    pub(crate) address: Option<Spanned<SocketAddr>>,
    pub(crate) node_id: Option<Spanned<u8>>,
    pub(crate) volumes: Vec<Volume>,
    pub(crate) level: Level,
    /// `proxy on …` sections, kept to be printed again.
    pub(crate) proxies: Vec<Statement>,
}

/// `volume N { … }`, or the statements of a volume outside of one.
#[derive(Clone, Debug)]
pub(crate) struct Volume {
    pub(crate) number: Spanned<u16>,
    /// Whether its statements stand outside any `volume` section.
    pub(crate) implicit: bool,
    pub(crate) device: Option<Spanned<Device>>,
    pub(crate) disk: Option<Spanned<Disk>>,
    pub(crate) meta_disk: Option<Spanned<MetaDisk>>,
    pub(crate) level: Level,
}

/// The block device a volume is to appear as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Device {
    pub(crate) path: PathBuf,
    pub(crate) minor: u32,
}

/// What stores a volume on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// Nothing: reads and writes go to the peers.
    None,
    /// A block device or a regular file.
    Path(PathBuf),
}

/// Where a volume's metadata is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetaDisk {
    /// At the end of the disk itself.
    Internal,
    /// A device or file of its own.
    External(PathBuf),
    /// One of several slots of fixed size on a device or file.
    Indexed(PathBuf, u32),
}

/// `connection [NAME] { … }`
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) name: Option<Spanned<String>>,
    pub(crate) span: Span,
    pub(crate) ends: Vec<End>,
    pub(crate) paths: Vec<Path>,
    pub(crate) level: Level,
    pub(crate) volumes: Vec<PeerVolume>,
}

/// `path { … }`
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) span: Span,
    pub(crate) ends: Vec<End>,
}

/// `host NAME …;`: one end of a connection or path.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: Spanned<String>,
    pub(crate) address: EndAddress,
    /// `via outside-address …`: what the peer must connect to, where addresses are translated on
    /// the way.
    pub(crate) outside: Option<SocketAddr>,
    /// `via proxy …`, kept to be printed again.
    pub(crate) proxy: Option<Statement>,
}

/// Which address an end of a connection has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndAddress {
    /// The host's own.
    Host,
    /// The host's own with another port.
    Port(u16),
    /// This one.
    Own(SocketAddr),
}

/// `volume N { disk { … } }` inside a connection.
#[derive(Debug)]
pub(crate) struct PeerVolume {
    pub(crate) number: Spanned<u16>,
    pub(crate) level: Level,
}

/// `connection-mesh { … }`
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) span: Span,
    pub(crate) hosts: Vec<Spanned<String>>,
    pub(crate) level: Level,
}

impl Host {
    /// The name the host has towards its peers.
    pub(crate) fn name(&self) -> &str {
        &self.names[0].value
    }

    /// Where the host is defined.
    pub(crate) fn span(&self) -> Span {
        self.names[0].span
    }

    /// Whether `name` is, to the letter, a name of this host.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.names.iter().any(|own| own.value == name)
    }

    /// Whether `name` is a name of this host with its domain added or left out.
    fn is_called_without_domain(&self, name: &str) -> bool {
        let adds_domain = |long: &str, short: &str| {
            long.strip_prefix(short)
                .is_some_and(|domain| domain.starts_with('.'))
        };
        let mut names = self.names.iter().map(|own| own.value.as_str());
        self.kind == HostKind::Named
            && names.any(|own| adds_domain(own, name) || adds_domain(name, own))
    }
}

impl Resource {
    /// The number of the host meant by `name`: the one with exactly this name, or else the only
    /// one whose name differs in the domain part alone, as `alpha` and `alpha.example.com`.
    pub(crate) fn host(&self, name: &str) -> Option<usize> {
        if let Some(exact) = self.hosts.iter().position(|host| host.is_called(name)) {
            return Some(exact);
        }
        let near = |(_, host): &(usize, &Host)| host.is_called_without_domain(name);
        let mut found = self.hosts.iter().enumerate().filter(near);
        let (number, _) = found.next()?;
        found.next().is_none().then_some(number)
    }

    /// Whether the resource lies on top of another one.
    pub(crate) fn is_stacked(&self) -> bool {
        self.hosts
            .iter()
            .any(|host| matches!(host.kind, HostKind::Stacked { .. }))
    }
}

impl Volume {
    pub(crate) fn new(number: Spanned<u16>, implicit: bool) -> Self {
        Self {
            number,
            implicit,
            device: None,
            disk: None,
            meta_disk: None,
            level: Level::default(),
        }
    }
}
