//! Volumes: `volume N { … }`, and the same statements outside of one, which mean volume 0.

use std::path::PathBuf;

use super::Reader;
use super::arguments::Arguments;
use crate::config::diagnostics::error;
use crate::config::model::{Device, Disk, MetaDisk, Volume};
use crate::config::options::Section;
use crate::config::source::{Span, Spanned};
use crate::config::syntax::{ArgumentKind, Statement};

impl Reader<'_> {
    /// A statement of a resource or host that is about a volume. Returns whether it was one.
    pub(crate) fn volume_statement(
        &mut self,
        statement: &Statement,
        volumes: &mut Vec<Volume>,
    ) -> bool {
        let keyword = &statement.keyword;
        match keyword.value.as_str() {
            "volume" => {
                let Some(volume) = self.volume(statement) else {
                    return true;
                };
                let number = volume.number.value;
                let same = volumes.iter().find(|other| other.number.value == number);
                if let Some(earlier) = same.filter(|earlier| !earlier.implicit) {
                    let what = format!("volume {number}");
                    self.twice(volume.number.span, &what, earlier.number.span);
                    return true;
                }
                if volumes.len() >= MOST_VOLUMES {
                    let message = format!("there are more than {MOST_VOLUMES} volumes");
                    self.findings
                        .error(error(self.sources, keyword.span, message));
                    return true;
                }
                self.mixed(volumes, false, keyword.span);
                volumes.push(volume);
            }
            "device" | "disk" | "meta-disk" | "flexible-meta-disk" => {
                self.mixed(volumes, true, keyword.span);
                if volumes.is_empty() {
                    volumes.push(Volume::new(Spanned::new(0, keyword.span), true));
                }
                if let Some(volume) = volumes.first_mut().filter(|volume| volume.implicit) {
                    self.volume_item(statement, volume);
                }
            }
            _ => return false,
        }
        true
    }

    /// Reports volumes written in both forms in one place.
    fn mixed(&mut self, volumes: &[Volume], implicit: bool, span: Span) {
        let Some(other) = volumes.iter().find(|volume| volume.implicit != implicit) else {
            return;
        };
        let (file, line) = self.sources.line_of(other.number.span);
        let message = "explicit and implicit volumes are mixed";
        let diagnostic = error(self.sources, span, message)
            .with_note(format!("the other form is at {file}:{line}"))
            .with_help(Some(
                "put device, disk and meta-disk into 'volume 0 { … }'".to_owned(),
            ));
        self.findings.error(diagnostic);
    }

    fn volume(&mut self, statement: &Statement) -> Option<Volume> {
        let number = self.volume_number(statement)?;
        let mut volume = Volume::new(number, false);
        for inner in self.body(statement) {
            if !self.volume_item(inner, &mut volume) {
                self.unknown_keyword(inner, "in a volume", VOLUME_KEYWORDS);
            }
        }
        Some(volume)
    }

    /// The number behind `volume`, up to its `{`.
    pub(crate) fn volume_number(&mut self, statement: &Statement) -> Option<Spanned<u16>> {
        let mut arguments = self.arguments(statement);
        let number = self.number(&mut arguments, "volume", (0, HIGHEST_VOLUME))?;
        if !self.end_before_body(&mut arguments) {
            return None;
        }
        Some(Spanned::new(u16::try_from(number.value).ok()?, number.span))
    }

    fn volume_item(&mut self, statement: &Statement, volume: &mut Volume) -> bool {
        let mut arguments = self.arguments(statement);
        let keyword = &statement.keyword;
        match keyword.value.as_str() {
            "device" => {
                let device = self.device(&mut arguments);
                self.put(keyword, device, &mut volume.device);
            }
            "disk" if statement.body.is_some() => {
                if self.no_arguments(statement) {
                    self.settings(statement, Section::Disk, &mut volume.level);
                }
            }
            "disk" => {
                let disk = self.disk(&mut arguments);
                self.put(keyword, disk, &mut volume.disk);
            }
            "meta-disk" | "flexible-meta-disk" => {
                let meta_disk = self.meta_disk(&mut arguments);
                self.put(keyword, meta_disk, &mut volume.meta_disk);
            }
            "tiebreaker" => volume
                .level
                .settings
                .extend(self.setting(statement, Section::Volume)),
            "export" => self.export(statement, &mut volume.level),
            _ => return false,
        }
        true
    }

    /// Stores what a statement said. Saying the same again is harmless; another thing is not.
    pub(crate) fn put<T: PartialEq>(
        &mut self,
        keyword: &Spanned<String>,
        value: Option<Spanned<T>>,
        slot: &mut Option<Spanned<T>>,
    ) {
        let Some(value) = value else { return };
        match slot {
            Some(earlier) if earlier.value == value.value => {
                let message = format!("'{}' says the same a second time", keyword.value);
                self.warn(keyword.span, message);
            }
            Some(earlier) => {
                let span = earlier.span;
                self.twice(
                    keyword.span,
                    &format!("'{}' statement", keyword.value),
                    span,
                );
            }
            None => *slot = Some(value),
        }
    }

    /// `device PATH minor N | PATH-ENDING-IN-N | minor N`
    fn device(&mut self, arguments: &mut Arguments<'_>) -> Option<Spanned<Device>> {
        if arguments.take_word("minor") {
            let minor = self.minor(arguments)?;
            let path = PathBuf::from(format!("/dev/drbd{}", minor.value));
            let device = Device {
                path,
                minor: minor.value,
            };
            return self
                .end_of(arguments)
                .then_some(Spanned::new(device, minor.span));
        }
        let name = self.text(arguments, "a device path | minor")?;
        let path = self.device_path(&name)?;
        let written = if arguments.take_word("minor") {
            Some(self.minor(arguments)?.value)
        } else {
            None
        };
        let in_name = path
            .strip_prefix("/dev/drbd")
            .and_then(|digits| digits.parse().ok());
        let Some(minor) = written.or(in_name.filter(|minor| u64::from(*minor) <= HIGHEST_MINOR))
        else {
            self.expected(arguments, "minor");
            return None;
        };
        let device = Device {
            path: PathBuf::from(path),
            minor,
        };
        self.end_of(arguments)
            .then_some(Spanned::new(device, name.span))
    }

    fn minor(&mut self, arguments: &mut Arguments<'_>) -> Option<Spanned<u32>> {
        let minor = self.number(arguments, "minor", (0, HIGHEST_MINOR))?;
        Some(Spanned::new(u32::try_from(minor.value).ok()?, minor.span))
    }

    fn device_path(&mut self, name: &Spanned<String>) -> Option<String> {
        let text = name.value.as_str();
        let path = if text.starts_with("drbd") {
            format!("/dev/{text}")
        } else {
            text.to_owned()
        };
        let rest = path.strip_prefix("/dev/rbd");
        let message = if rest.is_some_and(|rest| !rest.starts_with("d/")) {
            format!("'{path}' is a name Ceph uses; another program's device is never claimed")
        } else if path.contains("/../") || !path.starts_with('/') || path.ends_with('/') {
            format!("Parse error: '/dev/drbdN' expected, but got '{text}'")
        } else {
            return Some(path);
        };
        self.findings.error(error(self.sources, name.span, message));
        None
    }

    /// `disk PATH | none`
    fn disk(&mut self, arguments: &mut Arguments<'_>) -> Option<Spanned<Disk>> {
        if let Some(word) = arguments.peek().filter(|word| word.text == "none") {
            arguments.take_word("none");
            return self
                .end_of(arguments)
                .then_some(Spanned::new(Disk::None, word.span));
        }
        let path = self.path(arguments, "a path | none | {")?;
        let disk = Spanned::new(Disk::Path(path.value), path.span);
        self.end_of(arguments).then_some(disk)
    }

    /// `meta-disk internal | PATH | PATH[INDEX]`
    fn meta_disk(&mut self, arguments: &mut Arguments<'_>) -> Option<Spanned<MetaDisk>> {
        if let Some(word) = arguments.peek().filter(|word| word.text == "internal") {
            arguments.take_word("internal");
            return self
                .end_of(arguments)
                .then_some(Spanned::new(MetaDisk::Internal, word.span));
        }
        let path = self.path(arguments, "internal | a path")?;
        let meta_disk = if arguments.take(ArgumentKind::OpenBracket).is_some() {
            let index = self.number(arguments, "index", (0, HIGHEST_INDEX))?;
            if arguments.take(ArgumentKind::CloseBracket).is_none() {
                self.expected(arguments, "]");
                return None;
            }
            MetaDisk::Indexed(path.value, u32::try_from(index.value).ok()?)
        } else {
            MetaDisk::External(path.value)
        };
        self.end_of(arguments)
            .then_some(Spanned::new(meta_disk, path.span))
    }
}

const VOLUME_KEYWORDS: &[&str] = &[
    "device",
    "disk",
    "meta-disk",
    "flexible-meta-disk",
    "tiebreaker",
    "export",
    "skip",
];
/// Volumes of one resource; each is a device, and machines do not have that many.
const MOST_VOLUMES: usize = 1024;
const HIGHEST_VOLUME: u64 = 65_534;
/// The kernel's largest minor number.
const HIGHEST_MINOR: u64 = (1 << 20) - 1;
/// More slots than any disk set aside for metadata has.
const HIGHEST_INDEX: u64 = 65_535;
