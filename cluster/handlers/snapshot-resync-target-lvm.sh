#!/bin/sh
# Keeps what a resync is about to overwrite: takes a snapshot of the LVM volume below a resync
# target before, and removes it after the resync has ended well. For both handlers:
#
#     before-resync-target "/usr/lib/rbd/snapshot-resync-target-lvm.sh";
#     after-resync-target  "/usr/lib/rbd/snapshot-resync-target-lvm.sh";
#
# Exit 0: the snapshot is there (or gone again), or the disk is no LVM volume and -r was not given.
# Anything else from before-resync-target keeps the resync from beginning, and is said in one line.
#
#   -p PERCENT  room for what is overwritten, as a share of the volume (default 100: it cannot
#               overflow); thin volumes need none
#   -s SUFFIX   appended to the volume's name (default -before-resync)
#   -r          a disk that is no LVM volume must not be overwritten
set -u

say() {
    echo "${0##*/}: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

percent=100
suffix=-before-resync
required=no
while getopts p:s:r option; do
    case $option in
    p) percent=$OPTARG ;;
    s) suffix=$OPTARG ;;
    r) required=yes ;;
    *) exit 2 ;;
    esac
done

case $percent in
'' | *[!0-9]*) fail "-p wants a number of percent, not '$percent'" ;;
esac
case $suffix in
'' | *[!A-Za-z0-9_.+-]*) fail "-s wants what may end the name of a volume, not '$suffix'" ;;
esac
what=${RBD_HANDLER-}
case $what in
before-resync-target | after-resync-target) ;;
*) fail "is for before-resync-target and after-resync-target, not for '$what'" ;;
esac
disk=${DRBD_LL_DISK-}
case $disk in
'' | *' '*) fail "is for the disk of one volume, not for '$disk'" ;;
esac

# What lsblk cannot tell may be an LVM volume: to take it for none would let the resync begin.
kind="file"
if [ ! -f "$disk" ]; then
    kind=$(lsblk --nodeps --noheadings --output TYPE "$disk") ||
        fail "lsblk does not tell what $disk is"
fi
if [ "$kind" != lvm ]; then
    [ "$required" = no ] || fail "$disk is no LVM volume ($kind), and must not be overwritten (-r)"
    say "$disk is no LVM volume ($kind): nothing is kept"
    exit 0
fi

# One value that LVM knows of a volume, without the blanks around it.
ask() {
    value=$(lvs --noheadings --options "$1" "$2") || return 1
    printf '%s\n' "$value" | tr -d ' \t'
}

group=$(ask vg_name "$disk") || fail "lvs does not know the volume group of $disk"
name=$(ask lv_name "$disk") || fail "lvs does not know the volume $disk"
volume=$group/$name
snapshot=$name$suffix

# Whether there is such a volume; only one that was taken of this one may be touched.
exists=no
names=$(lvs --noheadings --options lv_name "$group") || fail "lvs does not list $group"
for each in $names; do
    [ "$each" != "$snapshot" ] || exists=yes
done
if [ "$exists" = yes ]; then
    origin=$(ask origin "$group/$snapshot") || fail "lvs does not tell what $group/$snapshot is"
    [ "$origin" = "$name" ] || fail "$group/$snapshot is no snapshot of $volume: use another -s"
fi

remove() {
    lvremove --yes "$group/$snapshot" >/dev/null || fail "$group/$snapshot cannot be removed"
}

if [ "$what" = after-resync-target ]; then
    [ "$exists" = no ] || remove
    exit 0
fi
if [ "$exists" = yes ]; then
    # Of a resync that was interrupted, what was there before it is the one worth keeping. Else the
    # disk has been whole since, and that is what is about to be overwritten.
    if [ "${RBD_DISK_STATE-}" = Inconsistent ]; then
        say "$group/$snapshot was taken before this resync first began, and is kept"
        exit 0
    fi
    remove
fi
pool=$(ask pool_lv "$volume") || fail "lvs does not tell whether $volume is thin"
if [ -n "$pool" ]; then
    lvcreate --yes --snapshot --name "$snapshot" "$volume" >/dev/null ||
        fail "no snapshot of $volume, which must not be overwritten without: see lvs $group"
else
    lvcreate --yes --snapshot --extents "$percent%ORIGIN" --name "$snapshot" "$volume" \
        >/dev/null ||
        fail "no snapshot of $volume, which must not be overwritten without: is there room in $group?"
fi
say "$group/$snapshot keeps what was on $volume"
