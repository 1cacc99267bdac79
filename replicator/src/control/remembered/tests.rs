//! What is read of files that this program has written, and of others.

use std::fs;

use rbd_protocol::control::{ResourceConfig, ResourceOptions, frame};
use rbd_protocol::ids::NodeId;

use super::{Found, Remembered};

fn config(name: &str) -> ResourceConfig {
    ResourceConfig {
        name: name.to_owned(),
        defined_at: "r0.res:1".to_owned(),
        config_path: "/etc/other.conf".to_owned(),
        node_name: "alpha".to_owned(),
        node_id: NodeId(0),
        listen: None,
        peers: Vec::new(),
        volumes: Vec::new(),
        options: ResourceOptions::default(),
        handlers: Vec::new(),
    }
}

fn other(name: &str, config: Option<&str>) -> Found {
    Found::Other {
        name: name.to_owned(),
        config: config.map(Into::into),
    }
}

#[test]
fn what_is_kept_is_found_until_it_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let remembered = Remembered::open(directory.path()).unwrap();
    remembered.keep(&config("r1"));
    remembered.keep(&config("r0"));
    let both = ["r0", "r1"].map(|name| Found::Config(Box::new(config(name))));
    assert_eq!(remembered.all(), both);
    remembered.forget("r0");
    assert_eq!(remembered.all(), [Found::Config(Box::new(config("r1")))]);
}

#[test]
fn a_configuration_laid_out_in_another_way_is_not_read_but_its_resource_is_known() {
    let directory = tempfile::tempdir().unwrap();
    let remembered = Remembered::open(directory.path()).unwrap();
    remembered.keep(&config("r0"));
    let file = directory.path().join("resources/r0");
    let bytes = fs::read(&file).unwrap();
    let mut changed = bytes.clone();
    changed[b"layout ".len()] ^= 1;
    fs::write(&file, changed).unwrap();
    assert_eq!(remembered.all(), [other("r0", Some("/etc/other.conf"))]);
    // Whatever a version without these lines has written.
    fs::write(&file, frame::encode(&config("r0")).unwrap()).unwrap();
    assert_eq!(remembered.all(), [other("r0", None)]);
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(remembered.all(), [other("r0", Some("/etc/other.conf"))]);
}

#[test]
fn a_file_of_another_name_is_not_taken_for_its_resource() {
    let directory = tempfile::tempdir().unwrap();
    let remembered = Remembered::open(directory.path()).unwrap();
    remembered.keep(&config("r0"));
    let files = directory.path().join("resources");
    fs::rename(files.join("r0"), files.join("r7")).unwrap();
    assert_eq!(remembered.all(), [other("r7", Some("/etc/other.conf"))]);
}

#[test]
fn what_was_being_written_when_the_daemon_died_is_no_resource() {
    let directory = tempfile::tempdir().unwrap();
    let remembered = Remembered::open(directory.path()).unwrap();
    fs::write(directory.path().join("resources/.new-r0"), "half").unwrap();
    assert_eq!(remembered.all(), []);
}

#[test]
fn a_configuration_that_is_no_longer_in_force_is_not_brought_up_again() {
    let directory = tempfile::tempdir().unwrap();
    let remembered = Remembered::open(directory.path()).unwrap();
    remembered.keep(&config("r0"));
    // The next one cannot be written, as on a file system that is full.
    fs::create_dir(directory.path().join("resources/.new-r0")).unwrap();
    let mut adjusted = config("r0");
    adjusted.listen = Some("192.0.2.1:7788".to_owned());
    remembered.keep(&adjusted);
    assert_eq!(remembered.all(), [other("r0", Some("/etc/other.conf"))]);
}
