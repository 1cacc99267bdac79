//! Addresses: `[ipv4|ipv6] ADDRESS:PORT`, an IPv6 address in brackets.
//!
//! Only literal addresses; no name is ever looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use super::Reader;
use super::arguments::Arguments;
use crate::config::diagnostics::error;
use crate::config::source::{Span, Spanned};
use crate::config::syntax::ArgumentKind;

impl Reader<'_> {
    /// An address with its port.
    pub(crate) fn address(&mut self, arguments: &mut Arguments<'_>) -> Option<Spanned<SocketAddr>> {
        let family = self.family(arguments);
        let Some(next) = arguments.peek() else {
            self.expected(arguments, "ipv4 | ipv6 | an IP address");
            return None;
        };
        let (ip, scope, span) = if next.kind == ArgumentKind::OpenBracket {
            self.bracketed(arguments)?
        } else {
            let word = self.text(arguments, "an IP address")?;
            match word.value.parse::<Ipv4Addr>() {
                Ok(ip) => (IpAddr::V4(ip), 0, word.span),
                Err(_) => return self.not_an_address(&word, arguments),
            }
        };
        if family.is_some_and(|family| (family == Family::Ipv4) != ip.is_ipv4()) {
            let message = format!("'{ip}' is not of the address family written before it");
            self.findings.error(error(self.sources, span, message));
            return None;
        }
        if arguments.take(ArgumentKind::Colon).is_none() {
            self.expected(arguments, ":PORT");
            return None;
        }
        let port = self.port(arguments)?;
        let socket = match ip {
            IpAddr::V4(ip) => SocketAddr::from((ip, port.value)),
            IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, port.value, 0, scope)),
        };
        Some(Spanned::new(socket, span.to(port.span)))
    }

    /// A TCP port.
    pub(crate) fn port(&mut self, arguments: &mut Arguments<'_>) -> Option<Spanned<u16>> {
        let port = self.number(arguments, "port", (1, u64::from(u16::MAX)))?;
        Some(Spanned::new(u16::try_from(port.value).ok()?, port.span))
    }

    /// The address family, when one is written. Those of kernel transports have IPv4 addresses.
    fn family(&mut self, arguments: &mut Arguments<'_>) -> Option<Family> {
        let span = arguments.peek()?.span;
        if arguments.take_word("ipv6") {
            return Some(Family::Ipv6);
        }
        if arguments.take_word("ipv4") {
            return Some(Family::Ipv4);
        }
        let other = ["sdp", "ssocks", "sci"]
            .into_iter()
            .find(|word| arguments.take_word(word))?;
        let message =
            format!("address family '{other}' is known but has no effect: the link is always TCP");
        self.warn(span, message);
        Some(Family::Ipv4)
    }

    /// `[ADDRESS]`, with an optional numeric scope behind `%`.
    fn bracketed(&mut self, arguments: &mut Arguments<'_>) -> Option<(IpAddr, u32, Span)> {
        let mut span = arguments.take(ArgumentKind::OpenBracket)?.span;
        let mut text = String::new();
        loop {
            if let Some(end) = arguments.take(ArgumentKind::CloseBracket) {
                span = span.to(end.span);
                break;
            }
            let part = arguments
                .take(ArgumentKind::Word)
                .or_else(|| arguments.take(ArgumentKind::Colon));
            let Some(part) = part else {
                self.expected(arguments, "]");
                return None;
            };
            text.push_str(&part.text);
            span = span.to(part.span);
        }
        let (address, scope) = text.split_once('%').unwrap_or((&text, "0"));
        match (address.parse::<Ipv6Addr>(), interface_number(scope)) {
            (Ok(ip), Some(scope)) => Some((IpAddr::V6(ip), scope, span)),
            (Ok(_), None) => {
                let message = format!(
                    "the scope '{scope}' is neither the number nor the name of an interface"
                );
                self.findings.error(error(self.sources, span, message));
                None
            }
            (Err(_), _) => {
                let message = format!("Parse error: 'an IPv6 address' expected, but got '{text}'");
                self.findings.error(error(self.sources, span, message));
                None
            }
        }
    }

    fn not_an_address<T>(
        &mut self,
        word: &Spanned<String>,
        arguments: &Arguments<'_>,
    ) -> Option<T> {
        let got = &word.value;
        let message = format!("Parse error: 'an IP address' expected, but got '{got}'");
        let looks_like_six = arguments.peek().is_some_and(|next| {
            next.kind == ArgumentKind::Colon && got.bytes().all(|byte| byte.is_ascii_hexdigit())
        });
        let help = if looks_like_six {
            "an IPv6 address stands in brackets: 'ipv6 [fe80::1]:7789'"
        } else {
            "names are not looked up; write the address itself, as in 10.0.0.1:7789"
        };
        let diagnostic = error(self.sources, word.span, message);
        self.findings
            .error(diagnostic.with_help(Some(help.to_owned())));
        None
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Ipv4,
    Ipv6,
}

/// The number of an interface named by number or name. A name this machine does not have is
/// another node's business and becomes 0.
fn interface_number(scope: &str) -> Option<u32> {
    if let Ok(number) = scope.parse() {
        return Some(number);
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-@".contains(c);
    let named = (1..=LONGEST_INTERFACE_NAME).contains(&scope.len()) && scope.chars().all(plain);
    if !named || scope.starts_with('.') {
        return None;
    }
    let number = std::fs::read_to_string(format!("/sys/class/net/{scope}/ifindex"));
    Some(
        number
            .ok()
            .and_then(|number| number.trim().parse().ok())
            .unwrap_or(0),
    )
}

/// The kernel's limit.
const LONGEST_INTERFACE_NAME: usize = 15;
