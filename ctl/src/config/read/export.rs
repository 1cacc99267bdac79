//! `export { … }`, which DRBD does not have: how clients reach a volume.

use super::Reader;
use super::arguments::Arguments;
use crate::config::diagnostics::error;
use crate::config::model::{Level, NbdListen};
use crate::config::suggest::did_you_mean;
use crate::config::syntax::Statement;
use rbd_protocol::control::KernelExport;

impl Reader<'_> {
    /// `export { nbd unix | ADDRESS:PORT; kernel auto | ublk | nbd | none; }`
    pub(crate) fn export(&mut self, statement: &Statement, level: &mut Level) {
        if !self.no_arguments(statement) {
            return;
        }
        for inner in self.body(statement) {
            let mut arguments = self.arguments(inner);
            match inner.keyword.value.as_str() {
                "nbd" => {
                    if let Some(listen) = self.nbd(&mut arguments)
                        && self.end_of(&mut arguments)
                        && !level.export.nbd.contains(&listen)
                    {
                        level.export.nbd.push(listen);
                    }
                }
                "kernel" => {
                    if let Some(kernel) = self.kernel(&mut arguments)
                        && self.end_of(&mut arguments)
                    {
                        level.export.kernel = Some(kernel);
                    }
                }
                _ => self.unknown_keyword(inner, "in export", &["nbd", "kernel"]),
            }
        }
    }

    fn nbd(&mut self, arguments: &mut Arguments<'_>) -> Option<NbdListen> {
        if arguments.take_word("unix") {
            return Some(NbdListen::Unix);
        }
        let address = self.address(arguments)?;
        Some(NbdListen::Tcp(address.value))
    }

    fn kernel(&mut self, arguments: &mut Arguments<'_>) -> Option<KernelExport> {
        let word = self.text(arguments, KERNEL_CHOICES)?;
        let span = word.span;
        match word.value.as_str() {
            "auto" => Some(KernelExport::Auto),
            "ublk" => Some(KernelExport::Ublk),
            "nbd" => Some(KernelExport::Nbd),
            "none" => Some(KernelExport::None),
            other => {
                let message =
                    format!("Parse error: '{KERNEL_CHOICES}' expected, but got '{other}'");
                let help = did_you_mean(other, KERNEL_CHOICES.split(" | "));
                self.findings
                    .error(error(self.sources, span, message).with_help(help));
                None
            }
        }
    }
}

const KERNEL_CHOICES: &str = "auto | ublk | nbd | none";
