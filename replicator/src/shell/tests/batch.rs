//! What is to be sent, and how much of it has been.

use super::super::batch::Batch;
use super::super::buffer::Pool;
use super::pattern;

fn gather(batch: &Batch) -> Vec<u8> {
    batch.rest(usize::MAX).flatten().copied().collect()
}

#[test]
fn a_batch_keeps_the_order_and_goes_on_where_it_was_interrupted() {
    let pool = Pool::default();
    let payload = pattern(5000, 1);
    let fill = |batch: &mut Batch| {
        batch.append(|bytes| bytes.extend_from_slice(b"header"));
        batch.append(|bytes| bytes.extend_from_slice(b"more"));
        batch.append_payload(pool.copy_of(&payload));
        batch.append(|bytes| bytes.extend_from_slice(b"tail"));
    };
    let mut whole = b"headermore".to_vec();
    whole.extend_from_slice(&payload);
    whole.extend_from_slice(b"tail");
    for step in [1, 3, 10, 11, 4096, whole.len()] {
        let mut batch = Batch::default();
        fill(&mut batch);
        let mut sent = 0;
        while !batch.is_empty() {
            assert_eq!(gather(&batch), whole[sent..]);
            assert_eq!(batch.bytes_left(), whole.len() - sent);
            let part = step.min(whole.len() - sent);
            batch.advance(part);
            sent += part;
        }
        assert_eq!((sent, batch.bytes_left()), (whole.len(), 0));
        fill(&mut batch);
        assert_eq!(gather(&batch), whole, "an emptied batch is used again");
    }
}

#[test]
fn memory_of_a_buffer_is_given_out_again_only_when_nobody_holds_it() {
    let pool = Pool::default();
    let first = pool.take(4096);
    let address = first.address();
    let clone = first.clone();
    drop(first);
    assert_ne!(pool.take(4096).address(), address);
    drop(clone);
    let again = [pool.take(4096), pool.take(100)];
    assert!(again.iter().any(|buffer| buffer.address() == address));
    assert!(
        again
            .iter()
            .all(|buffer| buffer.address().addr() % 4096 == 0)
    );
}
