//! The programs of others that tests use, and how a Debian machine gets them.
//!
//! Nothing that is installed is ever removed, nor upgraded unless `RBD_MAY_UPGRADE` is set, as on a
//! machine that is thrown away afterwards: a package that could only be had that way is left out,
//! and what needs it is skipped.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::{self, find_program};

/// Installs what is missing where that is allowed, and returns a line for each thing that is
/// still missing afterwards.
pub(super) fn install_missing() -> Vec<String> {
    let missing: Vec<&Package> = PACKAGES
        .iter()
        .filter(|package| !package.is_here())
        .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let why_not = may_install().err();
    let mut lists_are_fresh = false;
    let mut lines = Vec::new();
    for package in missing {
        let outcome = match why_not {
            Some(reason) => Err(reason.to_owned()),
            None => package.install(&mut lists_are_fresh),
        };
        match outcome {
            Ok(()) => println!("installed {}", package.name),
            Err(reason) => lines.push(package.missing_line(&reason)),
        }
    }
    lines
}

/// One Debian package.
struct Package {
    name: &'static str,
    /// What tests use of it.
    programs: &'static [&'static str],
    /// Whether installing it starts services that nobody asked for, where there is a systemd.
    has_services: bool,
}

impl Package {
    fn is_here(&self) -> bool {
        self.programs
            .iter()
            .all(|program| find_program(program).is_some())
    }

    fn install(&self, lists_are_fresh: &mut bool) -> Result<(), String> {
        if self.has_services && Path::new(SYSTEMD).exists() {
            return Err("not installed, because it would start services here".to_owned());
        }
        let mut plan = self.plan();
        if plan.is_err() && !*lists_are_fresh {
            *lists_are_fresh = true;
            apt(&["update"])?;
            plan = self.plan();
        }
        let may_upgrade = env::var_os(MAY_UPGRADE).is_some();
        if let Some(reason) = objection(&plan?, may_upgrade) {
            return Err(reason);
        }
        println!("== installing {}", self.name);
        let arguments = ["install", "--yes", NO_RECOMMENDS, "--no-remove", self.name];
        let mut installed = apt(&arguments);
        if installed.is_err() && !*lists_are_fresh {
            // Old lists name files that are no longer there.
            *lists_are_fresh = true;
            apt(&["update"])?;
            if let Some(reason) = objection(&self.plan()?, may_upgrade) {
                return Err(reason);
            }
            installed = apt(&arguments);
        }
        installed?;
        if self.is_here() {
            Ok(())
        } else {
            Err("installed, but still not there".to_owned())
        }
    }

    /// What apt would do, in its own words.
    fn plan(&self) -> Result<String, String> {
        apt(&["install", "--simulate", NO_RECOMMENDS, self.name])
    }

    fn missing_line(&self, reason: &str) -> String {
        let missing: Vec<&str> = self
            .programs
            .iter()
            .copied()
            .filter(|program| find_program(program).is_none())
            .collect();
        format!(
            "what needs {} ({}): {reason}",
            missing.join(", "),
            self.name
        )
    }
}

/// Why a plan of apt's must not be carried out, if there is a reason.
pub(super) fn objection(plan: &str, may_upgrade: bool) -> Option<String> {
    for (action, verb) in [("Inst ", "upgrade"), ("Remv ", "remove")] {
        for line in plan.lines() {
            let Some(rest) = line.strip_prefix(action) else {
                continue;
            };
            let name = rest.split_whitespace().next().unwrap_or_default();
            // `Inst name [installed version] (new version …)` is an upgrade.
            let replaces = rest
                .split_whitespace()
                .nth(1)
                .is_some_and(|w| w.starts_with('['));
            if action == "Remv " || replaces && !may_upgrade {
                return Some(format!("installing it would {verb} {name}"));
            }
        }
    }
    None
}

fn may_install() -> Result<(), &'static str> {
    if find_program("apt-get").is_none() {
        return Err("not installed, and this is no Debian");
    }
    if !is_root() {
        return Err("not installed, and only root may install it");
    }
    Ok(())
}

fn is_root() -> bool {
    let id = process::capture(Command::new("id").arg("-u"), PROBE_DEADLINE);
    id.is_ok_and(|answer| answer.stdout.trim() == "0")
}

fn apt(arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new("apt-get");
    command.args([
        "--quiet",
        "-o",
        "DPkg::Lock::Timeout=60",
        "-o",
        "Acquire::Retries=2",
    ]);
    command.args([
        "-o",
        "Acquire::http::Timeout=30",
        "-o",
        "Acquire::https::Timeout=30",
    ]);
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        // Where init scripts are used, this keeps them from being started.
        .env("RUNLEVEL", "1");
    if env::var_os("NEEDRESTART_MODE").is_none() {
        command.env("NEEDRESTART_MODE", "l");
    }
    let answer = process::capture(&mut command, APT_DEADLINE)?;
    if answer.status.success() {
        return Ok(answer.stdout);
    }
    let reason = answer.stderr.lines().find(|line| line.starts_with("E: "));
    Err(reason
        .unwrap_or("E: apt-get failed")
        .trim_start_matches("E: ")
        .to_owned())
}

/// Set where installed packages may be upgraded.
const MAY_UPGRADE: &str = "RBD_MAY_UPGRADE";

const PACKAGES: &[Package] = &[
    Package {
        name: "qemu-utils",
        programs: &["qemu-io", "qemu-img", "qemu-nbd"],
        has_services: false,
    },
    Package {
        name: "qemu-system-common",
        programs: &["qemu-storage-daemon"],
        has_services: false,
    },
    Package {
        name: "libnbd-bin",
        programs: &["nbdinfo", "nbdcopy", "nbdfuse"],
        has_services: false,
    },
    Package {
        name: "nbdkit",
        programs: &["nbdkit"],
        has_services: false,
    },
    Package {
        name: "python3-libnbd",
        programs: &["nbdsh"],
        has_services: false,
    },
    Package {
        name: "fio",
        programs: &["fio"],
        has_services: false,
    },
    Package {
        name: "iproute2",
        programs: &["ip"],
        has_services: false,
    },
    Package {
        name: "iputils-ping",
        programs: &["ping"],
        has_services: false,
    },
    Package {
        name: "resource-agents",
        programs: &["ocf-tester"],
        has_services: false,
    },
    Package {
        name: "corosync",
        programs: &["corosync"],
        has_services: true,
    },
    Package {
        name: "pacemaker",
        programs: &["pacemakerd"],
        has_services: true,
    },
    Package {
        name: "pacemaker-cli-utils",
        programs: &["crm_mon", "cibadmin"],
        has_services: false,
    },
    Package {
        name: "crmsh",
        programs: &["crm"],
        has_services: true,
    },
    Package {
        name: "e2fsprogs",
        programs: &["mkfs.ext4", "fsck.ext4"],
        has_services: false,
    },
];

/// Is there when systemd runs the machine.
const SYSTEMD: &str = "/run/systemd/system";

const NO_RECOMMENDS: &str = "--no-install-recommends";
const PROBE_DEADLINE: Duration = Duration::from_secs(10);

/// One package and what it needs, over a slow line.
const APT_DEADLINE: Duration = Duration::from_secs(240);
