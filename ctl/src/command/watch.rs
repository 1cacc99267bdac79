//! `status --watch`: the state again and again, until interrupted or nobody reads any more.
//!
//! On a terminal the screen is redrawn. Elsewhere a block, or with `--json` one line, is printed
//! whenever something other than the passing of time has changed.

use std::time::Duration;

use rbd_protocol::control::ResourceStatus;

use super::states::View;
use crate::console::Console;
use crate::failure::Failure;
use crate::session::{Fetched, Session};
use crate::status::{document, render};

/// Shows the state every `interval`. Fails only when the first look fails.
pub(super) fn run(session: &mut Session, view: &View, interval: Duration) {
    let on_terminal = Console::is_terminal();
    let mut shown_before: Option<String> = None;
    loop {
        let fetched = Session::fetch_named(&session.daemon, &view.names);
        if let (None, Err(failure)) = (&shown_before, &fetched) {
            return session.fail(failure);
        }
        let (text, essence) = picture(view, fetched);
        if on_terminal && !view.json {
            session.console.print(&format!("{CLEAR}{text}"));
            shown_before = Some(essence);
        } else if shown_before.as_ref() != Some(&essence) {
            session.console.print(&text);
            shown_before = Some(essence);
        }
        if session.console.is_closed() {
            return;
        }
        std::thread::sleep(interval);
    }
}

/// The text to show, and the same without what changes by itself as time passes.
fn picture(view: &View, fetched: Result<Fetched, Failure>) -> (String, String) {
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(failure) => {
            let text = complaint(view, &failure);
            return (text.clone(), text);
        }
    };
    let (mut shown, missing) = view.pick(&fetched);
    let silent = fetched.silent.into_iter();
    let silent: String = silent.map(|one| complaint(view, &one.into())).collect();
    let words = |shown: &[ResourceStatus]| {
        if shown.is_empty() && !silent.is_empty() {
            silent.clone()
        } else {
            words(view, shown, &missing) + &silent
        }
    };
    let text = words(&shown);
    for connection in shown.iter_mut().flat_map(|status| &mut status.connections) {
        connection.since_ms = 0;
        if let Some(refused) = &mut connection.refused {
            refused.told_ms_ago = 0;
        }
    }
    let essence = words(&shown);
    (text, essence)
}

fn complaint(view: &View, failure: &Failure) -> String {
    if view.json {
        let line = serde_json::json!({"schema_version": 1, "error": failure.to_string()});
        format!("{line}\n")
    } else {
        format!("# {failure}\n\n")
    }
}

fn words(view: &View, shown: &[ResourceStatus], missing: &[String]) -> String {
    if view.json {
        let line = serde_json::to_string(&document(shown));
        return line.expect("plain structures with text keys always become JSON") + "\n";
    }
    let mut text = render(shown, view.layout);
    if shown.is_empty() && missing.is_empty() {
        text.push_str("# No currently configured rbd resources found.\n\n");
    }
    for name in missing {
        text.push_str(&format!("# {name}: No such resource\n\n"));
    }
    text
}

/// Cursor to the top left, everything below erased.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";
