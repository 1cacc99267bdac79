//! What the daemon is told, from the text of a configuration.

use std::path::Path;

use rbd_protocol::control::{MetaDisk, NbdExport, ResyncOptions};
use rbd_protocol::ids::NodeId;

use super::Configuration;

fn read(text: &str) -> Configuration {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rbd.conf");
    std::fs::write(&path, text).unwrap();
    Configuration::read(&path, "alpha").unwrap()
}

#[test]
fn a_whole_resource_keeps_its_meaning_in_other_units() {
    let configuration = read(
        r#"resource r0 {
            net { protocol C; shared-secret "s3"; timeout 60; connect-int 7; ping-int 3;
                  ping-timeout 25; ko-count 4; sndbuf-size 64k; }
            startup { wfc-timeout 30; degr-wfc-timeout 20; outdated-wfc-timeout 10; }
            disk { size 1M; }
            volume 0 { device /dev/drbd1 minor 1; disk /srv/a; meta-disk internal; }
            volume 3 { device minor 7; disk /srv/b; meta-disk /srv/meta[2]; }
            on alpha { node-id 0; address 127.0.0.1:7001; }
            on beta { node-id 5; address 127.0.0.1:7002; }
        }"#,
    );
    let resource = configuration.site.resource("r0").unwrap();
    let config = &resource.config;
    assert_eq!(config.node_name, "alpha");
    assert_eq!(config.listen.as_deref(), Some("127.0.0.1:7001"));
    assert!(
        config.defined_at.ends_with("rbd.conf:1"),
        "{}",
        config.defined_at
    );
    let peer = &config.peers[0];
    assert_eq!((peer.name.as_str(), peer.node_id), ("beta", NodeId(5)));
    assert_eq!(peer.address, "127.0.0.1:7002");
    let net = &peer.net;
    assert_eq!(net.shared_secret.as_deref(), Some("s3"));
    assert_eq!(net.timeout_ms, 6_000);
    assert_eq!(net.connect_interval_ms, 7_000);
    assert_eq!(net.ping_interval_ms, 3_000);
    assert_eq!(net.ping_timeout_ms, 2_500);
    assert_eq!(net.ko_count, 4);
    assert_eq!(net.send_buffer_bytes, 65_536);
    let [first, second] = &config.volumes[..] else {
        panic!("{:?}", config.volumes);
    };
    assert_eq!(first.meta_disk, MetaDisk::Internal);
    assert_eq!(first.size_limit_bytes, Some(1 << 20));
    assert_eq!(first.exports, [NbdExport::Unix]);
    assert_eq!((second.number.0, second.minor), (3, Some(7)));
    let indexed = MetaDisk::External {
        path: "/srv/meta".to_owned(),
        index: Some(2),
    };
    assert_eq!(second.meta_disk, indexed);
    assert_eq!(resource.startup.wfc_timeout, 30);
    assert_eq!(resource.startup.degr_wfc_timeout, 20);
    assert_eq!(resource.startup.outdated_wfc_timeout, 10);
}

/// What these lines in `disk { … }` say of resyncs.
fn limits(disk: &str) -> ResyncOptions {
    let configuration = read(&format!(
        "resource r0 {{ disk {{ {disk} }}
            volume 0 {{ device /dev/drbd1 minor 1; disk /srv/a; meta-disk internal; }}
            on alpha {{ node-id 0; address 127.0.0.1:7001; }}
            on beta {{ node-id 5; address 127.0.0.1:7002; }} }}"
    ));
    assert_eq!(configuration.warnings(), [""; 0]);
    let resource = configuration.site.resource("r0").unwrap();
    let mut written = resource.config.volumes[0].resync.iter();
    let written = written.find(|(node, _)| *node == NodeId(5));
    written.map(|(_, options)| *options).unwrap_or_default()
}

#[test]
fn only_written_limits_of_a_resync_count() {
    let none = ResyncOptions::default();
    assert_eq!(limits(""), none);
    let fixed = ResyncOptions {
        fixed_rate: Some(10 << 20),
        ..none
    };
    assert_eq!(limits("resync-rate 10M;"), fixed);
    assert_eq!(limits("c-plan-ahead 0; resync-rate 10M;"), fixed);
    assert_eq!(limits("c-plan-ahead 20; resync-rate 10M;"), none);
    let default_rate = ResyncOptions {
        fixed_rate: Some(250 << 10),
        ..none
    };
    assert_eq!(limits("c-plan-ahead 0;"), default_rate);
    let bounds = ResyncOptions {
        max_rate: Some(100 << 20),
        min_rate: Some(0),
        ..none
    };
    assert_eq!(limits("c-max-rate 100M; c-min-rate 0;"), bounds);
    assert_eq!(limits("c-max-rate 0;"), none);
    let fill = ResyncOptions {
        fill_bytes: Some(1 << 20),
        ..none
    };
    assert_eq!(limits("c-fill-target 1M; c-delay-target 5;"), fill);
    let delay = ResyncOptions {
        delay_ms: Some(500),
        ..none
    };
    assert_eq!(limits("c-fill-target 0; c-delay-target 5;"), delay);
}

#[test]
fn a_configuration_that_cannot_be_used_tells_its_exit_code() {
    let missing = Configuration::read(Path::new("/nonexistent/rbd.conf"), "alpha");
    assert_eq!(missing.unwrap_err().exit_code(), 20);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("rbd.conf");
    std::fs::write(&path, "resource r0 {").unwrap();
    let broken = Configuration::read(&path, "alpha");
    assert_eq!(broken.unwrap_err().exit_code(), 10);
}
