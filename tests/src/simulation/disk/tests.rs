//! The disk keeps what it must, and loses what it may.

use rbd_engine::{DiskError, DiskRequest, OperationId};
use rbd_protocol::ids::ByteRange;

use super::{Disk, Payload, Random, Trouble};
use crate::check::Possible;

const WRITE: DiskRequest = DiskRequest::Write { fua: false };
const FUA: DiskRequest = DiskRequest::Write { fua: true };

struct Bench {
    disk: Disk,
    random: Random,
    next: u64,
}

impl Bench {
    fn new(shared_cache: bool) -> Self {
        Self {
            disk: Disk::new(1 << 16, 1 << 16, shared_cache),
            random: Random::new(7),
            next: 0,
        }
    }

    fn begin(&mut self, request: DiskRequest, sector: u64, values: &[u64]) -> OperationId {
        self.next += 1;
        let id = OperationId(self.next);
        let length = u32::try_from(values.len() * 512).unwrap();
        let data: Payload = values.into();
        let range = ByteRange::new(sector * 512, length);
        self.disk
            .submit(id, request, range, Some(&data), &mut self.random)
            .unwrap();
        id
    }

    fn end(&mut self, id: OperationId) -> Result<Option<Payload>, DiskError> {
        self.disk.complete(id, 0, &mut self.random)
    }

    fn perform(&mut self, request: DiskRequest, sector: u64, values: &[u64]) {
        let id = self.begin(request, sector, values);
        self.end(id).unwrap();
    }

    fn write_metadata(&mut self) -> OperationId {
        self.next += 1;
        let id = OperationId(self.next);
        let block = Box::new([9; 4096]);
        self.disk.submit_metadata(id, 0, block).unwrap();
        id
    }

    /// What the sector may hold after many a power loss.
    fn after_power_loss(build: impl Fn(&mut Self)) -> Vec<u64> {
        let mut seen: Vec<u64> = (0..200)
            .map(|seed| {
                let mut bench = Self::new(false);
                bench.random = Random::new(seed);
                build(&mut bench);
                bench.disk.power_loss(&mut bench.random);
                bench.disk.content(3)
            })
            .collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }
}

#[test]
fn what_has_completed_is_read_and_may_be_lost() {
    let mut bench = Bench::new(false);
    bench.perform(WRITE, 3, &[1]);
    assert_eq!(bench.disk.content(3), 1);
    let after = Bench::after_power_loss(|bench| {
        bench.perform(WRITE, 3, &[1]);
        bench.perform(WRITE, 3, &[2]);
    });
    assert_eq!(after, [0, 1, 2], "any value since the last flush");
}

#[test]
fn a_flush_covers_what_completed_before_it_began_and_nothing_else() {
    let after = Bench::after_power_loss(|bench| {
        bench.perform(WRITE, 3, &[1]);
        let flush = bench.begin(DiskRequest::Flush, 0, &[]);
        bench.perform(WRITE, 3, &[2]);
        bench.end(flush).unwrap();
    });
    assert_eq!(after, [1, 2]);
    let after = Bench::after_power_loss(|bench| {
        let write = bench.begin(WRITE, 3, &[1]);
        let flush = bench.begin(DiskRequest::Flush, 0, &[]);
        bench.end(write).unwrap();
        bench.end(flush).unwrap();
    });
    assert_eq!(after, [0, 1], "it had not completed when the flush began");
}

#[test]
fn a_write_with_fua_is_durable_and_nothing_before_it_returns() {
    let after = Bench::after_power_loss(|bench| {
        bench.perform(WRITE, 3, &[1]);
        bench.perform(FUA, 3, &[2]);
    });
    assert_eq!(after, [2]);
}

#[test]
fn a_write_in_flight_at_a_crash_happens_wholly_not_at_all_or_in_part() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let mut bench = Bench::new(false);
        bench.random = Random::new(seed);
        bench.begin(WRITE, 3, &[1, 1]);
        assert_eq!(bench.disk.only(3), None, "it may or may not be there");
        bench.disk.process_crash(&mut bench.random);
        seen.insert((bench.disk.content(3), bench.disk.content(4)));
    }
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        [(0, 0), (0, 1), (1, 0), (1, 1)]
    );
}

#[test]
fn metadata_makes_data_durable_only_on_the_same_device() {
    for (shared, survivors) in [(true, vec![1]), (false, vec![0, 1])] {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let mut bench = Bench::new(shared);
            bench.random = Random::new(seed);
            bench.perform(WRITE, 3, &[1]);
            let id = bench.write_metadata();
            bench.end(id).unwrap();
            bench.disk.power_loss(&mut bench.random);
            seen.insert(bench.disk.content(3));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), survivors);
    }
}

#[test]
fn a_failed_flush_is_not_made_good_by_the_next() {
    let after = Bench::after_power_loss(|bench| {
        bench.perform(WRITE, 3, &[1]);
        bench.disk.fail(Trouble::Flush, 1);
        let flush = bench.begin(DiskRequest::Flush, 0, &[]);
        assert_eq!(bench.end(flush), Err(DiskError::Io));
        bench.perform(DiskRequest::Flush, 0, &[]);
    });
    assert_eq!(after, [0, 1]);
}

#[test]
fn what_is_written_after_a_failed_flush_can_be_made_durable() {
    let after = Bench::after_power_loss(|bench| {
        bench.perform(WRITE, 3, &[1]);
        bench.disk.fail(Trouble::Flush, 1);
        let flush = bench.begin(DiskRequest::Flush, 0, &[]);
        assert_eq!(bench.end(flush), Err(DiskError::Io));
        bench.perform(WRITE, 3, &[2]);
        bench.perform(DiskRequest::Flush, 0, &[]);
    });
    assert_eq!(after, [2]);
}

#[test]
fn a_failed_write_has_happened_in_part_and_the_next_may_succeed() {
    let after = Bench::after_power_loss(|bench| {
        bench.disk.fail(Trouble::Write, 1);
        let write = bench.begin(FUA, 3, &[1]);
        assert_eq!(bench.end(write), Err(DiskError::Io));
        bench.perform(WRITE, 9, &[1]);
    });
    assert_eq!(after, [0, 1]);
}

#[test]
fn a_bad_sector_is_read_again_when_it_has_been_written() {
    let mut bench = Bench::new(false);
    bench.disk.spoil(2, 4);
    let read = bench.begin(DiskRequest::Read, 3, &[0]);
    assert_eq!(bench.end(read), Err(DiskError::Io));
    bench.perform(WRITE, 3, &[1]);
    bench.perform(DiskRequest::Read, 3, &[0]);
    for sector in [2, 5] {
        let read = bench.begin(DiskRequest::Read, sector, &[0]);
        assert_eq!(bench.end(read), Err(DiskError::Io));
    }
}

#[test]
fn a_full_disk_can_be_read_and_a_lost_one_cannot() {
    let mut bench = Bench::new(false);
    bench.disk.full_until = 1;
    let write = bench.begin(WRITE, 3, &[1]);
    assert_eq!(bench.end(write), Err(DiskError::NoSpace));
    bench.perform(DiskRequest::Read, 3, &[0]);
    bench.disk.gone_until = 1;
    let read = bench.begin(DiskRequest::Read, 3, &[0]);
    assert_eq!(bench.end(read), Err(DiskError::Io));
    bench.disk.repair();
    bench.perform(WRITE, 3, &[1]);
}

#[test]
fn a_second_write_of_a_sector_in_flight_is_refused() {
    let mut bench = Bench::new(false);
    bench.begin(WRITE, 3, &[1, 2]);
    let range = ByteRange::new(4 * 512, 512);
    let data: Payload = [1].as_slice().into();
    let result = bench
        .disk
        .submit(OperationId(9), WRITE, range, Some(&data), &mut bench.random);
    assert!(result.is_err());
}
