//! What a node in a split brain tells of what it would give up, and what an order given for a copy
//! of it is worth.

use alloc::vec;
use alloc::vec::Vec;

use rbd_protocol::control::{Changes, RefusalCode, Shown};
use rbd_protocol::ids::{ByteRange, GenerationId};

use super::{Bench, PEER, SIZE, VOLUME};
use crate::{Action, Command, DiskRequest, LinkLoss};

/// A Secondary that has written these blocks alone and met a peer that has written too.
fn split(written: &[u64], is_exact: bool) -> Bench {
    let mut bench = Bench::primary();
    bench.link_down(LinkLoss::Closed);
    for at in written {
        bench.write_alone(*at);
    }
    bench.demote();
    bench.meet_rival(is_exact);
    bench
}

impl Bench {
    fn write_alone(&mut self, at: u64) {
        self.write(at);
        self.write_metadata();
        assert!(self.disk(DiskRequest::Write { fua: false }, Ok(())));
        self.write_metadata();
    }

    fn demote(&mut self) {
        self.command(Command::Demote { force: false });
        while self.disk(DiskRequest::Flush, Ok(())) {}
        self.write_metadata();
    }

    fn promote(&mut self) {
        self.command(Command::Promote { force: false });
        self.write_metadata();
    }

    /// A handshake with a peer that has changes of its own.
    fn meet_rival(&mut self, is_exact: bool) {
        self.meet(|hello| {
            (hello.tenure, hello.incarnation) = (77, 98);
            for volume in &mut hello.volumes {
                volume.current = GenerationId(0x7700);
                volume.history = vec![GenerationId(0x1000)];
                if !is_exact {
                    volume.bitmap = GenerationId(0x6600);
                }
            }
        });
        let status = self.engine.status(self.now);
        assert!(status.connections[0].refused.is_some(), "{status:?}");
        assert_eq!(self.close_dropped(), Some(LinkLoss::Refused));
        self.asked.clear();
    }

    fn changes(&self) -> Result<Changes, RefusalCode> {
        let changes = self.engine.changes(PEER, VOLUME, 0);
        changes.map_err(|refusal| refusal.code)
    }

    fn shown(&self) -> Shown {
        let status = self.engine.status(self.now);
        let refused = status.connections[0].refused.as_ref();
        refused.expect("a split brain").shown(status.tenure)
    }

    /// Orders this node to give up its changes, of which there is this copy.
    fn give_up(&mut self, saved: &[Changes]) -> Result<(), RefusalCode> {
        let call = self.command(Command::Resolve {
            peer: PEER,
            keep_own: false,
            shown: self.shown(),
            saved: saved.iter().map(|copy| copy.standing).collect(),
        });
        let answer = self.asked.iter().find_map(|action| match action {
            Action::Reply { call: of, result } if *of == call => Some(result.clone()),
            _ => None,
        });
        let answer = answer.expect("it is answered at once");
        answer.map(drop).map_err(|refusal| refusal.code)
    }
}

#[test]
fn what_was_written_alone_is_told_in_order_and_in_parts() {
    let mut bench = split(&[8 << 20, 0, 4096, 63 << 20], true);
    let changes = bench.changes().expect("it is told");
    let expected = [
        ByteRange::new(0, 8192),
        ByteRange::new(8 << 20, 4096),
        ByteRange::new(63 << 20, 4096),
    ];
    assert_eq!(changes.runs, expected);
    assert_eq!((changes.next, changes.is_everything), (None, false));
    assert_eq!(changes.since, GenerationId(0x1000));
    assert_eq!(changes.standing.marked_blocks, 4);
    let rest = bench
        .engine
        .changes(PEER, VOLUME, 8192)
        .expect("it is told");
    assert_eq!(rest.runs, expected[1..]);
    assert_eq!(bench.give_up(&[changes]), Ok(()));
}

#[test]
fn where_nobody_knows_what_the_peer_lacks_everything_is_given_up() {
    let bench = split(&[4096], false);
    let changes = bench.changes().expect("it is told");
    assert!(changes.is_everything);
    assert_eq!(changes.since, GenerationId::NONE);
    let all: Vec<_> = changes.runs;
    assert_eq!(
        all,
        [ByteRange::new(0, u32::try_from(SIZE).expect("small"))]
    );
    let rest = bench.engine.changes(PEER, VOLUME, SIZE - 4096);
    let rest = rest.expect("it is told").runs;
    assert_eq!(rest, [ByteRange::new(SIZE - 4096, 4096)], "to the end");
}

#[test]
fn a_long_list_comes_in_parts_that_meet() {
    let scattered: Vec<u64> = (0..5000).map(|at| at * 8192).collect();
    let bench = split(&scattered, true);
    let (mut found, mut from) = (Vec::new(), Some(0));
    let mut parts = 0;
    while let Some(at) = from {
        let part = bench.engine.changes(PEER, VOLUME, at).expect("it is told");
        found.extend(part.runs.iter().map(|run| run.offset));
        from = part.next;
        parts += 1;
    }
    assert_eq!(found, scattered);
    assert_eq!(parts, 2);
}

#[test]
fn a_write_after_the_copy_voids_the_order_though_no_mark_tells_of_it() {
    let mut bench = split(&[0], true);
    let saved = bench.changes().expect("it is told");
    bench.promote();
    bench.write_alone(0);
    assert_eq!(bench.changes(), Err(RefusalCode::DiscardWhilePrimary));
    bench.demote();
    bench.meet_rival(true);
    let now = bench.changes().expect("it is told");
    assert_eq!(now.runs, saved.runs);
    assert_eq!(
        bench.give_up(core::slice::from_ref(&saved)),
        Err(RefusalCode::StateConcurrent)
    );
    assert_eq!(bench.give_up(&[now]), Ok(()));
}

#[test]
fn what_may_still_grow_is_not_told() {
    let mut bench = split(&[0], true);
    bench.promote();
    assert_eq!(bench.changes(), Err(RefusalCode::DiscardWhilePrimary));
    bench.command(Command::Demote { force: false });
    assert_eq!(bench.changes(), Err(RefusalCode::DiscardWhilePrimary));
}

#[test]
fn without_a_split_brain_or_a_disk_there_is_nothing_to_tell() {
    let bench = Bench::in_sync();
    assert_eq!(bench.changes(), Err(RefusalCode::InvalidRequest));
    let mut bench = split(&[0], true);
    let saved = bench.changes().expect("it is told");
    bench.promote();
    bench.write(4096);
    bench.write_metadata();
    bench.disk(DiskRequest::Write { fua: false }, Err(crate::DiskError::Io));
    bench.command(Command::Demote { force: true });
    bench.write_metadata();
    assert_eq!(bench.changes(), Err(RefusalCode::StateDiskless));
    assert_eq!(bench.give_up(&[saved]), Err(RefusalCode::StateConcurrent));
}

#[test]
fn a_copy_counts_only_where_its_data_is_given_up() {
    let mut bench = split(&[0], true);
    let saved = bench.changes().expect("it is told");
    let shown = bench.shown();
    let call = bench.command(Command::Resolve {
        peer: PEER,
        keep_own: true,
        shown,
        saved: vec![saved.standing],
    });
    assert_eq!(bench.reply(call), Some(false));
    let mut other = saved;
    other.standing.volume.0 += 1;
    assert_eq!(bench.give_up(&[other]), Err(RefusalCode::StateConcurrent));
    assert_eq!(bench.give_up(&[]), Ok(()));
}
