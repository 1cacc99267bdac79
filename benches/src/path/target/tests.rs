//! Versions.

use super::replies_late;

#[test]
fn a_version_is_read_out_of_what_the_program_prints() {
    assert!(replies_late(
        "qemu-storage-daemon version 7.2.22 (Debian 1:7.2+dfsg-7)"
    ));
    assert!(replies_late("qemu-storage-daemon version 8.0.4"));
    assert!(!replies_late("qemu-storage-daemon version 8.1.0"));
    assert!(!replies_late("qemu-storage-daemon version 10.0.2"));
    assert!(!replies_late("something else"));
}
