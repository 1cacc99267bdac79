//! Options of `disk { … }`: a volume's backing device, and one peer's replica of it.

use super::{Kind, OptionSpec, Section, Unit, Verdict};
use super::{number, warned, warned_unless};

const DISK: &[Section] = &[Section::Disk];
const DISK_OR_SYNCER: &[Section] = &[Section::Disk, Section::Syncer];
const PEER: &[Section] = &[Section::PeerDisk, Section::Disk, Section::Syncer];
const FLUSHES: &str = "every disk is always flushed where the data's safety asks for it";

pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "size",
        DISK,
        number(0, 1 << 41, Unit::Sectors),
        "0",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "al-extents",
        DISK_OR_SYNCER,
        number(67, 65_534, Unit::Count),
        "6433",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "on-io-error",
        DISK,
        Kind::Choice(&["pass_on", "call-local-io-error", "detach"]),
        "detach",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "disk-barrier",
        DISK,
        Kind::Switch,
        "no",
        warned_unless(&["no"], FLUSHES),
    ),
    OptionSpec::new(
        "disk-flushes",
        DISK,
        Kind::Switch,
        "yes",
        warned_unless(&["yes"], FLUSHES),
    ),
    OptionSpec::new(
        "disk-drain",
        DISK,
        Kind::Switch,
        "yes",
        warned_unless(&["yes"], FLUSHES),
    ),
    OptionSpec::new(
        "md-flushes",
        DISK,
        Kind::Switch,
        "yes",
        warned_unless(&["yes"], FLUSHES),
    ),
    OptionSpec::new(
        "resync-after",
        DISK_OR_SYNCER,
        Kind::Text { longest: 160 },
        "",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "al-updates",
        DISK,
        Kind::Switch,
        "yes",
        warned_unless(
            &["yes"],
            "writes under way are always remembered across a crash",
        ),
    ),
    OptionSpec::new(
        "discard-zeroes-if-aligned",
        DISK,
        Kind::Switch,
        "yes",
        warned("discard and writing zeroes are mirrored as they are asked for"),
    ),
    OptionSpec::new(
        "disable-write-same",
        DISK,
        Kind::Switch,
        "no",
        warned("there is no write-same"),
    ),
    OptionSpec::new(
        "disk-timeout",
        DISK,
        number(0, 6000, Unit::TenthsOfSeconds),
        "300",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "read-balancing",
        DISK,
        Kind::Choice(&[
            "prefer-local",
            "prefer-remote",
            "round-robin",
            "least-pending",
            "when-congested-remote",
            "32K-striping",
            "64K-striping",
            "128K-striping",
            "256K-striping",
            "512K-striping",
            "1M-striping",
        ]),
        "prefer-local",
        warned_unless(&["prefer-local"], "reads are served by the local disk"),
    ),
    OptionSpec::new(
        "rs-discard-granularity",
        DISK,
        number(0, 1 << 20, Unit::Bytes),
        "0",
        warned_unless(&["0"], "resync writes zeroes as zeroes"),
    ),
    OptionSpec::new(
        "max-bio-bvecs",
        DISK,
        number(0, 128, Unit::Count),
        "0",
        warned("there are no kernel requests to limit"),
    )
    .eight(),
    OptionSpec::new(
        "use-bmbv",
        DISK,
        Kind::Switch,
        "no",
        warned("it has had no meaning since DRBD 8.4"),
    )
    .eight(),
    OptionSpec::new(
        "max-bio-size",
        DISK,
        number(512, 1 << 20, Unit::Bytes),
        "1M",
        warned("requests are cut as the exports need it"),
    )
    .nine(),
    OptionSpec::new(
        "block-size",
        DISK,
        number(512, 4096, Unit::Bytes),
        "512",
        warned("the block size follows the disk"),
    )
    .nine(),
    OptionSpec::new(
        "discard-granularity",
        DISK,
        number(0, 128 << 20, Unit::Bytes),
        "",
        warned("the discard granularity follows the disk"),
    )
    .nine(),
    OptionSpec::new(
        "diskless",
        DISK,
        Kind::Switch,
        "no",
        warned_unless(&["no"], "write 'disk none;' for a node without a disk"),
    )
    .nine(),
];

/// Options that hold towards one peer. DRBD 8.4 has them in the resource's `disk` section.
pub(super) const PEER_OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "resync-rate",
        PEER,
        number(1, 8 << 20, Unit::KibiBytes),
        "250",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "c-plan-ahead",
        PEER,
        number(0, 300, Unit::TenthsOfSeconds),
        "",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "c-delay-target",
        PEER,
        number(1, 100, Unit::TenthsOfSeconds),
        "",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "c-fill-target",
        PEER,
        number(0, 1 << 20, Unit::Sectors),
        "",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "c-max-rate",
        PEER,
        number(0, 4 << 20, Unit::KibiBytes),
        "",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "c-min-rate",
        PEER,
        number(0, 4 << 20, Unit::KibiBytes),
        "",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "bitmap",
        PEER,
        Kind::Switch,
        "yes",
        warned_unless(&["yes"], "every peer has a bitmap"),
    )
    .nine(),
    OptionSpec::new(
        "resync-without-replication",
        PEER,
        Kind::Switch,
        "yes",
        warned("writes are mirrored during a resync too"),
    )
    .nine(),
    OptionSpec::new(
        "peer-tiebreaker",
        PEER,
        Kind::Switch,
        "yes",
        warned("there is no quorum to break a tie of"),
    )
    .nine(),
];
