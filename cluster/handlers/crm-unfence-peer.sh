#!/bin/sh
# Takes back what crm-fence-peer.sh has done on this node: removes the location constraint, if both
# nodes are UpToDate. For
#
#     unfence-peer "/usr/lib/rbd/crm-unfence-peer.sh";
#
# rbdd calls it on the node that has fenced, and again until it exits with 0. A constraint that lets
# another node be promoted belongs to that one, and is left alone: this node cannot know whether it
# has just been set anew. Called as after-resync-target, as with DRBD 8.4, it therefore does nothing.
#
#   --timeout S      seconds for everything (20)
#   --id-prefix WORD of the constraint (rbd-fence-by-handler)
#   --master-id ID   of the clone, if it cannot be found by the resource
#   --quiet          no word when there is nothing to do
#   --unfence-only-if-owner-match, --flock-required, --flock-timeout S: as always
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

timeout=20
prefix=rbd-fence-by-handler
clone=''
quiet=no
while [ $# -gt 0 ]; do
    case $1 in
    --quiet)
        quiet=yes
        shift
        continue
        ;;
    --unfence-only-if-owner-match | --flock-required)
        shift
        continue
        ;;
    --*=*)
        _option=$1
        shift
        set -- "${_option%%=*}" "${_option#*=}" "$@"
        ;;
    esac
    [ $# -ge 2 ] || fail "$1 is unknown, or wants a value"
    case $1 in
    --timeout) timeout=$2 ;;
    --id-prefix) prefix=$2 ;;
    --master-id) clone=$2 ;;
    --flock-timeout) ;;
    *) fail "unknown option $1" ;;
    esac
    shift 2
done
case $timeout in
'' | *[!0-9]*) fail "times are whole seconds" ;;
esac
resource=${DRBD_RESOURCE-}
for _word in "$resource" "$prefix" "$clone.0"; do
    case $_word in
    '' | *[!A-Za-z0-9_.:%@+-]*) fail "'$_word' cannot be used: is this called by rbdd as unfence-peer?" ;;
    esac
done
# Seconds since the machine started, in `now`: they do not jump, and no program is run to know them.
look_at_clock() {
    read -r now _ </proc/uptime
    now=${now%%.*}
}

look_at_clock
end=$((now + timeout))

tool() {
    look_at_clock
    _left=$((end - now))
    [ "$_left" -ge 1 ] || return 1
    timeout "$_left" "$@"
}

nothing() {
    [ "$quiet" = yes ] || say "$*"
    exit 0
}

# shellcheck disable=SC2154,SC2317
_sh_status_process() {
    blocks=$((blocks + 1))
    [ "$_disk/$_pdsk" = UpToDate/UpToDate ] || in_sync=no
}

if [ -z "$clone" ]; then
    path=$(tool cibadmin --query --node-path --xpath "//primitive[@provider='rbd' and @type='rbd'][instance_attributes/nvpair[(@name='resource' or @name='drbd_resource') and @value='$resource']]")
    case $? in
    0) ;;
    6 | 105) nothing "no clone of ocf:rbd:rbd has the resource $resource" ;;
    *) fail "the cluster does not answer" ;;
    esac
    clone=$(printf '%s\n' "$path" | sed -n "s/.*\\/\\(clone\\|master\\)\\[@id='\\([^']*\\)'\\].*/\\2/p")
    case $clone in
    '' | *[!A-Za-z0-9_.:-]*) fail "no single clone of ocf:rbd:rbd has the resource $resource: --master-id?" ;;
    esac
fi
id=$prefix-$(printf '%s' "$resource-$clone" | tr -c 'A-Za-z0-9_.-' _)

# The names by which this node may be in the constraint are those it was set with.
xml=$(tool cibadmin --query --xpath "//rsc_location[@id='$id']")
case $? in
0) ;;
6 | 105) nothing "there is no constraint $id" ;;
*) fail "the cluster does not answer" ;;
esac
expression=$(printf '%s\n' "$xml" | sed -n 's/<expression/&/p')
attribute=$(printf '%s\n' "$expression" | sed -n 's/.*[[:space:]]attribute="\([^"]*\)".*/\1/p')
owner=$(printf '%s\n' "$expression" | sed -n 's/.*[[:space:]]value="\([^"]*\)".*/\1/p')
self=$(tool crm_node --name) || fail "the cluster does not tell the name of this node"
case $attribute in
'#uname') ;;
'' | *[!A-Za-z0-9_.:-]*) fail "the constraint $id is not understood" ;;
*)
    self=$(tool crm_attribute --query --quiet --lifetime forever --node "$self" --name "$attribute") ||
        fail "this node has no attribute $attribute"
    ;;
esac
case $self in
'' | *[!A-Za-z0-9_.:-]*) fail "'$self' cannot be the name of this node" ;;
esac
[ "$owner" = "$self" ] || nothing "$id belongs to $owner, whose unfence-peer removes it"

blocks=0
in_sync=yes
_blocks=$(rbdadm --timeout 5 sh-status "$resource") || fail "rbdd does not tell the state of $resource"
eval "$_blocks"
[ "$blocks" -gt 0 ] || in_sync=no
[ "$in_sync" = yes ] || fail "$resource is not UpToDate on both nodes"

# Only as it was: by whoever is named in it.
tool cibadmin --delete --sync-call \
    --xpath "//rsc_location[@id='$id'][rule/expression[@value='$self']]" >/dev/null
tool cibadmin --query --xpath "//rsc_location[@id='$id']" >/dev/null
case $? in
6 | 105)
    say "$id is removed"
    rm -f "${RBD_RUN_DIR:-/run/rbd}/cut-off-$resource-${DRBD_PEER-}"
    ;;
*) fail "$id could not be removed" ;;
esac
