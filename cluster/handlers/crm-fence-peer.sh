#!/bin/sh
# Keeps Pacemaker from promoting the peer: puts a location constraint on the clone, by which only
# this node may be promoted, and waits until the cluster is rid of a peer it has lost. For
#
#     fence-peer   "/usr/lib/rbd/crm-fence-peer.sh";
#     unfence-peer "/usr/lib/rbd/crm-unfence-peer.sh";
#
# The constraint is also what remembers who has been fenced: a node that it rejects fences nobody.
#
# Exit codes, DRBD's:
#   4  the peer is a member of the cluster, and will not be promoted
#   5  the peer is lost, and nobody has confirmed that it is off; with a constraint if this node is
#      UpToDate, else without
#   6  the peer is promoted, and this node is not
#   7  the peer is off, says the cluster, and will not be promoted
#   1  anything else: a time-out, no quorum, an answer that is not understood. I/O stays frozen.
#
# A peer that fence_rbd has cut off counts as off: it has nobody to write with, and may not be promoted.
#
#   --timeout S              seconds to wait for the cluster to be rid of the peer (90; less than rbdd's
#                            --handler-timeout)
#   --dc-timeout S           seconds to wait for a coordinator and for quorum (20)
#   --network-hickup S       seconds a peer must have stayed a member before that is believed (0)
#   --id-prefix WORD         of the constraint (rbd-fence-by-handler)
#   --fencing-attribute NAME of a node in the constraint (#uname; else the node must have it)
#   --master-id ID           of the clone, if it cannot be found by the resource
#   --role Promoted|Master   Master for Pacemaker before 2.1
#   --place-only             for fence_rbd: sets the constraint, and gives no verdict; exit code 0 or 1
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
dc_timeout=20
hiccup=0
prefix=rbd-fence-by-handler
attribute=#uname
clone=''
role=Promoted
place_only=no
while [ $# -gt 0 ]; do
    case $1 in
    --place-only)
        place_only=yes
        shift
        continue
        ;;
    --*=*)
        _option=$1
        shift
        set -- "${_option%%=*}" "${_option#*=}" "$@"
        ;;
    esac
    [ $# -ge 2 ] || fail "$1 wants a value"
    case $1 in
    --timeout) timeout=$2 ;;
    --dc-timeout) dc_timeout=$2 ;;
    --network-hickup | --network-hiccup) hiccup=$2 ;;
    --id-prefix) prefix=$2 ;;
    --fencing-attribute) attribute=$2 ;;
    --master-id) clone=$2 ;;
    --role) role=$2 ;;
    *) fail "unknown option $1" ;;
    esac
    shift 2
done
case $timeout$dc_timeout$hiccup in
*[!0-9]*) fail "times are whole seconds" ;;
esac
resource=${DRBD_RESOURCE-}
peer=${DRBD_PEER-}
# What gets into a question to the cluster must not change it.
for _word in "$resource" "$peer" "$prefix" "$attribute" "$clone.0" "$role"; do
    case $_word in
    '' | *[!A-Za-z0-9_.:%@+#-]*) fail "'$_word' cannot be used: is this called by rbdd as fence-peer?" ;;
    esac
done

# Seconds since the machine started, in `now`: they do not jump, and no program is run to know them.
look_at_clock() {
    read -r now _ </proc/uptime
    now=${now%%.*}
}

look_at_clock
end=$((now + timeout))
dc_end=$((now + dc_timeout))

is_past() {
    look_at_clock
    [ "$now" -ge "$1" ]
}

# A tool of the cluster, as long as there is time.
tool() {
    look_at_clock
    _left=$((end - now))
    [ "$_left" -ge 1 ] || return 1
    timeout "$_left" "$@"
}

# value_of NAME: its value in the lines of XML that come in, one for each line that has it.
value_of() {
    sed -n "s/.*[[:space:]]$1=\"\\([^\"]*\\)\".*/\\1/p"
}

# How good this node's data is (uptodate, consistent or bad), its role, and whether this node is cut off
# from the peer by order.
ask_self() {
    own_role='' own_data=uptodate stands_alone=yes
    _blocks=$(rbdadm --timeout 5 sh-status "$resource") || fail "rbdd does not tell the state of $resource"
    eval "$_blocks"
    [ -n "$own_role" ] || fail "$resource is not up"
}

# shellcheck disable=SC2154,SC2317
_sh_status_process() {
    own_role=$_role
    case ${_peer_name-}/${_cstate-} in
    "$peer/StandAlone") ;;
    *) stands_alone=no ;;
    esac
    case $own_data/$_disk in
    */UpToDate) ;;
    bad/*) ;;
    */Consistent) own_data=consistent ;;
    *) own_data=bad ;;
    esac
}

# The clone with the resource, as the configuration of the cluster has it.
find_clone() {
    _path=$(tool cibadmin --query --node-path --xpath "//primitive[@provider='rbd' and @type='rbd'][instance_attributes/nvpair[(@name='resource' or @name='drbd_resource') and @value='$resource']]")
    _code=$?
    case $_code in
    0) ;;
    6 | 105) fail "no clone of ocf:rbd:rbd has the resource $resource: --master-id?" ;;
    *) return 1 ;;
    esac
    clone=$(printf '%s\n' "$_path" | sed -n "s/.*\\/\\(clone\\|master\\)\\[@id='\\([^']*\\)'\\].*/\\2/p")
    case $clone in
    '' | *[!A-Za-z0-9_.:-]*) fail "no single clone of ocf:rbd:rbd has the resource $resource: --master-id?" ;;
    esac
}

# Who may be promoted by the constraint; empty if there is none. Fails if the cluster does not tell.
ask_owner() {
    owner=''
    _xml=$(tool cibadmin --query --xpath "//rsc_location[@id='$id']")
    case $? in
    0) ;;
    6 | 105) return 0 ;;
    *) return 1 ;;
    esac
    owner=$(printf '%s\n' "$_xml" | sed -n 's/<expression/&/p' | value_of value)
    [ -n "$owner" ] || fail "the constraint $id is not understood"
}

# Sets the constraint, unless it is there. The cluster takes only one of this name: of two nodes
# that ask at the same time one gets it, and the other sees that.
place() {
    ask_owner || return 1
    if [ -z "$owner" ]; then
        tool cibadmin --create --sync-call --scope constraints --xml-text "<rsc_location rsc=\"$clone\" id=\"$id\">
<rule role=\"$role\" score=\"-INFINITY\" id=\"$id-rule\">
<expression attribute=\"$attribute\" operation=\"ne\" value=\"$self\" id=\"$id-expression\"/>
</rule></rsc_location>" >/dev/null || say "the constraint is not taken: $?"
        ask_owner || return 1
    fi
    [ "$owner" = "$self" ] || [ -z "$owner" ] || fail "this node is fenced itself, by $owner ($id)"
    [ -n "$owner" ]
}

# Whom the constraint lets be promoted in the peer's own copy of the configuration. Fails if the peer does not
# tell. This node's cluster can still count a peer that it has just lost, and take a constraint that the peer's
# half then does not know of.
ask_peer() {
    its_owner=''
    _xml=$(tool timeout 2 cibadmin --query --node "$peer" --xpath "//rsc_location[@id='$id']")
    case $? in
    0) its_owner=$(printf '%s\n' "$_xml" | sed -n 's/<expression/&/p' | value_of value) ;;
    6 | 105) ;;
    *) return 1 ;;
    esac
}

# What the cluster thinks: coordinator, quorum, fencing, and the peer's state and role.
look() {
    dc=unknown
    _xml=$(tool crm_mon --one-shot --output-as=xml) || return 1
    # shellcheck disable=SC2046
    set -- $(printf '%s\n' "$_xml" | awk -v peer="$peer" -v clone="$clone" '
        function value(name) {
            if (!match($0, "[ \t]" name "=\"[^\"]*\"")) return ""
            return substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 4)
        }
        /<current_dc / { dc = value("present"); quorum = value("with_quorum") }
        /<cluster_options / { stonith = value("stonith-enabled") }
        /<node / && value("name") == peer && value("online") != "" {
            if (value("unclean") == "true" || value("pending") == "true") state = "unclean"
            else if (value("online") == "true" && value("unclean") == "false") state = "online"
            else if (value("online") == "false" && value("unclean") == "false") state = "offline"
        }
        /<clone / { inside = value("id") == clone }
        /<\/clone>/ { inside = 0 }
        /<resource / { role = value("role") }
        /<node / && inside && value("name") == peer && value("online") == "" { peer_role = role }
        function word(text) { return text == "" ? "unknown" : text }
        END { print word(dc), word(quorum), word(stonith), word(state), word(peer_role) }')
    [ $# = 5 ] || return 1
    dc=$1 quorum=$2 stonith=$3 peer_state=$4 peer_role=$5
}

# Before another look: a moment at first, for what is happening just now, and then a second.
looks=0
pause() {
    looks=$((looks + 1))
    if [ "$looks" -le 5 ]; then
        sleep 0.2
    else
        sleep 1
    fi
}

# done_with CODE WORDS...: sets the constraint, then that is the verdict.
done_with() {
    _code=$1
    shift
    place || fail "the constraint $id could not be set"
    say "$*; $id lets only $self be promoted"
    exit "$_code"
}

ask_self
case $own_data/$place_only in
uptodate/yes | */no) ;;
*) fail "the data of $resource on this node is not UpToDate" ;;
esac
[ "$own_data" != bad ] || fail "the data of $resource on this node is not good for anything"
self=$(tool crm_node --name) || fail "the cluster does not tell the name of this node"
[ "$attribute" = "#uname" ] ||
    self=$(tool crm_attribute --query --quiet --lifetime forever --node "$self" --name "$attribute") ||
    fail "this node has no attribute $attribute"
case $self in
'' | *[!A-Za-z0-9_.:-]*) fail "'$self' cannot be the name of this node" ;;
esac
until [ -n "$clone" ] || find_clone; do
    if is_past "$dc_end"; then
        fail "the cluster does not answer"
    fi
    pause
done
id=$prefix-$(printf '%s' "$resource-$clone" | tr -c 'A-Za-z0-9_.-' _)

member_since=''
trouble='the cluster does not tell its state'
while ! is_past "$end"; do
    if ! look || [ "$dc" != true ] || [ "$quorum" != true ]; then
        member_since=''
        [ "$dc" = unknown ] || trouble="no quorum, or no coordinator"
        if is_past "$dc_end"; then
            fail "$trouble"
        fi
    else
        # A cluster that has answered once has its time-out from here.
        trouble="the cluster has not got rid of $peer within $timeout s"
        if [ "$place_only" = yes ]; then
            place || fail "the constraint $id could not be set"
            say "$id lets only $self be promoted"
            exit 0
        fi
        # What fence_rbd has left: this node refuses the peer, which has no quorum of its own.
        if [ -e "${RBD_RUN_DIR:-/run/rbd}/cut-off-$resource-$peer" ]; then
            ask_self
            if [ "$own_data/$stands_alone" = uptodate/yes ]; then
                done_with 7 "$peer has been cut off by fence_rbd"
            fi
        fi
        case $peer_state in
        online)
            case $own_role/$peer_role in
            Primary/*) ;;
            */Promoted | */Master)
                say "$peer is promoted, and this node is not"
                exit 6
                ;;
            esac
            # What the cluster thinks can be old; the peer's own answer is not.
            if ! ask_peer; then
                trouble="$peer is said to be a member of the cluster, and does not answer"
            else
                place || fail "the constraint $id could not be set"
                look_at_clock
                : "${member_since:=$now}"
                if ! ask_peer || [ "$its_owner" != "$self" ]; then
                    trouble="$peer does not confirm the constraint $id"
                elif look && [ "$dc$quorum$peer_state" = truetrueonline ] &&
                    is_past $((member_since + hiccup)); then
                    done_with 4 "$peer is a member of the cluster"
                fi
            fi
            ;;
        offline)
            case $own_data/$stonith in
            uptodate/true) done_with 7 "$peer is off" ;;
            uptodate/*) done_with 5 "$peer is lost, and the cluster fences nobody (stonith-enabled)" ;;
            *)
                say "$peer is lost, and this node is not known to have the newest data"
                exit 5
                ;;
            esac
            ;;
        unclean) member_since='' ;;
        *) fail "the cluster has no node $peer, or its state is not understood" ;;
        esac
    fi
    pause
done
[ "${peer_state-}" = unclean ] || fail "$trouble"
if [ "$own_data" = uptodate ]; then
    # There is always time for this last question.
    look_at_clock
    end=$((now + 5))
    done_with 5 "$trouble"
fi
say "$trouble"
exit 5
