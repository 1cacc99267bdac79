//! What every emulated machine of the lab is started with. Of the processor's features those are
//! left out that cost an emulator more than they bring.

use std::path::Path;

/// The command line of the emulator, without disks of a test's own, network and the first serial
/// line. `words` are what the guest is told: its name, its test.
pub(super) fn arguments(cache: &Path, share: &Path, words: &str) -> Vec<String> {
    let file = |name: &str| cache.join(name).display().to_string();
    let root = format!(
        "file={},if=none,id=root,format=raw,snapshot=on",
        file("root.img")
    );
    let share = format!(
        "local,path={},mount_tag=lab,security_model=none,multidevs=remap",
        share.display()
    );
    let words = [
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-no-reboot",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        "max,-la57,-erms,-fsrm,-fsrs,-fzrm,-smap,-smep,-pku,-umip",
        "-m",
        "1536",
        "-kernel",
        &file("vmlinuz"),
        "-initrd",
        &file("initrd.img"),
        "-append",
        &format!("{KERNEL_LINE} {words}"),
        "-drive",
        &root,
        "-device",
        "virtio-blk-pci,drive=root",
        "-virtfs",
        &share,
    ];
    words.map(str::to_owned).into()
}

/// What makes an emulated kernel quick, and a kernel that dies end the guest.
const KERNEL_LINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off no5lvl \
                           rodata=off init_on_alloc=0 randomize_kstack_offset=off tsc=reliable \
                           clocksource=tsc nowatchdog apparmor=0 audit=0 net.ifnames=0";
