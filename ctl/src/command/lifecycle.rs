//! The commands that change a running resource: each becomes one request per target.

use rbd_protocol::control::{Request, VerifyOrder};

use super::tentative;
use crate::arguments::{
    Connect, Detach, Disconnect, Invalidate, InvalidateRemote, NewCurrentUuid, Primary, Resize,
    Secondary, Verify,
};
use crate::failure::Failure;
use crate::session::Session;
use crate::site::LocalResource;
use crate::target::{Scope, Target};

/// `up`: what is missing is created, what is there is left alone.
pub(super) fn up(session: &mut Session, words: &[String]) {
    each(session, words, "up", Scope::Resource, |_, resource| {
        Ok(Request::Up(resource.config.clone()))
    });
}

/// `adjust`: the running resource follows the configuration.
pub(super) fn adjust(session: &mut Session, words: &[String]) {
    each(session, words, "adjust", Scope::Resource, |_, resource| {
        Ok(Request::Adjust(resource.config.clone()))
    });
}

/// `attach`, of one volume's disk or all.
pub(super) fn attach(session: &mut Session, words: &[String]) {
    each(
        session,
        words,
        "attach",
        Scope::Volume,
        |target, resource| {
            Ok(Request::Attach {
                config: resource.config.clone(),
                volume: target.volume,
            })
        },
    );
}

/// `detach`, of one volume's disk or all.
pub(super) fn detach(session: &mut Session, options: &Detach) {
    let words = &options.targets.targets;
    each(session, words, "detach", Scope::Volume, |target, _| {
        Ok(Request::Detach {
            resource: target.resource.clone(),
            volume: target.volume,
            force: options.force,
        })
    });
}

/// `connect`, to one peer or all.
pub(super) fn connect(session: &mut Session, options: &Connect) {
    let words = &options.targets.targets;
    each(session, words, "connect", Scope::Connection, |target, _| {
        Ok(Request::Connect {
            resource: target.resource.clone(),
            peer: target.peer.clone(),
            discard_my_data: options.discard_my_data,
            tentative: options.tentative,
        })
    });
    if options.tentative && !session.options.dry_run {
        tentative::report(session, words);
    }
}

/// `disconnect`, from one peer or all.
pub(super) fn disconnect(session: &mut Session, options: &Disconnect) {
    each(
        session,
        &options.targets.targets,
        "disconnect",
        Scope::Connection,
        |target, _| {
            Ok(Request::Disconnect {
                resource: target.resource.clone(),
                peer: target.peer.clone(),
                force: options.force,
            })
        },
    );
}

/// `primary`
pub(super) fn primary(session: &mut Session, options: &Primary) {
    let words = &options.targets.targets;
    each(session, words, "primary", Scope::Resource, |target, _| {
        let resource = target.resource.clone();
        Ok(if options.for_migration {
            let seconds = options.expires;
            Request::Migrate { resource, seconds }
        } else {
            let force = options.force;
            Request::Promote { resource, force }
        })
    });
}

/// `secondary`
pub(super) fn secondary(session: &mut Session, options: &Secondary) {
    let words = &options.targets.targets;
    each(session, words, "secondary", Scope::Resource, |target, _| {
        Ok(Request::Demote {
            resource: target.resource.clone(),
            force: options.force,
        })
    });
}

/// `invalidate`
pub(super) fn invalidate(session: &mut Session, options: &Invalidate) {
    let words = &options.targets.targets;
    let scope = Scope::PeerDevice;
    each(session, words, "invalidate", scope, |target, _| {
        Ok(Request::Invalidate {
            resource: target.resource.clone(),
            volume: target.volume,
            peer: target.peer.clone(),
            remote: false,
            marked_only: !options.reset.reset_bitmap,
            force: options.force,
        })
    });
}

/// `invalidate-remote`
pub(super) fn invalidate_remote(session: &mut Session, options: &InvalidateRemote) {
    let words = &options.targets.targets;
    let scope = Scope::PeerDevice;
    each(session, words, "invalidate-remote", scope, |target, _| {
        Ok(Request::Invalidate {
            resource: target.resource.clone(),
            volume: target.volume,
            peer: target.peer.clone(),
            remote: true,
            marked_only: !options.reset.reset_bitmap,
            force: false,
        })
    });
}

/// `verify`
pub(super) fn verify(session: &mut Session, options: &Verify) {
    let words = &options.targets.targets;
    let order = if options.abort {
        VerifyOrder::Stop
    } else {
        VerifyOrder::Start {
            from: options.start,
            until: options.stop,
            repair: options.repair,
        }
    };
    each(session, words, "verify", Scope::PeerDevice, |target, _| {
        Ok(Request::Verify {
            resource: target.resource.clone(),
            volume: target.volume,
            peer: target.peer.clone(),
            order,
        })
    });
}

/// `pause-sync` and `resume-sync`
pub(super) fn pause_sync(session: &mut Session, words: &[String], paused: bool) {
    let verb = if paused { "pause-sync" } else { "resume-sync" };
    each(session, words, verb, Scope::PeerDevice, |target, _| {
        Ok(Request::PauseSync {
            resource: target.resource.clone(),
            volume: target.volume,
            peer: target.peer.clone(),
            paused,
        })
    });
}

/// `resize`
pub(super) fn resize(session: &mut Session, options: &Resize) {
    let words = &options.targets.targets;
    each(session, words, "resize", Scope::Volume, |target, _| {
        Ok(Request::Resize {
            resource: target.resource.clone(),
            volume: target.volume,
            assume_clean: options.assume_clean,
        })
    });
}

/// `suspend-io`
pub(super) fn suspend_io(session: &mut Session, words: &[String]) {
    each(
        session,
        words,
        "suspend-io",
        Scope::Resource,
        |target, _| {
            let resource = target.resource.clone();
            Ok(Request::SuspendIo { resource })
        },
    );
}

/// `resume-io`
pub(super) fn resume_io(session: &mut Session, words: &[String]) {
    each(session, words, "resume-io", Scope::Resource, |target, _| {
        let resource = target.resource.clone();
        Ok(Request::ResumeIo { resource })
    });
}

/// `new-current-uuid`, which wants its volume named.
pub(super) fn new_generation(session: &mut Session, options: &NewCurrentUuid) {
    let words = &options.targets.targets;
    let verb = "new-current-uuid";
    each(session, words, verb, Scope::Volume, |target, _| {
        let Some(volume) = target.volume else {
            return Err(Failure::Usage(format!(
                "{verb} works on one volume: name it, as in {target}/0"
            )));
        };
        Ok(Request::NewGeneration {
            resource: target.resource.clone(),
            volume,
            clear_bitmap: options.clear_bitmap,
        })
    });
}

/// `down`. A resource that runs can be stopped even after it has left the configuration, and
/// when the configuration cannot be read at all.
pub(super) fn down(session: &mut Session, words: &[String]) {
    let defined = session.configuration(false);
    let running = if session.options.dry_run {
        Vec::new()
    } else {
        // One that does not answer is stopped by its name like the others.
        let running = Session::fetch_named(&session.daemon, &[]);
        let Some(running) = session.settle(running) else {
            return;
        };
        running.names().map(str::to_owned).collect()
    };
    let configuration = match defined {
        Ok(configuration) => Some(configuration),
        Err(failure) if running.is_empty() => return session.fail(&failure),
        Err(failure) => {
            session.fail(&failure);
            None
        }
    };
    let defined = configuration.iter().flat_map(|one| &one.site.resources);
    let defined: Vec<&str> = defined.map(|one| one.config.name.as_str()).collect();
    for word in words {
        for result in to_stop(word, &defined, &running) {
            if let Some(resource) = session.settle(result) {
                session.perform(&resource.clone(), &Request::Down { resource });
            }
        }
    }
}

fn to_stop(word: &str, defined: &[&str], running: &[String]) -> Vec<Result<String, Failure>> {
    let stray = |name: &str| !defined.contains(&name);
    let running = || running.iter().map(String::as_str);
    if word == "all" {
        let every = defined.iter().copied();
        let every = every.chain(running().filter(|name| stray(name)));
        return every.map(|name| Ok(name.to_owned())).collect();
    }
    let checked = Target::parse(word).and_then(|target| {
        if stray(&target.resource) && !running().any(|name| name == target.resource) {
            return Err(Failure::NotDefined(word.to_owned()));
        }
        target.check_scope("down", Scope::Resource)?;
        Ok(target.resource)
    });
    vec![checked]
}

/// Makes and performs one request per target; a failure of one leaves the others alone.
fn each(
    session: &mut Session,
    words: &[String],
    verb: &'static str,
    scope: Scope,
    request: impl Fn(&Target, &LocalResource) -> Result<Request, Failure>,
) {
    let configuration = session.configuration(matches!(verb, "up" | "adjust"));
    let Some(configuration) = session.settle(configuration) else {
        return;
    };
    for selected in configuration.site.select(words, verb, scope) {
        let made = selected.and_then(|(target, resource)| {
            let request = request(&target, resource)?;
            Ok((target, request))
        });
        if let Some((target, request)) = session.settle(made) {
            session.perform(&target.resource, &request);
        }
    }
}
