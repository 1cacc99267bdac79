//! `resource NAME { … }`

use super::{RESOURCE_KEYWORDS, Reader};
use crate::config::diagnostics::error;
use crate::config::model::{Common, Level, Resource, Template};
use crate::config::source::Spanned;
use crate::config::syntax::Statement;

impl Reader<'_> {
    /// A resource with everything in it; `None` when not even its name could be read.
    pub(crate) fn resource(&mut self, statement: &Statement) -> Option<Resource> {
        let mut arguments = self.arguments(statement);
        let name = self.text(&mut arguments, "a resource name")?;
        if !self.end_before_body(&mut arguments) {
            return None;
        }
        self.check_resource_name(&name);
        let mut resource = Resource {
            name,
            level: Level::default(),
            template: None,
            volumes: Vec::new(),
            hosts: Vec::new(),
            connections: Vec::new(),
            meshes: Vec::new(),
        };
        for inner in self.body(statement) {
            self.resource_item(inner, &mut resource);
        }
        Some(resource)
    }

    fn resource_item(&mut self, statement: &Statement, resource: &mut Resource) {
        if self.section_of_options(statement, &mut resource.level)
            || self.volume_statement(statement, &mut resource.volumes)
        {
            return;
        }
        match statement.keyword.value.as_str() {
            "on" | "floating" | "stacked-on-top-of" => self.host(statement, resource),
            "connection" | "connection-mesh"
                if resource.connections.len() + resource.meshes.len() >= MOST_CONNECTIONS =>
            {
                let message = format!("there are more than {MOST_CONNECTIONS} connections");
                self.findings
                    .error(error(self.sources, statement.keyword.span, message));
            }
            "connection" => resource.connections.extend(self.connection(statement)),
            "connection-mesh" => resource.meshes.extend(self.mesh(statement)),
            "template-file" => {
                if resource.template.is_some() {
                    let message = "a resource has one template-file only";
                    self.findings
                        .error(error(self.sources, statement.span, message));
                    return;
                }
                resource.template = self.template(statement);
            }
            _ => self.unknown_keyword(statement, "in a resource", RESOURCE_KEYWORDS),
        }
    }

    /// What the template file says; its absence was reported when it was read.
    fn template(&mut self, statement: &Statement) -> Option<Template> {
        let loaded = self.templates.get(&statement.span)?;
        let mut common: Option<Common> = None;
        for inner in &loaded.statements {
            match inner.keyword.value.as_str() {
                "skip" => {}
                "common" => {
                    let found = self.common(inner);
                    if let (Some(found), Some(earlier)) = (&found, &common) {
                        self.twice(found.span, "the common section", earlier.span);
                    }
                    common = found.or(common);
                }
                _ => self.unknown_keyword(inner, "in a template", &["common", "include", "skip"]),
            }
        }
        Some(Template {
            path: loaded.path.clone(),
            common,
        })
    }

    fn check_resource_name(&mut self, name: &Spanned<String>) {
        let text = name.value.as_str();
        let bad = |c: char| !(c.is_ascii_alphanumeric() || "._-+=@%".contains(c));
        let message = if text.is_empty() {
            "a resource name is empty".to_owned()
        } else if text == "all" {
            "'all' means every resource and cannot be the name of one".to_owned()
        } else if text.len() > LONGEST_RESOURCE_NAME {
            format!(
                "a resource name has {} characters; at most {LONGEST_RESOURCE_NAME} are allowed",
                text.len()
            )
        } else if text.starts_with(['-', '.']) {
            format!("resource name '{text}' begins with '{}'", &text[..1])
        } else if let Some(character) = text.chars().find(|c| bad(*c)) {
            format!("resource name '{text}' contains '{character}'")
        } else {
            return;
        };
        let help = "letters, digits and . _ - + = @ % are allowed".to_owned();
        let diagnostic = error(self.sources, name.span, message);
        self.findings.error(diagnostic.with_help(Some(help)));
    }
}

/// As in DRBD.
const LONGEST_RESOURCE_NAME: usize = 127;
/// One for each pair of 32 hosts.
const MOST_CONNECTIONS: usize = 496;
