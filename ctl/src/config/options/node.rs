//! Options of `options`, `startup`, `handlers`, `proxy`, `global` and of a volume itself: how a
//! node treats a resource as a whole.

use super::{Kind, OptionSpec, Section, Unit, Verdict};
use super::{number, refused_unless, warned, warned_unless};

const OPTIONS_SECTION: &[Section] = &[Section::Options];
const STARTUP: &[Section] = &[Section::Startup];
const HANDLERS: &[Section] = &[Section::Handlers];
const PROXY: &[Section] = &[Section::Proxy];
const GLOBAL: &[Section] = &[Section::Global];
const QUORUM_CHOICES: Kind = Kind::ChoiceOrNumber {
    choices: &["off", "majority", "all"],
    min: 1,
    max: 32,
};
const NO_QUORUM: &str = "there is no quorum yet, so a minority would go on writing";
const NO_QUORUM_HERE: &str = "there is no quorum yet";
const NO_PROXY: &str = "peers are connected directly, never through a proxy";
const ONE_TIMEOUT: &str = "use the '--timeout' of the command instead";
const NO_CLUSTER_TRANSACTIONS: &str = "there are no cluster-wide transactions to time";

pub(super) const OPTIONS: &[OptionSpec] = &[
    // options { … }
    OptionSpec::new(
        "quorum",
        OPTIONS_SECTION,
        QUORUM_CHOICES,
        "off",
        refused_unless(&["off"], NO_QUORUM),
    )
    .nine(),
    OptionSpec::new(
        "quorum-minimum-redundancy",
        OPTIONS_SECTION,
        QUORUM_CHOICES,
        "off",
        refused_unless(&["off"], NO_QUORUM),
    )
    .nine(),
    OptionSpec::new(
        "on-no-quorum",
        OPTIONS_SECTION,
        Kind::Choice(&["suspend-io", "io-error"]),
        "suspend-io",
        warned(NO_QUORUM_HERE),
    )
    .nine(),
    OptionSpec::new(
        "on-suspended-primary-outdated",
        OPTIONS_SECTION,
        Kind::Choice(&["disconnect", "force-secondary"]),
        "disconnect",
        warned(NO_QUORUM_HERE),
    )
    .nine(),
    OptionSpec::new(
        "on-no-data-accessible",
        &[Section::Options, Section::Disk, Section::Syncer],
        Kind::Choice(&["io-error", "suspend-io"]),
        "io-error",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "auto-promote",
        OPTIONS_SECTION,
        Kind::Switch,
        "no",
        warned_unless(&["no"], "a node is promoted by command only"),
    )
    .nine(),
    OptionSpec::new(
        "auto-promote-timeout",
        OPTIONS_SECTION,
        number(0, 600, Unit::TenthsOfSeconds),
        "20",
        warned("a node is promoted by command only"),
    )
    .nine(),
    OptionSpec::new(
        "cpu-mask",
        &[Section::Options, Section::Syncer],
        Kind::Text { longest: 255 },
        "",
        warned("threads run where the kernel puts them"),
    ),
    OptionSpec::new(
        "twopc-timeout",
        OPTIONS_SECTION,
        number(50, 600, Unit::TenthsOfSeconds),
        "300",
        warned(NO_CLUSTER_TRANSACTIONS),
    )
    .nine(),
    OptionSpec::new(
        "twopc-retry-timeout",
        OPTIONS_SECTION,
        number(1, 50, Unit::TenthsOfSeconds),
        "1",
        warned(NO_CLUSTER_TRANSACTIONS),
    )
    .nine(),
    OptionSpec::new(
        "peer-ack-window",
        OPTIONS_SECTION,
        number(2048, 204_800, Unit::Sectors),
        "4096",
        warned("acknowledgements are gathered by the daemon"),
    )
    .nine(),
    OptionSpec::new(
        "peer-ack-delay",
        OPTIONS_SECTION,
        number(1, 10_000, Unit::Milliseconds),
        "100",
        warned("acknowledgements are gathered by the daemon"),
    )
    .nine(),
    OptionSpec::new(
        "max-io-depth",
        OPTIONS_SECTION,
        number(4, 1 << 32, Unit::Count),
        "8000",
        warned("the daemon limits what is in flight"),
    )
    .nine(),
    OptionSpec::new(
        "drbd8-api-compatibility",
        OPTIONS_SECTION,
        Kind::Switch,
        "no",
        warned_unless(
            &["no"],
            "there is no kernel interface to be compatible with",
        ),
    )
    .nine(),
    // startup { … }
    OptionSpec::new(
        "wfc-timeout",
        STARTUP,
        number(0, 300_000, Unit::Seconds),
        "0",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "degr-wfc-timeout",
        STARTUP,
        number(0, 300_000, Unit::Seconds),
        "0",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "outdated-wfc-timeout",
        STARTUP,
        number(0, 300_000, Unit::Seconds),
        "0",
        Verdict::Implemented,
    ),
    OptionSpec::new(
        "wait-after-sb",
        STARTUP,
        Kind::Switch,
        "no",
        warned_unless(&["no"], "a connection that is StandAlone is not waited for"),
    ),
    OptionSpec::new(
        "stacked-timeouts",
        STARTUP,
        Kind::Switch,
        "no",
        warned_unless(&["no"], "there are no stacked resources"),
    ),
    OptionSpec::new(
        "become-primary-on",
        STARTUP,
        Kind::Names { longest: 1024 },
        "",
        warned("a node is promoted by command only"),
    )
    .eight(),
    // global { … }
    OptionSpec::new(
        "usage-count",
        GLOBAL,
        Kind::Choice(&["yes", "no", "ask"]),
        "no",
        warned_unless(&["no"], "nobody counts installations"),
    ),
    OptionSpec::new(
        "dialog-refresh",
        GLOBAL,
        number(0, 600, Unit::Seconds),
        "1",
        warned("there is no dialog"),
    ),
    OptionSpec::new(
        "minor-count",
        GLOBAL,
        number(1, 255, Unit::Count),
        "32",
        warned("minors need not be counted in advance"),
    ),
    OptionSpec::new(
        "disable-ip-verification",
        GLOBAL,
        Kind::Switch,
        "yes",
        warned_unless(
            &["yes"],
            "the daemon binds the address or says why it cannot",
        ),
    ),
    OptionSpec::new(
        "udev-always-use-vnr",
        GLOBAL,
        Kind::Switch,
        "yes",
        warned_unless(&["yes"], "links always carry the volume number"),
    ),
    OptionSpec::new(
        "cmd-timeout-short",
        GLOBAL,
        number(0, 900, Unit::Seconds),
        "5",
        warned(ONE_TIMEOUT),
    ),
    OptionSpec::new(
        "cmd-timeout-medium",
        GLOBAL,
        number(0, 900, Unit::Seconds),
        "121",
        warned(ONE_TIMEOUT),
    ),
    OptionSpec::new(
        "cmd-timeout-long",
        GLOBAL,
        number(0, 900, Unit::Seconds),
        "600",
        warned(ONE_TIMEOUT),
    ),
    // volume N { … }
    OptionSpec::new(
        "tiebreaker",
        &[Section::Volume],
        Kind::Switch,
        "yes",
        warned(NO_QUORUM_HERE),
    )
    .nine(),
    // proxy { … }
    OptionSpec::new(
        "memlimit",
        PROXY,
        number(0, 1 << 50, Unit::Bytes),
        "",
        warned(NO_PROXY),
    ),
    OptionSpec::new(
        "read-loops",
        PROXY,
        number(0, 1 << 32, Unit::Count),
        "",
        warned(NO_PROXY),
    ),
    OptionSpec::new("compression", PROXY, Kind::Switch, "no", warned(NO_PROXY)),
    OptionSpec::new(
        "bwlimit",
        PROXY,
        number(0, 1 << 50, Unit::Bytes),
        "",
        warned(NO_PROXY),
    ),
    OptionSpec::new(
        "sndbuf-size",
        PROXY,
        number(0, 1 << 40, Unit::Bytes),
        "",
        warned(NO_PROXY),
    ),
    OptionSpec::new(
        "rcvbuf-size",
        PROXY,
        number(0, 1 << 40, Unit::Bytes),
        "",
        warned(NO_PROXY),
    ),
    OptionSpec::new(
        "ping-timeout",
        PROXY,
        number(0, 1 << 32, Unit::Count),
        "",
        warned(NO_PROXY),
    ),
    // handlers { … }
    handler("pri-on-incon-degr"),
    handler("pri-lost-after-sb").runs(),
    handler("pri-lost").runs(),
    handler("fence-peer").runs(),
    handler("unfence-peer").runs().nine(),
    handler("local-io-error").runs(),
    handler("initial-split-brain").runs(),
    handler("split-brain").runs(),
    handler("before-resync-target").runs(),
    handler("after-resync-target").runs(),
    handler("before-resync-source").runs(),
    handler("out-of-sync").runs(),
    handler("quorum-lost").nine(),
    handler("disconnected").runs().nine(),
];

const fn handler(name: &'static str) -> OptionSpec {
    let verdict = warned("this handler is not run yet");
    OptionSpec::new(name, HANDLERS, Kind::Text { longest: 4096 }, "", verdict)
}
