//! Connections: `connection [NAME] { … }` and `connection-mesh { … }`.

use super::Reader;
use super::host::{MOST_HOSTS, NO_PROXY};
use crate::config::diagnostics::error;
use crate::config::model::{Connection, End, EndAddress, Level, Mesh, Path, PeerVolume};
use crate::config::options::Section;
use crate::config::syntax::Statement;

impl Reader<'_> {
    /// `connection [NAME] { host A …; host B …; … }`
    pub(crate) fn connection(&mut self, statement: &Statement) -> Option<Connection> {
        let mut arguments = self.arguments(statement);
        let name = match arguments.peek() {
            Some(_) => Some(self.text(&mut arguments, "a name | {")?),
            None => None,
        };
        if !self.end_before_body(&mut arguments) {
            return None;
        }
        let mut connection = Connection {
            name,
            span: statement.keyword.span,
            ends: Vec::new(),
            paths: Vec::new(),
            level: Level::default(),
            volumes: Vec::new(),
        };
        for inner in self.body(statement) {
            self.connection_item(inner, &mut connection);
        }
        let paths = connection.paths.len();
        if !connection.ends.is_empty() || paths == 0 {
            self.two_ends(&connection.ends, connection.span, "connection");
        }
        if let Some(second) = connection.paths.get(1) {
            let message = "'path' is known but only the first one of a connection is used";
            self.warn(second.span, message);
        }
        Some(connection)
    }

    fn connection_item(&mut self, statement: &Statement, connection: &mut Connection) {
        match statement.keyword.value.as_str() {
            "host" => connection.ends.extend(self.end(statement)),
            "path" => connection.paths.extend(self.connection_path(statement)),
            "net" | "disk" => {
                let net = statement.keyword.value == "net";
                let section = if net { Section::Net } else { Section::PeerDisk };
                if self.no_arguments(statement) {
                    self.settings(statement, section, &mut connection.level);
                }
            }
            "volume" => {
                let Some(volume) = self.peer_volume(statement) else {
                    return;
                };
                let number = volume.number.value;
                let earlier = connection
                    .volumes
                    .iter()
                    .find(|one| one.number.value == number);
                if let Some(earlier) = earlier {
                    let span = earlier.number.span;
                    self.twice(volume.number.span, &format!("volume {number}"), span);
                    return;
                }
                connection.volumes.push(volume);
            }
            _ => self.unknown_keyword(statement, "in a connection", CONNECTION_KEYWORDS),
        }
    }

    fn peer_volume(&mut self, statement: &Statement) -> Option<PeerVolume> {
        let number = self.volume_number(statement)?;
        let mut level = Level::default();
        for inner in self.body(statement) {
            match inner.keyword.value.as_str() {
                "disk" => {
                    if self.no_arguments(inner) {
                        self.settings(inner, Section::PeerDisk, &mut level);
                    }
                }
                _ => self.unknown_keyword(inner, "in a volume of a connection", &["disk", "skip"]),
            }
        }
        Some(PeerVolume { number, level })
    }

    fn connection_path(&mut self, statement: &Statement) -> Option<Path> {
        if !self.no_arguments(statement) {
            return None;
        }
        let mut ends = Vec::new();
        for inner in self.body(statement) {
            match inner.keyword.value.as_str() {
                "host" => ends.extend(self.end(inner)),
                _ => self.unknown_keyword(inner, "in a path", &["host", "skip"]),
            }
        }
        let span = statement.keyword.span;
        self.two_ends(&ends, span, "path")
            .then_some(Path { span, ends })
    }

    fn two_ends(&mut self, ends: &[End], span: crate::config::source::Span, what: &str) -> bool {
        let [first, second] = ends else {
            let message = format!("a {what} has two hosts, not {}", ends.len());
            self.findings.error(error(self.sources, span, message));
            return false;
        };
        if first.host.value == second.host.value {
            let name = &first.host.value;
            let message = format!("both ends of the {what} are host '{name}'");
            self.findings
                .error(error(self.sources, second.host.span, message));
            return false;
        }
        true
    }

    /// `host NAME [address ADDRESS | port PORT] [via proxy … | via outside-address ADDRESS]`
    fn end(&mut self, statement: &Statement) -> Option<End> {
        let mut arguments = self.arguments(statement);
        let host = self.host_name(&mut arguments)?;
        let mut address = EndAddress::Host;
        if arguments.take_word("address") {
            address = EndAddress::Own(self.address(&mut arguments)?.value);
        } else if arguments.take_word("port") {
            address = EndAddress::Port(self.port(&mut arguments)?.value);
        }
        let mut end = End {
            host,
            address,
            outside: None,
            proxy: None,
        };
        if arguments.take_word("via") {
            if !arguments.take_word("outside-address") {
                self.warn(statement.keyword.span, NO_PROXY);
                end.proxy = Some(statement.clone());
                return Some(end);
            }
            end.outside = Some(self.address(&mut arguments)?.value);
        }
        if arguments.peek().is_some() {
            self.expected(&arguments, "address | port | via | ;");
            return None;
        }
        self.end_of(&mut arguments).then_some(end)
    }

    /// `connection-mesh { hosts A B C; net { … } }`
    pub(crate) fn mesh(&mut self, statement: &Statement) -> Option<Mesh> {
        if !self.no_arguments(statement) {
            return None;
        }
        let span = statement.keyword.span;
        let mut mesh = Mesh {
            span,
            hosts: Vec::new(),
            level: Level::default(),
        };
        for inner in self.body(statement) {
            match inner.keyword.value.as_str() {
                "hosts" => self.mesh_hosts(inner, &mut mesh),
                "net" | "disk" => {
                    let net = inner.keyword.value == "net";
                    let section = if net { Section::Net } else { Section::PeerDisk };
                    if self.no_arguments(inner) {
                        self.settings(inner, section, &mut mesh.level);
                    }
                }
                _ => self.unknown_keyword(inner, "in a connection-mesh", MESH_KEYWORDS),
            }
        }
        if mesh.hosts.len() < 2 {
            let message = format!("a mesh has at least two hosts, not {}", mesh.hosts.len());
            self.findings.error(error(self.sources, span, message));
            return None;
        }
        Some(mesh)
    }

    fn mesh_hosts(&mut self, statement: &Statement, mesh: &mut Mesh) {
        let mut arguments = self.arguments(statement);
        while arguments.peek().is_some() {
            let Some(name) = self.host_name(&mut arguments) else {
                return;
            };
            let earlier = mesh.hosts.iter().find(|other| other.value == name.value);
            if let Some(earlier) = earlier {
                let span = earlier.span;
                self.twice(
                    name.span,
                    &format!("host '{}' in the mesh", name.value),
                    span,
                );
                continue;
            }
            if mesh.hosts.len() >= MOST_HOSTS {
                let message = format!("a mesh has at most {MOST_HOSTS} hosts");
                self.findings.error(error(self.sources, name.span, message));
                return;
            }
            mesh.hosts.push(name);
        }
        self.end_of(&mut arguments);
    }
}

const CONNECTION_KEYWORDS: &[&str] = &["host", "path", "net", "disk", "volume", "skip"];
const MESH_KEYWORDS: &[&str] = &["hosts", "net", "disk", "skip"];
