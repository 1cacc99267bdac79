#!/bin/sh
# Has Pacemaker fence the node of a peer that is lost: cuts its power, whatever else runs there. For
#
#     fence-peer "/usr/lib/rbd/stonith-peer.sh";
#
# A power switch does not remember whom it has cut off. So only a Primary whose data is UpToDate may
# use it: a node that has been off itself must not cut the power of the one that went on without it.
# Where a Secondary has to be promoted without its peer, crm-fence-peer.sh is the handler. Nor may a side
# of the cluster without quorum, unless its no-quorum-policy is `ignore`: the other side goes on. A cluster
# that has not noticed yet that it is cut off has quorum; crm-fence-peer.sh waits until it has noticed.
#
# Exit codes: 7, the cluster confirms that the peer has been fenced; 1, anything else.
#
#   --timeout S   seconds for everything (90; less than rbdd's --handler-timeout)
set -u
PATH=$PATH:/usr/sbin:/sbin
export PATH

say() {
    echo "${0##*/}: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

timeout=90
case $#/${1-} in
0/) ;;
1/--timeout=*) timeout=${1#--timeout=} ;;
2/--timeout) timeout=$2 ;;
*) fail "unknown options: $*" ;;
esac
case $timeout in
'' | *[!0-9]*) fail "times are whole seconds" ;;
esac
resource=${DRBD_RESOURCE-}
peer=${DRBD_PEER-}
for _word in "$resource" "$peer"; do
    case $_word in
    '' | -* | *[!A-Za-z0-9_.:%@+-]*) fail "'$_word' cannot be used: is this called by rbdd as fence-peer?" ;;
    esac
done

# shellcheck disable=SC2154,SC2317
_sh_status_process() {
    case $_role/$_disk in
    Primary/UpToDate) ;;
    *) is_good=no ;;
    esac
    blocks=$((blocks + 1))
}

blocks=0
is_good=yes
_blocks=$(rbdadm --timeout 5 sh-status "$resource") || fail "rbdd does not tell the state of $resource"
eval "$_blocks"
[ "$blocks" -gt 0 ] || is_good=no
[ "$is_good" = yes ] || fail "only a Primary with UpToDate data may have its peer fenced"

# Seconds since the machine started, in `now`: they do not jump, and no program is run to know them.
look_at_clock() {
    read -r now _ </proc/uptime
    now=${now%%.*}
}

look_at_clock
end=$((now + timeout))
# While a coordinator is being elected, the cluster tells nothing.
mute_until=$((now + timeout / 3))
until _xml=$(timeout 5 crm_mon --one-shot --output-as=xml); do
    look_at_clock
    [ "$now" -lt "$mute_until" ] || fail "the cluster does not tell whether this side has quorum"
    sleep 1
done
case $_xml in
*' with_quorum="true"'* | *' no-quorum-policy="ignore"'*) ;;
*) fail "this side of the cluster has no quorum, so it must not have $peer fenced" ;;
esac
look_at_clock
timeout=$((end - now))
[ "$timeout" -ge 1 ] || fail "the cluster has taken too long to tell whether this side has quorum"

# It waits until the cluster has the confirmation of the device. The limit of its own is the shorter one.
timeout "$((timeout + 1))" stonith_admin --fence "$peer" --timeout "$timeout" ||
    fail "the cluster has not confirmed that $peer is fenced"
say "$peer has been fenced"
exit 7
