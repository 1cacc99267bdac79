//! Printing a configuration again, in DRBD's layout: four spaces per level, values in column 17.
//!
//! What is printed reads back to the same configuration. Comments, includes and skipped parts
//! are gone; abbreviations and old spellings are written out.

use std::net::SocketAddr;
use std::path::Path;

use super::lexer::LONGEST_TEXT;
use super::model::{
    Connection, Device, Disk, End, EndAddress, Export, Host, HostKind, Level, Mesh, MetaDisk,
    Model, NbdListen, Resource, Volume,
};
use super::options::{Kind, Section};
use super::source::Sources;
use super::syntax::{Argument, ArgumentKind, Statement};

/// Prints `global`, `common` and all resources.
pub(crate) fn everything(model: &Model, sources: &Sources, main: &str, node: &str) -> String {
    let mut printer = Printer::default();
    printer.line(&format!("# {}", printable(main)));
    if let Some(global) = &model.global {
        printer.open("global");
        printer.settings(global, Section::Global);
        printer.close();
        printer.blank();
    }
    if let Some(common) = &model.common {
        printer.open("common");
        printer.level(&common.level);
        printer.close();
        printer.blank();
    }
    for resource in &model.resources {
        printer.resource(resource, sources, node);
    }
    printer.text
}

/// Prints some resources.
pub(crate) fn resources(resources: &[&Resource], sources: &Sources, node: &str) -> String {
    let mut printer = Printer::default();
    for resource in resources {
        printer.resource(resource, sources, node);
    }
    printer.text
}

#[derive(Default)]
struct Printer {
    text: String,
    depth: usize,
}

impl Printer {
    fn resource(&mut self, resource: &Resource, sources: &Sources, node: &str) {
        let (file, line) = sources.line_of(resource.name.span);
        let ignored = if resource.host(node).is_some() {
            "not ignored"
        } else {
            "ignored"
        };
        let stacked = if resource.is_stacked() {
            "stacked"
        } else {
            "not stacked"
        };
        let name = &resource.name.value;
        self.line(&format!(
            "# resource {name} on {}: {ignored}, {stacked}",
            printable(node)
        ));
        self.line(&format!("# defined at {}:{line}", printable(&file)));
        self.open(&format!("resource {}", word(name)));
        if let Some(template) = &resource.template {
            self.pair(
                "template-file",
                &quoted(&template.path.display().to_string()),
            );
        }
        for volume in &resource.volumes {
            self.volume(volume);
        }
        for host in &resource.hosts {
            self.host(host);
        }
        for connection in &resource.connections {
            self.connection(connection);
        }
        for mesh in &resource.meshes {
            self.mesh(mesh);
        }
        self.level(&resource.level);
        self.close();
        self.blank();
    }

    fn host(&mut self, host: &Host) {
        let names: Vec<String> = host.names.iter().map(|name| word(&name.value)).collect();
        match (&host.kind, &host.address) {
            (HostKind::Named, _) => self.open(&format!("on {}", names.join(" "))),
            (HostKind::Stacked { lower }, _) => {
                self.open(&format!("stacked-on-top-of {}", word(lower)));
            }
            (HostKind::Floating, Some(own)) => {
                self.open(&format!("floating {}", address(own.value)));
            }
            // Reading a floating host without an address is not possible.
            (HostKind::Floating, None) => return,
        }
        if let Some(node_id) = &host.node_id {
            self.pair("node-id", &node_id.value.to_string());
        }
        for volume in &host.volumes {
            self.volume(volume);
        }
        if let Some(own) = host
            .address
            .as_ref()
            .filter(|_| host.kind != HostKind::Floating)
        {
            self.pair("address", &address(own.value));
        }
        for proxy in &host.proxies {
            self.statement(proxy);
        }
        self.level(&host.level);
        self.close();
    }

    fn volume(&mut self, volume: &Volume) {
        if !volume.implicit {
            self.open(&format!("volume {}", volume.number.value));
        }
        if let Some(device) = &volume.device {
            self.pair("device", &device_text(&device.value));
        }
        match volume.disk.as_ref().map(|disk| &disk.value) {
            Some(Disk::None) => self.pair("disk", "none"),
            Some(Disk::Path(path)) => self.pair("disk", &path_text(path)),
            None => {}
        }
        match volume.meta_disk.as_ref().map(|meta_disk| &meta_disk.value) {
            Some(MetaDisk::Internal) => self.pair("meta-disk", "internal"),
            Some(MetaDisk::External(path)) => self.pair("meta-disk", &path_text(path)),
            Some(MetaDisk::Indexed(path, index)) => {
                self.pair("meta-disk", &format!("{}[{index}]", path_text(path)));
            }
            None => {}
        }
        if !volume.implicit {
            self.settings(&volume.level, Section::Volume);
            self.level(&volume.level);
            self.close();
        }
    }

    fn connection(&mut self, connection: &Connection) {
        match &connection.name {
            Some(name) => self.open(&format!("connection {}", word(&name.value))),
            None => self.open("connection"),
        }
        self.ends(&connection.ends);
        for path in &connection.paths {
            self.open("path");
            self.ends(&path.ends);
            self.close();
        }
        for volume in &connection.volumes {
            self.open(&format!("volume {}", volume.number.value));
            self.level(&volume.level);
            self.close();
        }
        self.level(&connection.level);
        self.close();
    }

    fn mesh(&mut self, mesh: &Mesh) {
        self.open("connection-mesh");
        let hosts: Vec<String> = mesh.hosts.iter().map(|host| word(&host.value)).collect();
        self.pair("hosts", &hosts.join(" "));
        self.level(&mesh.level);
        self.close();
    }

    fn ends(&mut self, ends: &[End]) {
        for end in ends {
            if let Some(proxy) = &end.proxy {
                self.statement(proxy);
                continue;
            }
            let host = word(&end.host.value);
            let rest = match end.address {
                EndAddress::Host => String::new(),
                EndAddress::Port(port) => format!(" port {port}"),
                EndAddress::Own(own) => format!(" address {}", address(own)),
            };
            let outside = end
                .outside
                .map(|own| format!(" via outside-address {}", address(own)));
            self.pair(
                "host",
                &format!("{host}{rest}{}", outside.unwrap_or_default()),
            );
        }
    }

    /// All sections of options at one level.
    fn level(&mut self, level: &Level) {
        let sections = [
            ("net", &[Section::Net][..]),
            ("disk", &[Section::Disk, Section::PeerDisk]),
            ("options", &[Section::Options]),
            ("startup", &[Section::Startup]),
            ("handlers", &[Section::Handlers]),
            ("proxy", &[Section::Proxy]),
        ];
        for (keyword, homes) in sections {
            let has = |home: &Section| {
                level
                    .settings
                    .iter()
                    .any(|setting| setting.option.home() == *home)
            };
            if homes.iter().any(has) {
                self.open(keyword);
                for home in homes {
                    self.settings(level, *home);
                }
                self.close();
            }
        }
        self.export(&level.export);
    }

    fn settings(&mut self, level: &Level, home: Section) {
        for setting in level
            .settings
            .iter()
            .filter(|setting| setting.option.home() == home)
        {
            let text = setting.value.written();
            let value = match setting.option.kind {
                Kind::Text { .. } => quoted(&text),
                Kind::Names { .. } => text.split(' ').map(word).collect::<Vec<_>>().join(" "),
                Kind::Switch
                | Kind::Number { .. }
                | Kind::Choice(_)
                | Kind::ChoiceOrNumber { .. }
                | Kind::Policy { .. }
                | Kind::Digest => word(&text),
            };
            self.pair(setting.option.name, &value);
        }
    }

    fn export(&mut self, export: &Export) {
        if *export == Export::default() {
            return;
        }
        self.open("export");
        for listen in &export.nbd {
            match listen {
                NbdListen::Unix => self.pair("nbd", "unix"),
                NbdListen::Tcp(socket) => self.pair("nbd", &socket.to_string()),
            }
        }
        if let Some(kernel) = export.kernel {
            self.pair("kernel", kernel.keyword());
        }
        self.close();
    }

    /// A statement kept as it was read.
    fn statement(&mut self, statement: &Statement) {
        let arguments = arguments_text(&statement.arguments);
        match &statement.body {
            None => self.pair(&statement.keyword.value, &arguments),
            Some(body) => {
                self.open(format!("{} {arguments}", statement.keyword.value).trim_end());
                for inner in body {
                    self.statement(inner);
                }
                self.close();
            }
        }
    }

    fn pair(&mut self, keyword: &str, value: &str) {
        let line = format!("{keyword:<16} {value}");
        self.line(&format!("{};", line.trim_end()));
    }

    fn open(&mut self, head: &str) {
        self.line(&format!("{head} {{"));
        self.depth += 1;
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    fn blank(&mut self) {
        self.text.push('\n');
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(&"    ".repeat(self.depth));
        self.text.push_str(line);
        self.text.push('\n');
    }
}

fn device_text(device: &Device) -> String {
    format!("{} minor {}", path_text(&device.path), device.minor)
}

fn path_text(path: &Path) -> String {
    word(&path.display().to_string())
}

fn address(address: SocketAddr) -> String {
    let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
    format!("{family} {address}")
}

/// Arguments as they were written, without space around `:` and brackets.
fn arguments_text(arguments: &[Argument]) -> String {
    let mut text = String::new();
    let mut glued = true;
    for argument in arguments {
        let mark = match argument.kind {
            ArgumentKind::Colon | ArgumentKind::CloseBracket => true,
            ArgumentKind::OpenBracket | ArgumentKind::Word | ArgumentKind::Quoted => false,
        };
        if !glued && !mark {
            text.push(' ');
        }
        match argument.kind {
            ArgumentKind::Quoted => text.push_str(&quoted(&argument.text)),
            ArgumentKind::Word
            | ArgumentKind::Colon
            | ArgumentKind::OpenBracket
            | ArgumentKind::CloseBracket => text.push_str(&argument.text),
        }
        glued = matches!(
            argument.kind,
            ArgumentKind::Colon | ArgumentKind::OpenBracket
        );
    }
    text
}

/// A word as it is, or in quotes when it would not be read as one word.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+%@=,~".contains(c);
    if !text.is_empty() && text.len() <= LONGEST_TEXT && text.chars().all(plain) {
        return text.to_owned();
    }
    quoted(text)
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Text for a comment: whatever would end the line is left out.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .collect()
}
