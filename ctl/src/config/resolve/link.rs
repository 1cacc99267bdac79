//! What only makes sense together among the options of a link: refused or warned of where it does
//! not.

use rbd_protocol::policy::{SplitPolicies, WithOnePrimary, WithTwoPrimaries, WithoutPrimary};

use super::super::diagnostics::{error, warning};
use super::super::effective::Effective;
use super::super::options::Section;
use super::Resolver;

impl<'a> Resolver<'a, '_> {
    /// The policies for a split brain. The old spelling names the host whose changes are given up.
    pub(super) fn split_policies(&mut self, net: &Effective<'a>, peer: &str) -> SplitPolicies {
        let word = |name| net.text(Section::Net, name).unwrap_or_default();
        let first = word("after-sb-0pri");
        let without_primary = match first.strip_prefix("discard-node-") {
            Some(host) if host == self.own.host.name() => WithoutPrimary::DiscardLocal,
            Some(host) if host == peer => WithoutPrimary::DiscardRemote,
            Some(host) => {
                if let Some(setting) = net.setting(Section::Net, "after-sb-0pri") {
                    let message = format!("{host} is no end of the connection to {peer}");
                    let diagnostic = error(self.sources, setting.span, message);
                    self.findings.error(diagnostic);
                }
                WithoutPrimary::Disconnect
            }
            None => WithoutPrimary::from_word(&first).unwrap_or_default(),
        };
        let (one, two) = (word("after-sb-1pri"), word("after-sb-2pri"));
        SplitPolicies {
            without_primary,
            with_one_primary: WithOnePrimary::from_word(&one).unwrap_or_default(),
            with_two_primaries: WithTwoPrimaries::from_word(&two).unwrap_or_default(),
            always: net.switch(Section::Net, "always-asbp"),
        }
    }

    /// Of two Primaries that lose sight of each other one must be out of the way before the other
    /// goes on, unless somebody has said in so many words that it need not be.
    pub(super) fn check_two_primaries(&mut self, net: &Effective<'a>) {
        let Some(setting) = net.setting(Section::Net, "allow-two-primaries") else {
            return;
        };
        if !net.switch(Section::Net, "allow-two-primaries") {
            return;
        }
        let is_fenced =
            net.text(Section::Net, "fencing").as_deref() == Some("resource-and-stonith");
        let without = net.switch(Section::Net, "allow-two-primaries-without-fencing");
        let (message, help) = if self.plan.hosts.len() > 2 {
            let message = "'allow-two-primaries yes' cannot be accepted: the resource has more \
                           than two nodes";
            (message, None)
        } else if is_fenced || without {
            return;
        } else {
            let message = "'allow-two-primaries yes' cannot be accepted without 'fencing \
                           resource-and-stonith': two Primaries that lose their link would each \
                           go on alone";
            let help = "set 'fencing resource-and-stonith;' and a 'fence-peer' handler, or accept \
                        that with 'allow-two-primaries-without-fencing yes;'";
            (message, Some(help.to_owned()))
        };
        let diagnostic = error(self.sources, setting.span, message).with_help(help);
        self.findings.error(diagnostic);
    }

    /// A digest alone, as in DRBD, lets everybody in.
    pub(super) fn check_authentication(&mut self, net: &Effective<'a>) {
        let digest = net.setting(Section::Net, "cram-hmac-alg");
        let secret = net.text(Section::Net, "shared-secret");
        if let Some(digest) = digest.filter(|_| secret.is_none()) {
            let message = "'cram-hmac-alg' without 'shared-secret' authenticates nobody";
            let diagnostic = warning(self.sources, digest.span, message);
            self.warnings.push(diagnostic.headline());
            self.findings.warning(diagnostic);
        }
    }
}
