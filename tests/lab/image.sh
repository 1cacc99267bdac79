#!/bin/sh
# Builds what the lab's guests boot from, out of Debian packages: a root file system, a stock kernel
# with its modules, and a small first file system that finds the root. Called by `cargo xtask lab`.
#
#   image.sh CACHE
#
# CACHE gets root.img, vmlinuz, initrd.img and, last of all, the stamp. It never changes anything else, and what
# is half built is built again.
set -eu

cache=$1
work=$cache/work
here=$(dirname "$0")
export LC_ALL=C

packages="systemd,systemd-sysv,udev,dbus,kmod,procps,psmisc,util-linux,iproute2,iputils-ping,socat"
packages="$packages,e2fsprogs,xfsprogs,fio,lsof,strace,jq,nbd-client,libnbd-bin,lvm2,dmsetup,libaio1,liburing2"
packages="$packages,corosync,dlm-controld,gfs2-utils,ocfs2-tools,lvm2-lockd"
# The cluster manager with both of its shells.
packages="$packages,pacemaker,pacemaker-cli-utils,pacemaker-resource-agents,resource-agents,crmsh,pcs"
# A target for other machines, and one that uses it.
packages="$packages,targetcli-fb,open-iscsi,iptables"
# What is measured beside rbd.
packages="$packages,drbd-utils,mdadm,nbd-server"
# What installs the other package.
packages="$packages,rpm"

rm -rf "$work" "$cache/stamp"
mkdir -p "$work"

echo "image: the root file system"
mmdebstrap --mode=root --variant=minbase --components=main \
    --aptopt='Apt::Install-Recommends "false"' \
    --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$packages" \
    bookworm "$work/root" \
    "deb http://deb.debian.org/debian bookworm main" \
    "deb http://deb.debian.org/debian bookworm-updates main" \
    "deb http://deb.debian.org/debian-security bookworm-security main" \
    >"$work/mmdebstrap.log" 2>&1 || { tail -n 20 "$work/mmdebstrap.log" >&2; exit 1; }

# A test says itself what is put together, and when.
(cd "$work/root/usr/lib/udev/rules.d" && rm -f ./*md-raid* ./*drbd*)

echo "image: the kernel"
# The newest 6.12 of the distribution's own archive, as it is.
kernel=$(apt-cache search --names-only '^linux-image-6\.12\.[0-9]+\+deb12-amd64$' |
    cut -d' ' -f1 | sort -V | tail -n 1)
test -n "$kernel" || { echo "no package linux-image-6.12.*+deb12-amd64" >&2; exit 1; }
(cd "$work" && apt-get download "$kernel" >apt.log 2>&1) || { cat "$work/apt.log" >&2; exit 1; }
dpkg -x "$work"/"$kernel"_*.deb "$work/kernel"
release=${kernel#linux-image-}
modules=$work/kernel/lib/modules/$release
test -d "$modules" || modules=$work/kernel/usr/lib/modules/$release
# What no test needs is two thirds of it.
for part in drivers/gpu drivers/net/wireless drivers/net/ethernet drivers/media drivers/infiniband \
    drivers/usb drivers/iio drivers/staging drivers/hwmon drivers/platform drivers/isdn sound \
    drivers/input drivers/hid drivers/bluetooth net/bluetooth net/mac80211 net/wireless; do
    rm -rf "$modules/kernel/$part"
done
find "$modules" -name '*.ko.xz' -exec xz -d {} +
mkdir -p "$work/root/lib/modules"
cp -a "$modules" "$work/root/lib/modules/"
depmod -b "$work/root" "$release"

echo "image: the first file system"
first=$work/first
mkdir -p "$first/bin" "$first/modules" "$first/proc" "$first/root"
cp "$(command -v busybox)" "$first/bin/busybox"
: >"$first/modules/order"
for module in virtio_pci virtio_blk ext4 9p 9pnet_virtio; do
    modprobe -d "$work/root" -S "$release" --show-depends "$module" |
        sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | awk '!seen[$0]++' | while read -r path; do
    cp "$path" "$first/modules/"
    basename "$path" >>"$first/modules/order"
done
cp "$here/first-init" "$first/init"
chmod 755 "$first/init"
(cd "$first" && find . | cpio --quiet -o -H newc | gzip -1) >"$cache/initrd.img"

echo "image: the disk"
mkdir -p "$work/root/lab"
rm -f "$cache/root.img"
size=$(du -sm "$work/root" | cut -f1)
truncate -s "$((size * 5 / 4 + 256))M" "$cache/root.img"
mke2fs -q -t ext4 -O ^has_journal -F -d "$work/root" "$cache/root.img"
cp "$work/kernel/boot/vmlinuz-$release" "$cache/vmlinuz"

rm -rf "$work"
echo "$release" >"$cache/stamp"
