//! What is in both packages: where each file comes from, where it goes, and its mode.
//!
//! Nothing of what only one of the packages has.

/// Where each file of the repository goes, and its mode. What is below `etc` is the administrator's
/// afterwards.
pub(super) const FILES: &[(&str, &str, u32)] = &[
    ("cluster/ocf/rbd", "usr/lib/ocf/resource.d/rbd/rbd", 0o755),
    (
        "cluster/handlers/crm-fence-peer.sh",
        "usr/lib/rbd/crm-fence-peer.sh",
        0o755,
    ),
    (
        "cluster/handlers/crm-unfence-peer.sh",
        "usr/lib/rbd/crm-unfence-peer.sh",
        0o755,
    ),
    ("cluster/fence/fence_rbd", "usr/sbin/fence_rbd", 0o755),
    (
        "cluster/handlers/stonith-peer.sh",
        "usr/lib/rbd/stonith-peer.sh",
        0o755,
    ),
    (
        "cluster/handlers/snapshot-resync-target-lvm.sh",
        "usr/lib/rbd/snapshot-resync-target-lvm.sh",
        0o755,
    ),
    (
        "cluster/udev/is-backing-disk",
        "usr/lib/rbd/is-backing-disk",
        0o755,
    ),
    (
        "cluster/udev/61-rbd-backing.rules",
        "usr/lib/udev/rules.d/61-rbd-backing.rules",
        0o644,
    ),
    (
        "cluster/systemd/rbdd.service",
        "usr/lib/systemd/system/rbdd.service",
        0o644,
    ),
    (
        "cluster/systemd/rbd@.service",
        "usr/lib/systemd/system/rbd@.service",
        0o644,
    ),
    (
        "cluster/systemd/rbd@.target",
        "usr/lib/systemd/system/rbd@.target",
        0o644,
    ),
    (
        "cluster/systemd/rbd-promote@.service",
        "usr/lib/systemd/system/rbd-promote@.service",
        0o644,
    ),
    (
        "cluster/etc/modules-load.conf",
        "usr/lib/modules-load.d/rbdd.conf",
        0o644,
    ),
    ("cluster/etc/rbd.conf", "etc/rbd.conf", 0o640),
    (
        "cluster/etc/global_common.conf",
        "etc/rbd.d/global_common.conf",
        0o640,
    ),
    ("docs/running.md", "usr/share/doc/rbd/running.md", 0o644),
    ("docs/rbdadm.md", "usr/share/doc/rbd/rbdadm.md", 0o644),
    (
        "docs/configuration.md",
        "usr/share/doc/rbd/configuration.md",
        0o644,
    ),
    ("cluster/README.md", "usr/share/doc/rbd/cluster.md", 0o644),
    ("LICENSE-MIT", "usr/share/doc/rbdd/copyright", 0o644),
    ("LICENSE-APACHE", "usr/share/doc/rbdd/LICENSE-APACHE", 0o644),
];

/// Crate and example that print a manual page, and where it goes.
pub(super) const MANUALS: &[(&str, &str, &str)] = &[
    ("rbdadm", "rbdadm-man", "usr/share/man/man8/rbdadm.8"),
    ("rbd-replicator", "rbdd-man", "usr/share/man/man8/rbdd.8"),
];

/// Shells and where they look for completions.
pub(super) const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "usr/share/bash-completion/completions/rbdadm"),
    ("fish", "usr/share/fish/vendor_completions.d/rbdadm.fish"),
    ("zsh", "usr/share/zsh/vendor-completions/_rbdadm"),
];
