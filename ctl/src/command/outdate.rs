//! `outdate`: the daemon does it for a resource that is up, `rbdadm` itself for one that is not.

use rbd_protocol::control::{RefusalCode, Reply, Request};

use super::disks;
use crate::failure::Failure;
use crate::offline::{self, Access, Area};
use crate::session::Session;
use crate::step::request_line;
use crate::target::Scope;

/// `outdate`
pub(super) fn outdate(session: &mut Session, words: &[String]) {
    let configuration = session.configuration(false);
    let Some(configuration) = session.settle(configuration) else {
        return;
    };
    for selected in configuration.site.select(words, "outdate", Scope::Resource) {
        let Some((target, _)) = session.settle(selected) else {
            continue;
        };
        let resource = target.resource.clone();
        let request = Request::Outdate {
            resource: resource.clone(),
        };
        if !session.step(&request_line(&request)) {
            continue;
        }
        match session.daemon.ask(&request) {
            Ok(Reply::Refused(refusal)) if refusal.code == RefusalCode::UnknownResource => {
                on_disk(session, &resource);
            }
            Ok(Reply::Refused(refusal)) => session.fail(&Failure::Refused { resource, refusal }),
            Ok(_) => {}
            Err(Failure::Unreachable { .. }) => on_disk(session, &resource),
            Err(failure) => session.fail(&failure),
        }
    }
}

/// Nobody serves the resource: its metadata is changed where it lies, under the lock that keeps a
/// daemon from starting to use it meanwhile.
fn on_disk(session: &mut Session, resource: &str) {
    let words = [resource.to_owned()];
    disks::each_volume(session, &words, "outdate", |session, local, volume| {
        let label = disks::label(&local.config, volume);
        let area = Area::open(volume, Access::Write)?;
        offline::outdate(&area, &local.config, volume)?;
        session
            .console
            .line(format!("{label}: recorded as Outdated in its metadata"));
        Ok(())
    });
}
