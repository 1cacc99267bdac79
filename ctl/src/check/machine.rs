//! Whether this kernel lets the daemon do its I/O.

use std::io::ErrorKind;

use super::{Finding, broken, doubtful, fine};

/// What the kernel says.
pub(super) fn findings() -> Vec<Finding> {
    let switch = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled");
    let mut findings = vec![match switch {
        Ok(text) => io_uring(text.trim(), rustix::process::geteuid().is_root()),
        // The switch came with Linux 6.6; before, io_uring is always on where it is built in.
        Err(error) if error.kind() == ErrorKind::NotFound => fine(
            "io_uring",
            "this kernel has no switch to forbid it (before Linux 6.6)",
        ),
        Err(error) => doubtful("io_uring", format!("cannot be looked at: {error}"), ""),
    }];
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    findings.extend(seccomp(&status));
    findings
}

pub(super) fn io_uring(switch: &str, is_root: bool) -> Finding {
    let cure = "sysctl kernel.io_uring_disabled=0";
    match switch {
        "0" => fine("io_uring", "allowed for everybody"),
        "1" if is_root => fine("io_uring", "allowed for root"),
        "1" => doubtful("io_uring", "allowed for privileged processes only", cure),
        "2" => broken("io_uring", "forbidden on this machine", cure),
        other => doubtful(
            "io_uring",
            format!("kernel.io_uring_disabled has the unknown value '{other}'"),
            cure,
        ),
    }
}

pub(super) fn seccomp(status: &str) -> Option<Finding> {
    let mut lines = status.lines();
    let mode = lines.find_map(|line| line.strip_prefix("Seccomp:"))?;
    (mode.trim() == "2").then(|| {
        doubtful(
            "io_uring",
            "a system call filter is active here (a container?) and may forbid it",
            "if rbdd says so, allow io_uring_setup, io_uring_enter and io_uring_register",
        )
    })
}
