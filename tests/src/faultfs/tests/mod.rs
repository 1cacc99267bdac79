//! The faulty disk must be faulty in exactly the way it says.

mod cache;
mod commands;
mod faults;
mod mounted;

use std::fs::File;
use std::sync::mpsc;
use std::time::Duration;

use rustix::io::Errno;

use super::disks::{Answer, Disks, Request};
use crate::check::SECTOR;

/// A medium of so many sectors, each filled with its number.
fn medium(sectors: u8) -> File {
    use std::io::Write;
    let mut file = tempfile::tempfile().expect("there is room for a small file");
    for sector in 0..sectors {
        file.write_all(&[sector; SECTOR])
            .expect("it takes a sector");
    }
    file
}

/// One disk named `disk`, and another view of its medium.
fn disks(sectors: u8) -> (Disks, File) {
    let medium = medium(sectors);
    let view = medium.try_clone().expect("a file can be shared");
    let disks = Disks::new(vec![("disk".to_owned(), medium)]).expect("a disk");
    (disks, view)
}

fn start(disks: &Disks, request: Request) -> mpsc::Receiver<Result<Answer, Errno>> {
    let (sender, receiver) = mpsc::channel();
    disks.submit(
        0,
        request,
        Box::new(move |answer| drop(sender.send(answer))),
    );
    receiver
}

fn ask(disks: &Disks, request: Request) -> Result<Answer, Errno> {
    let answer = start(disks, request).recv_timeout(Duration::from_secs(30));
    answer.expect("every request is answered")
}

fn write(disks: &Disks, sector: u64, value: u8) -> Result<Answer, Errno> {
    ask(disks, writing(sector, value, 1))
}

fn writing(sector: u64, value: u8, count: usize) -> Request {
    Request::Write {
        offset: sector * SECTOR as u64,
        data: vec![value; SECTOR * count],
        durable: false,
    }
}

fn read(disks: &Disks, sector: u64) -> Result<u8, Errno> {
    let request = Request::Read {
        offset: sector * SECTOR as u64,
        length: SECTOR,
    };
    ask(disks, request).map(|answer| match answer {
        Answer::Data(data) => {
            assert!(data.iter().all(|byte| *byte == data[0]), "a torn sector");
            data[0]
        }
        Answer::Done(_) => panic!("a read brings data"),
    })
}

/// What is on the medium.
fn lasting(medium: &File, sector: u64) -> u8 {
    use std::os::unix::fs::FileExt;
    let mut bytes = [0; SECTOR];
    medium
        .read_exact_at(&mut bytes, sector * SECTOR as u64)
        .expect("the medium can be read");
    assert!(bytes.iter().all(|byte| *byte == bytes[0]), "a torn sector");
    bytes[0]
}
