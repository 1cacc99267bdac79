//! The kinds of load, each a few of fio's options.

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// Its name: kind, block size, queue depth.
    pub(crate) name: &'static str,
    /// What it is, for people.
    pub(crate) words: &'static str,
    /// fio's options for it.
    pub(crate) options: &'static [&'static str],
    /// What its requests are.
    pub(crate) kind: Kind,
}

/// What a job's requests are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Reads.
    Read,
    /// Writes.
    Write,
    /// Writes, each followed by a flush: one such pair is a commit.
    Commit,
}

/// All jobs, in the order of the report.
pub(crate) const JOBS: &[Job] = &[
    Job {
        name: "rw4k_qd1",
        words: "random writes of 4 KiB, one at a time",
        options: &["--rw=randwrite", "--bs=4k", "--iodepth=1"],
        kind: Kind::Write,
    },
    Job {
        name: "rw4k_qd32",
        words: "random writes of 4 KiB, 32 at a time",
        options: &["--rw=randwrite", "--bs=4k", "--iodepth=32"],
        kind: Kind::Write,
    },
    Job {
        name: "rr4k_qd1",
        words: "random reads of 4 KiB, one at a time",
        options: &["--rw=randread", "--bs=4k", "--iodepth=1"],
        kind: Kind::Read,
    },
    Job {
        name: "rr4k_qd32",
        words: "random reads of 4 KiB, 32 at a time",
        options: &["--rw=randread", "--bs=4k", "--iodepth=32"],
        kind: Kind::Read,
    },
    Job {
        name: "sw1m_qd4",
        words: "sequential writes of 1 MiB, 4 at a time",
        options: &["--rw=write", "--bs=1m", "--iodepth=4"],
        kind: Kind::Write,
    },
    Job {
        name: "fs4k_qd1",
        words: "random writes of 4 KiB, each followed by a flush",
        options: &["--rw=randwrite", "--bs=4k", "--iodepth=1"],
        kind: Kind::Commit,
    },
];
