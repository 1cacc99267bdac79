//! What tests of a cluster must not do to anybody else.

use std::path::Path;
use std::process::{Child, Command};

use super::first::FirstProcess;

#[test]
fn what_is_gone_is_neither_looked_into_nor_killed() {
    let mut shell = Command::new("sh")
        .args(["-c", "sleep 600 & wait"])
        .spawn()
        .expect("a shell can be started");
    let held = loop {
        if let Some(process) = FirstProcess::child_of(shell.id()) {
            break process;
        }
    };
    assert!(held.seen(Path::new("/")).exists());
    let mut bystander = Command::new("sleep")
        .arg("600")
        .spawn()
        .expect("a program can be started");
    held.kill();
    drop(shell.wait());
    assert!(!held.seen(Path::new("/")).exists());
    held.kill();
    assert!(has_not_ended(&mut bystander));
    assert!(FirstProcess::child_of(shell.id()).is_none());
    drop(bystander.kill());
    drop(bystander.wait());
}

fn has_not_ended(child: &mut Child) -> bool {
    matches!(child.try_wait(), Ok(None))
}
