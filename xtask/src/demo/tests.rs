//! The demo's own parts, without daemons.

use std::io::{self, Cursor};

use super::application::Application;
use super::pattern::{Chance, first_difference, stamped};
use super::status::Seen;
use super::{is_daemon_in, janitor};

const HEALTHY: &str = r#"{"schema_version":1,"resources":[{"name":"r0","role":"Primary",
    "devices":[{"volume":0,"disk-state":"UpToDate","size":65488}],
    "connections":[{"name":"beta","connection-state":"Connected","peer_devices":[
        {"volume":0,"replication-state":"Established","peer-disk-state":"UpToDate",
         "percent-in-sync":100.00}]}]}]}"#;

#[test]
fn a_healthy_status_is_in_sync() {
    let seen = Seen::parse(HEALTHY, "r0").unwrap();
    assert!(seen.is_in_sync());
    assert_eq!(seen.size, 65488 * 1024);
    assert_eq!(seen.role, "Primary");
}

#[test]
fn a_resync_or_a_lost_peer_is_not_in_sync() {
    let resync = HEALTHY.replace("Established", "SyncSource");
    assert!(!Seen::parse(&resync, "r0").unwrap().is_in_sync());
    let lost = HEALTHY.replace("Connected", "Connecting");
    let lost = Seen::parse(&lost, "r0").unwrap();
    assert!(!lost.is_in_sync() && !lost.is_connected());
}

#[test]
fn a_status_of_another_kind_is_refused() {
    assert!(Seen::parse("r0 role:Primary", "r0").is_err());
    assert!(Seen::parse(HEALTHY, "r1").is_err());
    assert!(Seen::parse(&HEALTHY.replace(":1,", ":2,"), "r0").is_err());
}

#[test]
fn stamped_bytes_differ_by_place_and_by_version() {
    let whole = stamped(1, 0, 8192);
    assert_eq!(stamped(1, 4096, 4096).len(), 4096);
    assert_ne!(stamped(1, 4096, 4096), whole[..4096]);
    assert_ne!(stamped(2, 0, 8192), whole);
    assert_eq!(stamped(1, 0, 5), whole[..5]);
}

#[test]
fn the_first_difference_is_found() {
    assert_eq!(first_difference(b"abc", b"abc"), None);
    assert_eq!(first_difference(b"abc", b"abx"), Some(2));
    assert_eq!(first_difference(b"abc", b"ab"), Some(2));
}

#[test]
fn chance_stays_below_its_limit() {
    let mut chance = Chance::new(7);
    assert!((0..1000).all(|_| chance.below(10) < 10));
    assert_eq!(chance.below(0), 0);
}

#[test]
fn an_unanswered_write_counts_only_where_the_device_has_it() {
    let mut application = Application::new(vec![0; 1 << 20]);
    let mut client = broken_client();
    assert!(application.write(&mut client).is_err());
    assert!(application.image().iter().all(|byte| *byte == 0));
    // The device kept what was there before.
    application.settle(&vec![0; 1 << 20]);
    assert!(application.image().iter().all(|byte| *byte == 0));
}

#[test]
fn only_daemons_in_the_demos_directory_are_the_demos() {
    let directory = "/tmp/rbd-demo-abc";
    assert!(is_daemon_in(
        "/t/rbdd\0--run-dir\0/tmp/rbd-demo-abc/alpha/run\0",
        directory
    ));
    assert!(!is_daemon_in("/t/rbdd\0--run-dir\0/run/rbd\0", directory));
    assert!(!is_daemon_in(
        "tail\0-f\0/tmp/rbd-demo-abc/alpha/rbdd.log\0",
        directory
    ));
    assert!(!is_daemon_in("", directory));
}

#[test]
fn the_janitor_wants_a_directory() {
    assert!(janitor(&[]).is_err());
}

/// A client whose server greets, opens a device of 1 MiB and is then gone.
fn broken_client() -> crate::nbd_client::Client<OneWay> {
    let mut said = b"NBDMAGICIHAVEOPT\0\x03".to_vec();
    for (kind, data) in [(3_u32, &b"\0\0\0\0\0\0\0\x10\0\0\0\x01"[..]), (1, b"")] {
        said.extend(0x0003_e889_0455_65a9_u64.to_be_bytes());
        said.extend(7_u32.to_be_bytes());
        said.extend(kind.to_be_bytes());
        said.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
        said.extend(data);
    }
    crate::nbd_client::Client::negotiate(OneWay(Cursor::new(said)), "r0/0").unwrap()
}

/// A stream that says what it has to say and swallows everything else.
#[derive(Debug)]
struct OneWay(Cursor<Vec<u8>>);

impl io::Read for OneWay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for OneWay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
