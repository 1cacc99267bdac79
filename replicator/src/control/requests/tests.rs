//! What requests are answered while a resource does not answer.

use std::time::Duration;

use rbd_protocol::control::{RefusalCode, Reply, Request, ResourceStatus, Suspended};
use rbd_protocol::ids::NodeId;
use rbd_protocol::state::Role;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};

use super::answer;
use crate::control::fixtures;
use crate::control::task::Task;
use crate::messages::ToResource;

/// Answers every question for its state until it is dropped.
fn answering(name: &'static str, take: impl Fn() -> Option<ToResource> + 'static) -> Task {
    Task::spawn(async move {
        loop {
            while let Some(message) = take() {
                if let ToResource::Status { reply } = message {
                    reply.send(state(name)).unwrap();
                }
            }
            sleep(Duration::from_millis(1)).await;
        }
    })
}

fn state(name: &str) -> ResourceStatus {
    ResourceStatus {
        name: name.to_owned(),
        node_id: NodeId(0),
        role: Role::Secondary,
        suspended: Suspended::default(),
        tenure: 1,
        devices: Vec::new(),
        connections: Vec::new(),
    }
}

#[test]
fn resources_that_do_not_answer_hide_no_others_and_are_waited_for_together() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = fixtures::daemon(directory.path());
    let add = |name| fixtures::add_without_thread(&daemon, directory.path(), name);
    let (_first, well, _last) = (add("r0"), add("r1"), add("r2"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let _answering = answering("r1", well);
        let start = Instant::now();
        let Reply::StatusOfSome { answered, silent } =
            answer(&daemon, Request::Status { resource: None }).await
        else {
            panic!("some answer, some do not")
        };
        // As the runtime counts time: it passes when everybody waits.
        assert!(start.elapsed() < Duration::from_secs(6));
        assert_eq!(answered, [state("r1")]);
        let names: Vec<&str> = silent.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["r0", "r2"]);
        for (name, refusal) in &silent {
            assert_eq!(refusal.code, RefusalCode::StateTimeout);
            assert_eq!(refusal.reason, format!("{name} did not answer within 5 s"));
        }
        // Who asks for one is not told of others.
        let resource = Some("r1".to_owned());
        let reply = answer(&daemon, Request::Status { resource }).await;
        assert_eq!(reply, Reply::Status(vec![state("r1")]));
    });
}
