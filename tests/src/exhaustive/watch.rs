//! What two nodes decide about each other, held against what their disks really hold.
//!
//! D1: both decide mirrored. D4: "nothing to do" only if the contents are equal; a source has
//! everything that was acknowledged if anybody has. D7: a Primary is never a target.

use rbd_protocol::ids::GenerationId;
use rbd_protocol::peer::{Hello, HelloVolume};
use rbd_protocol::state::{ConnectionState, DiskState, ReplicationState};

use super::hash::Hash;
use super::node::Node;
use super::world::World;

/// What a node has made of the other's greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Same,
    Source,
    Target,
}

/// What is remembered of the nodes' decisions.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    before: [Option<ReplicationState>; 2],
    verdicts: [Option<(u64, Verdict)>; 2],
    greetings: [Option<Hello>; 2],
    /// Data was declared good by force, or both nodes went their own ways: what clients were told
    /// no longer says who has everything.
    pub(super) ordered: bool,
    /// Verdicts looked at.
    pub(super) seen: u64,
}

impl Watch {
    pub(super) fn note_greeting(&mut self, node: usize, hello: &Hello) {
        self.greetings[node] = Some(hello.clone());
    }

    /// Forgets the greetings seen so far.
    pub(super) fn forget_greetings(&mut self) {
        self.greetings = [None, None];
    }

    /// What tells this pair of greetings from others, once both were sent: names of generations
    /// and of processes do not matter, only which are the same.
    pub(super) fn fingerprint_of_greetings(&self) -> Option<u64> {
        let [Some(one), Some(other)] = &self.greetings else {
            return None;
        };
        let mut names = Names::default();
        let mut hash = Hash::default();
        for (own, peer) in [(one, other), (other, one)] {
            let seen = (
                own.seen_incarnation == peer.incarnation,
                own.seen_incarnation == 0,
            );
            hash.mix_debug(&(own.role, own.discard_my_data, seen));
            for volume in &own.volumes {
                hash.mix_debug(&names.plain(volume));
            }
        }
        Some(hash.0)
    }
}

/// Generations by the order in which they are first met.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<GenerationId>);

impl Names {
    pub(super) fn of(&mut self, id: GenerationId) -> usize {
        if id.is_none() || id == GenerationId::JUST_CREATED {
            return usize::try_from(id.0).unwrap_or(0);
        }
        let known = self.0.iter().position(|known| *known == id);
        known.unwrap_or_else(|| {
            self.0.push(id);
            self.0.len() - 1
        }) + 10
    }

    fn plain(&mut self, volume: &HelloVolume) -> (Vec<usize>, DiskState, u64, [bool; 3]) {
        let ids = [volume.current, volume.bitmap].into_iter();
        let ids = ids.chain(volume.history.iter().copied());
        let flags = [
            volume.crashed_primary,
            volume.was_resync_target,
            volume.kept_power,
        ];
        let names = ids.map(|id| self.of(id)).collect();
        (names, volume.disk, volume.dirty_blocks, flags)
    }
}

impl World {
    /// Judges what was decided in the last step, if anything was.
    pub(super) fn look_at_verdicts(&mut self) {
        let Some(mut watch) = self.watch.take() else {
            return;
        };
        for node in 0..2 {
            let replication = self.nodes[node].replication(self.time());
            let before = watch.before[node].replace(replication);
            let verdict = match replication {
                ReplicationState::Off => {
                    watch.verdicts[node] = None;
                    continue;
                }
                _ if before != Some(ReplicationState::Off) => continue,
                ReplicationState::Established => Verdict::Same,
                ReplicationState::WFBitMapT | ReplicationState::SyncTarget => Verdict::Target,
                _ => Verdict::Source,
            };
            watch.seen += 1;
            let link = self.nodes[node].link.unwrap_or(0);
            watch.verdicts[node] = Some((link, verdict));
            self.judge_verdict(node, verdict, watch.ordered);
            if let [Some((one, mine)), Some((other, theirs))] = watch.verdicts
                && one == other
                && !mirrored(mine, theirs)
            {
                self.violation(format!(
                    "D1: one node decides {mine:?}, the other {theirs:?}"
                ));
            }
        }
        self.watch = Some(watch);
    }

    fn judge_verdict(&mut self, node: usize, verdict: Verdict, ordered: bool) {
        let now = self.time();
        let other = 1 - node;
        match verdict {
            Verdict::Same => {
                let fresh = self.nodes[node].disk_state(now) == Some(DiskState::Inconsistent);
                let [one, two] = [0, 1].map(|of: usize| self.nodes[of].disk.contents());
                if one != two && !fresh {
                    self.violation(format!("D4: nothing to do, but {one:?} is not {two:?}"));
                }
            }
            Verdict::Target => {
                if self.nodes[node].is_primary() {
                    self.violation(format!("D7: node {node}, a Primary, is to be the target"));
                }
            }
            Verdict::Source => {
                let lacks = self.sectors.allow(self.nodes[node].disk.contents()).err();
                if let Some(lacks) = lacks
                    && !ordered
                    && self.holds_everything(other)
                {
                    self.violation(format!(
                        "D4: node {node} is the source and lacks what node {other} has: {lacks}"
                    ));
                }
            }
        }
    }

    /// At rest, after both have tried: if one node refuses the other for what it has, the other
    /// refuses it too.
    pub(super) fn check_that_both_refuse(&mut self) {
        let now = self.time();
        let [Some(one), Some(other)] = [0, 1].map(|node: usize| self.nodes[node].connection(now))
        else {
            return;
        };
        if !self.network {
            return;
        }
        let refused = |(state, note): &(ConnectionState, String)| {
            *state == ConnectionState::StandAlone && !BY_COMMAND.contains(&note.as_str())
        };
        let wants = |(state, _): &(ConnectionState, String)| *state != ConnectionState::StandAlone;
        if refused(&one) && wants(&other) || refused(&other) && wants(&one) {
            self.violation(format!(
                "D1: one node refuses, the other does not: {one:?} {other:?}"
            ));
        }
    }

    /// Both nodes in sync: whatever was ordered has been carried out.
    pub(super) fn settle_orders(&mut self) {
        if !self
            .nodes
            .iter()
            .all(|node: &Node| node.is_in_sync(self.time()))
        {
            return;
        }
        let Some(watch) = &mut self.watch else { return };
        if std::mem::take(&mut watch.ordered) {
            let content = self.nodes[0].disk.contents();
            let [one, two] = [0, 1].map(|node: usize| self.nodes[node].disk.durable_contents());
            let durable = std::array::from_fn(|sector| one[sector].min(two[sector]));
            self.sectors.adopt(content, durable);
        }
    }
}

fn mirrored(mine: Verdict, theirs: Verdict) -> bool {
    matches!(
        (mine, theirs),
        (Verdict::Same, Verdict::Same)
            | (Verdict::Source, Verdict::Target)
            | (Verdict::Target, Verdict::Source)
    )
}

/// What a node says of a connection it was told to do without.
const BY_COMMAND: [&str; 2] = ["disconnected by command", "not told to connect yet"];
