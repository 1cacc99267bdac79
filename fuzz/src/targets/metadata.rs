//! A metadata area with anything in it: opened, it is an error or an image that keeps its own
//! rules, and an engine that attaches it rewrites it into an area that opens, with nothing that
//! was marked lost (C2, C4).

use rbd_protocol::metadata::{BLOCK_BYTES, Block, Image, PeerBitmap, probe};

use crate::engine::{Area, Machine, Shape};
use crate::frames;
use crate::input::Input;

/// The shape of the volume, then one change of the area after the other.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let shape = Shape::read(&mut input);
    let older = input.one_in(4);
    let mut area = Area::create(shape, 0);
    while !input.is_over() {
        change(&mut area, &mut input);
    }
    let found = probe(
        &mut |offset, into| area.read(offset, into),
        area.metadata_bytes(),
    );
    if let Ok(found) = found {
        assert!(found.len() < 64, "{found:?}");
    }
    let Ok(image) = area.open(older) else {
        return;
    };
    check(&image, shape);
    let marked = Marks::of(&image, shape);
    let mut machine = Machine::new(shape, 1);
    machine.areas = vec![area];
    machine.attach_image(image);
    machine.finish_everything();
    let after = match machine.areas[0].open(false) {
        Ok(image) => image,
        Err(error) => panic!("what an attach has written does not open: {error}"),
    };
    check(&after, shape);
    let left = Marks::of(&after, shape);
    assert!(
        marked.are_all_in(&left),
        "an attach lost marks: {marked:?} before, {left:?} after"
    );
}

fn check(image: &Image, shape: Shape) {
    assert_eq!(image.superblock.data_bytes, image.layout.data_bytes());
    assert!(image.layout.data_bytes() <= shape.device_bytes());
    let mut end = None;
    for regions in &image.hot_regions {
        assert!(regions.start < regions.end, "{regions:?}");
        assert!(end.is_none_or(|end| end < regions.start), "{regions:?}");
        end = Some(regions.end);
    }
    assert!(end.is_none_or(|end| end <= image.layout.data_bytes().div_ceil(4 << 20)));
    assert_eq!(image.peers.len(), usize::from(image.layout.max_peers()));
}

/// What one peer lacks according to a disk.
#[derive(Debug)]
struct Marks {
    everything: bool,
    pages: Vec<(u32, Vec<u64>)>,
    regions: Vec<u64>,
}

impl Marks {
    fn of(image: &Image, shape: Shape) -> Self {
        let slot = image.superblock.peer_slot_of(shape.peer()).map(usize::from);
        let pages = match slot.and_then(|slot| image.peers.get(slot)) {
            Some(PeerBitmap::Pages(pages)) => Some(pages),
            Some(PeerBitmap::Everything) | None => None,
        };
        Self {
            everything: pages.is_none(),
            pages: pages
                .into_iter()
                .flatten()
                .map(|(number, words)| (*number, words.to_vec()))
                .collect(),
            regions: image.hot_regions.iter().cloned().flatten().collect(),
        }
    }

    fn are_all_in(&self, later: &Self) -> bool {
        if later.everything {
            return true;
        }
        let covers = |(number, words): &(u32, Vec<u64>)| {
            let theirs = later.pages.iter().find(|(page, _)| page == number);
            words.iter().enumerate().all(|(at, word)| {
                let kept = theirs.map_or(0, |(_, words)| words[at]);
                word & !kept == 0
            })
        };
        !self.everything
            && self.pages.iter().all(covers)
            && self
                .regions
                .iter()
                .all(|region| later.regions.contains(region))
    }
}

fn change(area: &mut Area, input: &mut Input<'_>) {
    let block = area.block_at(input.u8());
    let mut bytes: Box<Block> = area.block(block);
    match input.u8() % 8 {
        0..=3 => {
            for _ in 0..=input.u8() % 4 {
                let at = usize::from(input.u16()) % BLOCK_BYTES;
                let patch = input.bytes(usize::from(input.peek() % 16) + 1);
                for (into, from) in bytes[at..].iter_mut().zip(patch) {
                    *into = *from;
                }
            }
        }
        4 => bytes = area.block(area.block_at(input.u8())),
        5 => bytes.fill(input.u8()),
        6 => {
            area.unreadable.insert(block);
            return;
        }
        _ => {
            // Half of one, half of another: a torn write.
            let other = area.block(area.block_at(input.u8()));
            let at = usize::from(input.u8() % 8) * 512;
            bytes[at..].copy_from_slice(&other[at..]);
            area.put(block, bytes);
            return;
        }
    }
    if input.u8() % 4 != 3 {
        frames::seal_block(&mut bytes);
    }
    area.put(block, bytes);
}
