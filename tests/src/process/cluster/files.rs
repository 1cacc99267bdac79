//! What is installed and configured on each machine.

use std::fs;
use std::path::Path;

use super::room::{NODES, Room};
use super::{Options, binary};

/// Everything a machine has that a stock Debian has not, where packages and administrators put it.
pub(super) fn install(room: &Room, node: usize, options: &Options) {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read =
        |path: &Path| fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    for (file, place) in [
        ("cluster/ocf/rbd", "/usr/lib/ocf/resource.d/rbd/rbd"),
        (
            "cluster/handlers/crm-fence-peer.sh",
            "/usr/lib/rbd/crm-fence-peer.sh",
        ),
        (
            "cluster/handlers/crm-unfence-peer.sh",
            "/usr/lib/rbd/crm-unfence-peer.sh",
        ),
        (
            "cluster/handlers/stonith-peer.sh",
            "/usr/lib/rbd/stonith-peer.sh",
        ),
        ("cluster/fence/fence_rbd", "/usr/sbin/fence_rbd"),
        ("tests/cluster/load", "/usr/lib/ocf/resource.d/test/load"),
        ("tests/cluster/fence_namespace", "/usr/sbin/fence_namespace"),
        ("tests/cluster/outside", "/usr/sbin/outside"),
        ("tests/cluster/systemctl", "/usr/sbin/systemctl"),
        ("tests/cluster/unit", "/usr/sbin/unit"),
    ] {
        room.install(node, place, 0o755, &read(&tree.join(file)));
    }
    for program in ["rbdd", "rbdadm"] {
        let place = format!("/usr/sbin/{program}");
        room.install(node, &place, 0o755, &read(&binary(program)));
    }
    let corosync = if options.cuts_mirror {
        COROSYNC
            .replace("    two_node: 1\n", "")
            .replace("name: alpha\n", "name: alpha\n        quorum_votes: 2\n")
    } else {
        COROSYNC.to_owned()
    };
    room.install(
        node,
        "/etc/corosync/corosync.conf",
        0o644,
        corosync.as_bytes(),
    );
    room.install(node, "/etc/hosts", 0o644, HOSTS.as_bytes());
    room.install(node, "/etc/first-cib.xml", 0o644, CIB.as_bytes());
    let configuration = RBD
        .replace("POLICY", options.policy)
        .replace("HANDLER", options.handler)
        .replace(
            "TWO",
            if options.primaries == 2 {
                "allow-two-primaries yes;"
            } else {
                ""
            },
        );
    room.install(node, "/etc/rbd.conf", 0o644, configuration.as_bytes());
}

/// The ends of what both machines have logged.
pub(super) fn print_logs(room: &Room) {
    for (node, name) in NODES.iter().enumerate() {
        for file in ["boot", "rbdd", "pacemaker/pacemaker"] {
            let path = room.own_file(node, &format!("/var/log/{file}.log"));
            let bytes = fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| !line.contains("info: "))
                .collect();
            let first = lines.len().saturating_sub(LOG_LINES);
            eprintln!("-- {name}: {file}.log\n{}", lines[first..].join("\n"));
        }
    }
}

const HOSTS: &str = "127.0.0.1 localhost\n10.92.1.1 alpha\n10.92.1.2 beta\n";

/// As its manual has it, with a token that is given up soon.
const COROSYNC: &str = "totem {
    version: 2
    cluster_name: test
    transport: knet
    token: 1000
    crypto_cipher: none
    crypto_hash: none
}
nodelist {
    node {
        nodeid: 1
        name: alpha
        ring0_addr: 10.92.1.1
    }
    node {
        nodeid: 2
        name: beta
        ring0_addr: 10.92.1.2
    }
}
quorum {
    provider: corosync_votequorum
    two_node: 1
}
system {
    sched_rr: no
}
logging {
    to_logfile: yes
    logfile: /var/log/corosync.log
    to_syslog: no
    to_stderr: no
    timestamp: on
}
";

/// What the first coordinator waits for is nobody: both machines are switched on at once.
const CIB: &str = "\
<cib validate-with=\"pacemaker-3.7\" epoch=\"1\" num_updates=\"0\" admin_epoch=\"0\">\
<configuration>\
<crm_config><cluster_property_set id=\"cib-bootstrap-options\">\
<nvpair id=\"dc-deadtime\" name=\"dc-deadtime\" value=\"3s\"/></cluster_property_set></crm_config>\
<nodes/><resources/><constraints/></configuration><status/></cib>\n";

const RBD: &str = r#"common {
  export { nbd unix; kernel none; }
}
resource r0 {
  net {
    protocol C;
    cram-hmac-alg sha256;
    shared-secret "between the two of us";
    fencing POLICY;
    TWO
  }
  handlers {
    fence-peer   "/usr/lib/rbd/HANDLER";
    unfence-peer "/usr/lib/rbd/crm-unfence-peer.sh";
  }
  on alpha {
    node-id 0;
    address 10.92.2.1:7789;
    volume 0 { device minor 1; disk /disks/alpha/disk; meta-disk internal; }
  }
  on beta {
    node-id 1;
    address 10.92.2.2:7789;
    volume 0 { device minor 1; disk /disks/beta/disk; meta-disk internal; }
  }
}
"#;

/// The recipe of `cluster/README.md`, with shorter intervals, and the client where a file system
/// is there.
pub(super) fn resource(options: &Options) -> String {
    let mut words = RESOURCE.replace("PRIMARIES", &options.primaries.to_string());
    if options.cuts_mirror {
        words = words.replace(
            "stonith:fence_namespace params pcmk_host_list=beta port=beta pcmk_delay_base=2s",
            "stonith:fence_rbd params pcmk_host_list=beta timeout=15",
        );
        // Else beta, without quorum, might have left in order before it is cut off.
        words = words.replace("no-quorum-policy=stop", "no-quorum-policy=freeze");
        assert!(words.contains("fence_rbd"), "{words}");
    }
    if options.primaries == 2 {
        // A second Primary that cannot be stopped is waited for to the end.
        words = words.replace("stop timeout=100s", "stop timeout=20s");
        words = words.replace("demote timeout=90s", "demote timeout=20s");
    }
    words
}

/// What uses it, where one node is Primary or where two are.
pub(super) fn client(options: &Options) -> &'static str {
    if options.primaries == 1 {
        CLIENT
    } else {
        CLIENTS
    }
}

/// The power switches of both machines alone.
pub(super) fn switches() -> String {
    let (switches, rest) = RESOURCE
        .split_once("primitive p_rbd")
        .unwrap_or((RESOURCE, ""));
    let property = rest.find("property").map_or("", |at| &rest[at..]);
    format!("{switches}{property}")
}

const RESOURCE: &str = "\
primitive st_alpha stonith:fence_namespace \
    params pcmk_host_list=alpha port=alpha op monitor interval=60s
primitive st_beta stonith:fence_namespace \
    params pcmk_host_list=beta port=beta pcmk_delay_base=2s op monitor interval=60s
location st_alpha_elsewhere st_alpha -inf: alpha
location st_beta_elsewhere st_beta -inf: beta
primitive p_rbd ocf:rbd:rbd params resource=r0 \
    op start timeout=240s op stop timeout=100s op promote timeout=180s op demote timeout=90s \
    op notify timeout=90s \
    op monitor interval=5s role=Unpromoted timeout=20s \
    op monitor interval=3s role=Promoted timeout=20s
clone c_rbd p_rbd meta promotable=true promoted-max=PRIMARIES promoted-node-max=1 clone-max=2 \
    clone-node-max=1 notify=true interleave=true
property stonith-enabled=true stonith-timeout=20s no-quorum-policy=stop
";

const CLIENT: &str = "\
primitive p_load ocf:test:load \
    op start timeout=60s op stop timeout=60s op monitor interval=3s timeout=20s
colocation load_with_r0 inf: p_load c_rbd:Promoted
order r0_before_load Mandatory: c_rbd:promote p_load:start
";

/// What cannot be stopped while I/O is frozen is not waited for long.
const CLIENTS: &str = "\
primitive p_load ocf:test:load \
    op start timeout=60s op stop timeout=15s op monitor interval=3s timeout=20s
clone c_load p_load meta clone-max=2 clone-node-max=1 interleave=true
colocation load_with_r0 inf: c_load c_rbd:Promoted
order r0_before_load Mandatory: c_rbd:promote c_load:start
";

const LOG_LINES: usize = 40;
