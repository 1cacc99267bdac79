//! What every emulated machine of the lab is started with. Of the processor's features those are
//! left out that cost an emulator more than they bring.

use std::fs;
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
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
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
        &format!("{KERNEL_LINE}{} {words}", counter_rate(&cpuinfo)),
        "-drive",
        &root,
        "-device",
        "virtio-blk-pci,drive=root",
        "-virtfs",
        &share,
    ];
    words.map(str::to_owned).into()
}

/// How fast the processor's counter runs, for a kernel that has it for a clock. A guest that is
/// hardly given any time while it measures that itself gets it wrong by a factor of ten, and all
/// its time-outs with it. A virtual machine is told the counter's rate as that of its processor;
/// a real one's processor has many.
pub(super) fn counter_rate(cpuinfo: &str) -> String {
    let value = |name: &str| {
        let mut lines = cpuinfo.lines().filter(|line| line.starts_with(name));
        lines.next().and_then(|line| line.split_once(": "))
    };
    let has = |flag: &str| {
        value("flags").is_some_and(|(_, flags)| flags.split(' ').any(|one| one == flag))
    };
    let rate = value("cpu MHz").map(|(_, megahertz)| megahertz.trim().replace('.', ""));
    match rate {
        // Three places behind the point: thousands of hertz.
        Some(rate) if has("hypervisor") && has("constant_tsc") && rate.parse::<u32>().is_ok() => {
            format!(" tsc_early_khz={rate}")
        }
        _ => String::new(),
    }
}

/// What makes an emulated kernel quick, and a kernel that dies end the guest.
const KERNEL_LINE: &str = "console=ttyS0 quiet panic=-1 no_timer_check mitigations=off no5lvl \
                           rodata=off init_on_alloc=0 randomize_kstack_offset=off tsc=reliable \
                           clocksource=tsc nowatchdog apparmor=0 audit=0 net.ifnames=0";
