//! What one node is told to do: inheritance, defaults, node ids, addresses, exports.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rbd_protocol::control::{DiskTrouble, OnIoError};
use rbd_protocol::ids::{NodeId, VolumeNumber};
use rbdadm::config::{
    self, Config, Diagnostics, KernelExport, MemoryFiles, MetaDisk, NbdListen, ResolvedResource,
};

fn corpus(name: &str) -> Config {
    let path = Path::new("tests/corpus/good").join(name);
    config::load(&path).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn text(text: &str) -> Result<Config, Diagnostics> {
    config::load_text(&MemoryFiles::default(), "test.res", text.into())
}

fn only(config: &Config, node: &str) -> ResolvedResource {
    let mut resolved = config
        .resolve(node)
        .unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(resolved.len(), 1);
    resolved.remove(0)
}

/// A resource with two hosts and something more in it.
fn with(more: &str) -> String {
    format!(
        "resource r0 {{ {more} device minor 0; disk /dev/sda1; meta-disk internal; \
         on alpha {{ address 10.0.0.1:7789; }} on beta {{ address 10.0.0.2:7789; }} }}"
    )
}

#[test]
fn both_hosts_of_a_pair_see_each_other_mirrored() {
    let config = corpus("two-hosts-9.res");
    let alpha = only(&config, "alpha");
    let beta = only(&config, "beta");
    assert_eq!(alpha.own.node_id, NodeId(0));
    assert_eq!(beta.own.node_id, NodeId(1));
    assert_eq!(alpha.peers[0].name, "beta");
    assert_eq!(alpha.peers[0].node_id, NodeId(1));
    assert_eq!(alpha.peers[0].address, "10.0.0.2:7789".parse().unwrap());
    assert_eq!(alpha.peers[0].own_address, "10.0.0.1:7789".parse().unwrap());
    assert_eq!(beta.peers[0].own_address, alpha.peers[0].address);
    assert_eq!(beta.peers[0].address, alpha.peers[0].own_address);
    assert_eq!(beta.volumes, alpha.volumes);
    assert_eq!(alpha.defined_at.line, 2);
}

#[test]
fn without_node_ids_two_hosts_are_numbered_in_the_order_of_the_file() {
    let config = corpus("two-hosts-84.res");
    assert_eq!(only(&config, "alpha").own.node_id, NodeId(0));
    let beta = only(&config, "beta");
    assert_eq!(beta.own.node_id, NodeId(1));
    assert_eq!(beta.peers[0].node_id, NodeId(0));
    assert_eq!(beta.volumes[0].disk, Some(PathBuf::from("/dev/sdb7")));
    assert_eq!(
        (beta.volumes[0].number, beta.volumes[0].minor),
        (VolumeNumber(0), 3)
    );
}

#[test]
fn a_host_completes_the_volumes_the_resource_begins() {
    let beta = only(&corpus("volumes-per-host.res"), "beta");
    let [zero, seven] = beta.volumes.as_slice() else {
        panic!("{:?}", beta.volumes)
    };
    assert_eq!(zero.disk, Some(PathBuf::from("/dev/nvme0n1p1")));
    assert_eq!(zero.device, PathBuf::from("/dev/drbd20"));
    assert_eq!(zero.meta_disk, MetaDisk::Internal);
    assert_eq!(seven.number, VolumeNumber(7));
    assert_eq!(seven.meta_disk, MetaDisk::External("/dev/nvme1n1".into()));
}

#[test]
fn metadata_is_internal_when_nothing_is_said() {
    let config = text(&with("").replace("meta-disk internal;", "")).unwrap();
    assert_eq!(
        only(&config, "alpha").volumes[0].meta_disk,
        MetaDisk::Internal
    );
}

#[test]
fn a_slot_of_a_metadata_device_keeps_its_number() {
    let alpha = only(&corpus("indexed-meta-disk.res"), "alpha");
    let meta_disks: Vec<&MetaDisk> = alpha.volumes.iter().map(|one| &one.meta_disk).collect();
    let slot = |index| MetaDisk::Indexed("/dev/sdg".into(), index);
    assert_eq!(meta_disks, [&slot(0), &slot(1)]);
}

#[test]
fn inner_sections_win_over_outer_ones_option_by_option() {
    let config = corpus("common-inherited.conf");
    let resolved = config.resolve("alpha").unwrap();
    let [inherits, overrides] = resolved.as_slice() else {
        panic!("{resolved:?}")
    };
    let (common, own) = (&inherits.peers[0].net, &overrides.peers[0].net);
    assert_eq!((common.timeout_tenths, own.timeout_tenths), (90, 60));
    assert_eq!(
        (common.ping_timeout_tenths, own.ping_timeout_tenths),
        (30, 30)
    );
    assert_eq!(common.send_buffer_bytes, 512 << 10);
    assert_eq!(inherits.volumes[0].al_extents, 3389);
    assert_eq!(overrides.volumes[0].al_extents, 6433);
    assert_eq!(config.resolve("beta").unwrap()[1].volumes[0].al_extents, 67);
    assert_eq!(
        (
            inherits.startup.wait_seconds,
            overrides.startup.wait_seconds
        ),
        (60, 0)
    );
    assert_eq!(overrides.startup.outdated_wait_seconds, 20);
    assert_eq!(overrides.volumes[0].kernel, KernelExport::None);
}

#[test]
fn what_is_not_set_has_its_default() {
    let alpha = only(&text(&with("")).unwrap(), "alpha");
    let net = &alpha.peers[0].net;
    assert_eq!(net.protocol, "C");
    assert_eq!(net.timeout_tenths, 60);
    assert_eq!(net.connect_interval_seconds, 10);
    assert_eq!(net.ping_interval_seconds, 1);
    assert_eq!(net.ping_timeout_tenths, 20);
    assert_eq!(net.ko_count, 7);
    assert!(!net.allow_two_primaries);
    assert_eq!(net.shared_secret, None);
    let volume = &alpha.volumes[0];
    assert_eq!(volume.al_extents, 6433);
    assert_eq!(volume.size_limit_bytes, None);
    assert_eq!(volume.nbd, [NbdListen::Unix]);
    assert_eq!(volume.kernel, KernelExport::Auto);
    assert_eq!(alpha.startup.wait_seconds, 0);
}

#[test]
fn units_are_converted_to_what_the_option_counts() {
    let config = corpus("units.res");
    let (alpha, beta) = (only(&config, "alpha"), only(&config, "beta"));
    assert_eq!(alpha.volumes[0].size_limit_bytes, Some(512 << 30));
    assert_eq!(beta.volumes[0].size_limit_bytes, Some(1 << 30));
    assert_eq!(alpha.peers[0].net.send_buffer_bytes, 1 << 20);
    assert_eq!(alpha.peers[0].net.receive_buffer_bytes, 1 << 20);
    assert_eq!(alpha.peers[0].net.written["max-buffers"], "8K");
}

#[test]
fn every_pair_of_a_mesh_is_connected() {
    let config = corpus("mesh-three-hosts.res");
    for (node, peers) in [("alpha", [1, 2]), ("beta", [0, 2]), ("gamma", [0, 1])] {
        let resolved = only(&config, node);
        let found: Vec<u8> = resolved.peers.iter().map(|peer| peer.node_id.0).collect();
        assert_eq!(found, peers);
        assert!(
            resolved
                .peers
                .iter()
                .all(|peer| peer.net.ping_interval_seconds == 3)
        );
    }
}

#[test]
fn a_connection_has_its_own_addresses_and_options() {
    let config = corpus("connections-three-hosts.res");
    let alpha = only(&config, "alpha");
    let [beta, gamma] = alpha.peers.as_slice() else {
        panic!("{:?}", alpha.peers)
    };
    assert_eq!((beta.name.as_str(), beta.node_id), ("beta", NodeId(7)));
    assert_eq!(beta.connection_name.as_deref(), Some("near"));
    assert_eq!(beta.address, "10.0.0.2:7011".parse().unwrap());
    assert_eq!(beta.net.timeout_tenths, 30);
    assert_eq!(beta.net.connect_interval_seconds, 15);
    assert_eq!(gamma.own_address, "10.9.0.1:7002".parse().unwrap());
    assert_eq!((gamma.net.timeout_tenths, gamma.net.ko_count), (120, 3));
    let gamma = only(&config, "gamma");
    assert_eq!(gamma.own.address, None);
    assert_eq!(gamma.peers[1].name, "beta");
    assert_eq!(gamma.peers[1].own_address, "10.8.0.3:7003".parse().unwrap());
    assert_eq!(gamma.peers[1].net.timeout_tenths, 50);
}

#[test]
fn a_host_without_a_disk_is_known_as_such_to_its_peers() {
    let config = corpus("diskless-third-host.res");
    let alpha = only(&config, "alpha");
    assert_eq!(alpha.peers[0].diskless, []);
    assert_eq!(alpha.peers[1].diskless, [VolumeNumber(0)]);
    assert_eq!(only(&config, "gamma").volumes[0].disk, None);
}

#[test]
fn a_floating_host_is_the_machine_that_has_its_address() {
    let config = corpus("floating.res");
    let eight: IpAddr = "198.51.100.8".parse().unwrap();
    let resolved = config
        .resolve_with("whatever", &|address| address == eight)
        .unwrap();
    assert_eq!(resolved[0].own.name, "198.51.100.8:7788");
    assert_eq!(resolved[0].own.node_id, NodeId(1));
    assert_eq!(
        resolved[0].volumes[0].disk,
        Some(PathBuf::from("/dev/mapper/lun4"))
    );
    assert_eq!(resolved[0].peers[0].name, "198.51.100.7:7788");
    let both = config.resolve_with("whatever", &|_| true).unwrap_err();
    assert!(
        both.list()[0]
            .message
            .contains("two hosts of resource floating")
    );
    let neither = config.resolve_with("whatever", &|_| false).unwrap_err();
    assert!(neither.list()[0].message.contains("host of no resource"));
    let named = config
        .resolve_with("198.51.100.7:7788", &|_| false)
        .unwrap();
    assert_eq!(named[0].own.node_id, NodeId(0));
}

#[test]
fn a_shared_host_section_has_one_name_towards_the_peers() {
    let config = corpus("shared-host-section.res");
    assert_eq!(only(&config, "left-b").own.name, "left-a");
    assert_eq!(only(&config, "right").peers[0].name, "left-a");
}

#[test]
fn an_ipv6_address_keeps_its_scope() {
    let alpha = only(&corpus("ipv6.res"), "alpha");
    assert_eq!(
        alpha.own.address,
        Some("[2001:db8::1]:7789".parse().unwrap())
    );
    assert_eq!(alpha.peers[0].address, "[fe80::2%3]:7789".parse().unwrap());
}

#[test]
fn the_innermost_export_that_names_a_kind_replaces_the_outer_ones() {
    let config = corpus("export.res");
    let alpha = only(&config, "alpha");
    let tcp = |address: &str| NbdListen::Tcp(address.parse().unwrap());
    assert_eq!(alpha.volumes[0].nbd, [tcp("10.0.0.1:10809")]);
    assert_eq!(alpha.volumes[1].nbd, [NbdListen::Unix]);
    assert_eq!(alpha.volumes[1].kernel, KernelExport::None);
    assert_eq!(alpha.volumes[2].kernel, KernelExport::Auto);
    let beta = only(&config, "beta");
    assert_eq!(
        beta.volumes[0].nbd,
        [tcp("[::1]:10809"), tcp("10.0.0.2:10809")]
    );
}

#[test]
fn a_stacked_resource_is_left_alone_on_all_its_nodes() {
    let config = corpus("stacked.res");
    assert_eq!(only(&config, "alpha").name, "r0");
    assert_eq!(config.resolve("gamma").unwrap(), []);
}

#[test]
fn a_template_takes_the_place_of_common_for_its_resource() {
    let resolved = corpus("template.conf").resolve("alpha").unwrap();
    let [templated, plain] = resolved.as_slice() else {
        panic!("{resolved:?}")
    };
    let net = &templated.peers[0].net;
    assert_eq!((net.timeout_tenths, net.ping_interval_seconds), (60, 10));
    assert_eq!(plain.peers[0].net.timeout_tenths, 40);
}

#[test]
fn old_spellings_land_where_they_belong_today() {
    let config = corpus("legacy-83.conf");
    let alpha = only(&config, "alpha");
    assert_eq!(alpha.volumes[0].al_extents, 257);
    assert_eq!(alpha.volumes[0].written["disk-flushes"], "no");
    assert_eq!(
        alpha.volumes[0].meta_disk,
        MetaDisk::External("/dev/hda6".into())
    );
    assert_eq!(
        alpha.handlers["fence-peer"],
        "/usr/lib/drbd/outdate-peer.sh"
    );
    assert_eq!(alpha.startup.degraded_wait_seconds, 120);
    assert_eq!(
        only(&config, "beta").volumes[0].meta_disk,
        MetaDisk::Internal
    );
}

#[test]
fn a_shared_secret_is_read_but_never_shown() {
    let resolved = corpus("authentication.res").resolve("alpha").unwrap();
    let net = &resolved[0].peers[0].net;
    let secret = net.shared_secret.as_ref().unwrap();
    assert_eq!(secret.0, "s3cr3t \" \\ quoted");
    assert!(!format!("{resolved:?}").contains("s3cr3t"));
    assert_eq!(resolved[1].warnings.len(), 1);
}

#[test]
fn what_is_skipped_has_no_effect() {
    let alpha = only(&corpus("skipped.res"), "alpha");
    assert_eq!((alpha.name.as_str(), alpha.peers.len()), ("stays", 1));
}

#[test]
fn a_node_in_no_resource_is_told_who_is() {
    let config = corpus("two-hosts-9.res");
    let wrong = config.resolve("alfa.example.com").unwrap_err();
    let message = &wrong.list()[0];
    assert!(
        message.message.ends_with("the hosts are: alpha, beta"),
        "{}",
        message.message
    );
    assert_eq!(message.help.as_deref(), Some("did you mean 'alpha'?"));
}

#[test]
fn a_configuration_without_resources_asks_nothing_of_any_node() {
    assert_eq!(corpus("empty.conf").resolve("anybody").unwrap(), []);
}

#[test]
fn a_resource_alone_on_its_host_has_no_peers() {
    assert_eq!(only(&corpus("single-host.res"), "alpha").peers, []);
}

#[test]
fn an_option_without_effect_is_named_once_however_often_it_is_set() {
    let config = text(&with(
        "net { use-rle yes; } net { no-use-rle; } \
         disk { disable-write-same no; disable-write-same yes; }",
    ))
    .unwrap();
    let messages: Vec<&str> = config
        .warnings()
        .list()
        .iter()
        .map(|one| one.message.as_str())
        .collect();
    let naming = |name: &str| messages.iter().filter(|one| one.contains(name)).count();
    assert_eq!(naming("option 'use-rle'"), 1);
    assert_eq!(naming("option 'disable-write-same'"), 1);
    assert_eq!(naming("is set more than once"), 2);
    let alpha = only(&config, "alpha");
    assert_eq!(alpha.volumes[0].written["disable-write-same"], "yes");
    assert_eq!(alpha.warnings.len(), 2, "{:?}", alpha.warnings);
}

#[test]
fn printing_uses_the_layout_of_drbd() {
    let printed = corpus("explicit-volumes.res")
        .dump("alpha", &["db"])
        .unwrap();
    let expected = "\
# resource db on alpha: not ignored, not stacked
# defined at tests/corpus/good/explicit-volumes.res:1
resource db {
    volume 0 {
        device           /dev/drbd10 minor 10;
        disk             /dev/vg0/db-data;
        meta-disk        internal;
    }
    volume 1 {
        device           /dev/drbd11 minor 11;
        disk             /dev/vg0/db-log;
        meta-disk        /dev/vg0/db-log-md;
        disk {
            al-extents       1237;
            size             10G;
        }
    }
    on alpha {
        node-id          0;
        address          ipv4 10.0.0.1:7790;
    }
    on beta {
        node-id          1;
        address          ipv4 10.0.0.2:7790;
    }
}

";
    assert_eq!(printed, expected);
    let elsewhere = corpus("explicit-volumes.res")
        .dump("gamma", &["db"])
        .unwrap();
    assert!(elsewhere.starts_with("# resource db on gamma: ignored, not stacked\n"));
}

#[test]
fn printing_an_unknown_resource_names_it_and_the_nearest() {
    let unknown = corpus("two-hosts-84.res")
        .dump("alpha", &["mial"])
        .unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "'mial' not defined in your config (for this host)."
    );
    assert_eq!(unknown.nearest.as_deref(), Some("mail"));
}

#[test]
fn a_peer_behind_address_translation_is_reached_at_its_outside_address() {
    let config = corpus("translated-address.res");
    let alpha = only(&config, "alpha.example.com");
    assert_eq!(
        alpha.peers[0].own_address,
        "10.43.10.50:7000".parse().unwrap()
    );
    assert_eq!(
        alpha.peers[0].address,
        "192.168.17.20:7000".parse().unwrap()
    );
    assert_eq!(alpha.volumes[1].disk, None);
}

#[test]
fn a_name_with_or_without_its_domain_is_the_same_host_while_only_one_fits() {
    let config = corpus("translated-address.res");
    for name in ["alpha", "alpha.example.com"] {
        assert_eq!(only(&config, name).own.name, "alpha.example.com");
    }
    assert_eq!(only(&config, "beta.elsewhere.org").own.name, "beta");
    assert!(config.resolve("alpha.elsewhere.org").is_err());
    assert!(config.resolve("alph").is_err());
    let both = with("")
        .replace("on alpha", "on a.x")
        .replace("on beta", "on a.y");
    let both = text(&both).unwrap();
    assert!(both.resolve("a").is_err());
    assert_eq!(only(&both, "a.y").own.node_id, NodeId(1));
}

#[test]
fn what_a_disks_trouble_leads_to_is_taken_from_its_options() {
    let plain = only(&text(&with("")).unwrap(), "alpha");
    assert_eq!(plain.volumes[0].on_disk_trouble, DiskTrouble::default());
    for (word, on_error) in [
        ("detach", OnIoError::Detach),
        ("pass_on", OnIoError::PassOn),
        ("call-local-io-error", OnIoError::CallHandler),
    ] {
        let section = format!("disk {{ on-io-error {word}; disk-timeout 25; }}");
        let set = only(&text(&with(&section)).unwrap(), "alpha");
        let timeout_ms = 2_500;
        let expected = DiskTrouble {
            on_error,
            timeout_ms,
        };
        assert_eq!(set.volumes[0].on_disk_trouble, expected);
    }
}

#[test]
fn two_primaries_are_printed_as_the_agent_of_pacemaker_looks_for_them() {
    let lines = "net { allow-two-primaries; fencing resource-and-stonith; }";
    let config = text(&with(lines)).unwrap();
    let printed = config.dump("alpha", &[]).unwrap();
    let found = printed
        .lines()
        .any(|line| line.trim_start() == "allow-two-primaries yes;");
    assert!(found, "{printed}");
}
