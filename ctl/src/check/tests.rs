//! How findings read, and what is found in what the machine says of itself.

use super::disks::mount_point;
use super::machine::{io_uring, seccomp};
use super::secrets;
use super::{Grade, broken, fine};
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_finding_is_one_line_with_grade_reason_and_cure() {
    let fine = fine("io_uring", "allowed");
    assert_eq!(fine.to_string(), "ok   io_uring: allowed");
    let broken = broken("disk", "missing", "create it");
    assert_eq!(broken.to_string(), "FAIL disk: missing → create it");
}

#[test]
fn the_switch_of_io_uring_is_understood() {
    assert_eq!(io_uring("0", false).grade, Grade::Fine);
    assert_eq!(io_uring("1", true).grade, Grade::Fine);
    assert_eq!(io_uring("1", false).grade, Grade::Doubtful);
    assert_eq!(io_uring("2", true).grade, Grade::Broken);
    assert_eq!(io_uring("7", true).grade, Grade::Doubtful);
}

#[test]
fn a_system_call_filter_is_noticed() {
    assert!(seccomp("Name:\tx\nSeccomp:\t2\nSeccomp_filters:\t1\n").is_some());
    assert!(seccomp("Name:\tx\nSeccomp:\t0\n").is_none());
}

#[test]
fn a_mounted_device_is_found_by_its_numbers() {
    let mounts = "\
36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
37 35 98:10 / /srv rw - ext4 /dev/sdb rw
";
    assert_eq!(mount_point(mounts, 98, 10).as_deref(), Some("/srv"));
    assert_eq!(mount_point(mounts, 98, 1), None);
    assert_eq!(mount_point("garbage", 98, 1), None);
}

#[test]
fn a_readable_file_matters_only_when_it_holds_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        path
    };
    let secret = "net { shared-secret \"x\"; }\n";
    let open = write("open", secret, 0o644);
    let closed = write("closed", secret, 0o600);
    let harmless = write("harmless", "# shared-secret is elsewhere\n", 0o644);
    let files = [open.clone(), closed, harmless, open.clone()];
    let findings = secrets::findings(&files);
    assert_eq!(findings.len(), 1);
    assert_eq!(findings[0].what, open.display().to_string());
}
