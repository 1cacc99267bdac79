//! That the measured engines really do replicated writes.

use super::pair::Pair;
use super::workload::{Side, Workload};

#[test]
fn both_sides_finish_every_write_they_are_given() {
    for (depth, are_two) in [(1, false), (32, false), (1, true), (32, true)] {
        let ([mut primary, mut secondary], link) = Pair::at_work(are_two).expect("a pair");
        for (side, node) in [
            (Side::Primary, &mut primary),
            (Side::Secondary, &mut secondary),
        ] {
            let mut workload = Workload::new(side, depth, link);
            workload.warm(node).expect("every region is written to");
            workload.run(node, 10_000);
            let status = node.status(workload.now());
            let written = status.devices.iter().map(|device| device.written_bytes);
            let least = (super::workload::warm_writes() + 10_000) * 4096;
            assert!(
                written.sum::<u64>() >= least,
                "{side:?} {depth}: {status:?}"
            );
            let dirty = status
                .connections
                .iter()
                .flat_map(|peer| &peer.peer_devices)
                .map(|device| device.out_of_sync_bytes);
            assert_eq!(dirty.sum::<u64>(), 0, "{side:?} {depth}");
        }
    }
}
