//! Options of `net { … }`: the link to a peer.

use super::{Kind, OptionSpec, Section, Unit, Verdict};
use super::{number, refused_unless, warned, warned_unless};

const NET: &[Section] = &[Section::Net];
const NET_OR_SYNCER: &[Section] = &[Section::Net, Section::Syncer];
const VIOLENTLY: &str = "a Primary's data is never replaced while clients use it";
const CONGESTION: &str = "a slow link always makes writes wait";
const TRANSPORT: &str = "the link is always TCP";
const NO_TLS: &str = "it needs 'tls yes', which is not available";

pub(super) const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "protocol",
        NET,
        Kind::Choice(&["A", "B", "C"]),
        "C",
        refused_unless(
            &["C"],
            "only protocol C exists: a write is completed when both disks have it",
        ),
    ),
    OptionSpec::new(
        "timeout",
        NET,
        number(1, 600, Unit::TenthsOfSeconds),
        "60",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "connect-int",
        NET,
        number(1, 120, Unit::Seconds),
        "10",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "ping-int",
        NET,
        number(1, 120, Unit::Seconds),
        "1",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "ping-timeout",
        NET,
        number(1, 300, Unit::TenthsOfSeconds),
        "20",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "ko-count",
        NET,
        number(0, 200, Unit::Count),
        "7",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "shared-secret",
        NET,
        Kind::Text { longest: 64 },
        "",
        Verdict::Implemented,
    ),
    OptionSpec::new("cram-hmac-alg", NET, Kind::Digest, "", Verdict::Implemented),
    OptionSpec::new(
        "sndbuf-size",
        NET,
        number(0, 128 << 20, Unit::Bytes),
        "0",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "rcvbuf-size",
        NET,
        number(0, 128 << 20, Unit::Bytes),
        "0",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "allow-two-primaries",
        NET,
        Kind::Switch,
        "no",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "allow-two-primaries-without-fencing",
        NET,
        Kind::Switch,
        "no",
        Verdict::Implemented,
    )
    .ours(),
    OptionSpec::new(
        "fencing",
        &[Section::Net, Section::Disk],
        Kind::Choice(&["dont-care", "resource-only", "resource-and-stonith"]),
        "dont-care",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "data-integrity-alg",
        NET,
        Kind::Digest,
        "",
        refused_unless(
            &[],
            "no other digest than CRC-32 can be chosen; \
             every payload is always checked with CRC-32 and the line can be removed",
        ),
    ),
    OptionSpec::new(
        "tls",
        NET,
        Kind::Switch,
        "no",
        refused_unless(&["no"], "the link cannot be encrypted yet"),
    )
    .nine(),
    OptionSpec::new(
        "tls-keyring",
        NET,
        Kind::Text { longest: 255 },
        "",
        warned(NO_TLS),
    )
    .nine(),
    OptionSpec::new(
        "tls-privkey",
        NET,
        Kind::Text { longest: 255 },
        "",
        warned(NO_TLS),
    )
    .nine(),
    OptionSpec::new(
        "tls-certificate",
        NET,
        Kind::Text { longest: 255 },
        "",
        warned(NO_TLS),
    )
    .nine(),
    OptionSpec::new(
        "discard-my-data",
        NET,
        Kind::Switch,
        "no",
        refused_unless(
            &["no"],
            "it would throw data away on every connect; give it to one 'connect' command instead",
        ),
    )
    .eight(),
    OptionSpec::new(
        "max-epoch-size",
        NET,
        number(1, 20_000, Unit::Count),
        "2048",
        warned("writes are not grouped into epochs"),
    ),
    OptionSpec::new(
        "max-buffers",
        NET,
        number(32, 131_072, Unit::Count),
        "2048",
        warned("buffers are sized by the daemon"),
    ),
    OptionSpec::new(
        "unplug-watermark",
        NET,
        number(1, 131_072, Unit::Count),
        "128",
        warned("there is no plugged queue"),
    )
    .eight(),
    OptionSpec::new(
        "socket-check-timeout",
        NET,
        number(0, 300, Unit::TenthsOfSeconds),
        "0",
        warned("both sockets are set up in one handshake"),
    ),
    OptionSpec::new(
        "csums-alg",
        NET_OR_SYNCER,
        Kind::Digest,
        "",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "verify-alg",
        NET_OR_SYNCER,
        Kind::Digest,
        "",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "csums-after-crash-only",
        NET,
        Kind::Switch,
        "no",
        warned_unless(
            &["no"],
            "with csums-alg every resync compares, whatever came before it",
        ),
    ),
    OptionSpec::new(
        "use-rle",
        NET_OR_SYNCER,
        Kind::Switch,
        "yes",
        warned("the form bitmaps are sent in is not a choice"),
    ),
    OptionSpec::new(
        "tcp-cork",
        NET,
        Kind::Switch,
        "yes",
        warned("packets are always gathered by the daemon"),
    ),
    OptionSpec::new(
        "after-sb-0pri",
        NET,
        Kind::Policy {
            choices: &[
                "disconnect",
                "discard-younger-primary",
                "discard-older-primary",
                "discard-zero-changes",
                "discard-least-changes",
                "discard-local",
                "discard-remote",
            ],
            prefix: "discard-node-",
        },
        "disconnect",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "after-sb-1pri",
        NET,
        Kind::Choice(&[
            "disconnect",
            "consensus",
            "discard-secondary",
            "call-pri-lost-after-sb",
            "violently-as0p",
        ]),
        "disconnect",
        refused_unless(
            &[
                "disconnect",
                "consensus",
                "discard-secondary",
                "call-pri-lost-after-sb",
            ],
            VIOLENTLY,
        ),
    ),
    OptionSpec::new(
        "after-sb-2pri",
        NET,
        Kind::Choice(&["disconnect", "call-pri-lost-after-sb", "violently-as0p"]),
        "disconnect",
        refused_unless(&["disconnect", "call-pri-lost-after-sb"], VIOLENTLY),
    ),
    OptionSpec::new("always-asbp", NET, Kind::Switch, "no", Verdict::Implemented),
    OptionSpec::new(
        "rr-conflict",
        NET,
        Kind::Choice(&[
            "disconnect",
            "call-pri-lost",
            "violently",
            "retry-connect",
            "auto-discard",
        ]),
        "disconnect",
        refused_unless(&["disconnect", "call-pri-lost", "retry-connect"], VIOLENTLY),
    ),
    OptionSpec::new(
        "on-congestion",
        NET,
        Kind::Choice(&["block", "pull-ahead", "disconnect"]),
        "block",
        warned_unless(&["block"], CONGESTION),
    ),
    OptionSpec::new(
        "congestion-fill",
        NET,
        number(0, 20 << 20, Unit::Sectors),
        "0",
        warned_unless(&["0"], CONGESTION),
    ),
    OptionSpec::new(
        "congestion-extents",
        NET,
        number(67, 65_534, Unit::Count),
        "1237",
        warned(CONGESTION),
    ),
    OptionSpec::new(
        "allow-remote-read",
        NET,
        Kind::Switch,
        "yes",
        warned("reads are served as the daemon sees fit"),
    )
    .nine(),
    OptionSpec::new(
        "transport",
        NET,
        Kind::Choice(&["tcp", "lb-tcp", "rdma"]),
        "tcp",
        warned_unless(&["tcp"], TRANSPORT),
    )
    .nine(),
    OptionSpec::new(
        "load-balance-paths",
        NET,
        Kind::Switch,
        "no",
        warned_unless(&["no"], "a connection uses its first path only"),
    )
    .nine(),
    OptionSpec::new(
        "rdma-ctrl-sndbuf-size",
        NET,
        number(0, 10 << 20, Unit::Bytes),
        "0",
        warned(TRANSPORT),
    )
    .nine(),
    OptionSpec::new(
        "rdma-ctrl-rcvbuf-size",
        NET,
        number(0, 10 << 20, Unit::Bytes),
        "0",
        warned(TRANSPORT),
    )
    .nine(),
];
