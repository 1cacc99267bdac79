//! Prints what a node would take for out of sync if it came up on this disk now: per peer, which
//! blocks, and what says so.
//!
//! `rbd-marks DISK [--meta FILE[IDX]]`. Exit codes: 0 printed, 1 the metadata cannot be used. Never
//! writes; on a disk in use it may see a block half written, which is counted as damaged.

use std::process::ExitCode;

use rbd_protocol::metadata::Image;
use rbd_tests::check::{MetaPlace, Replica, suspects};

fn main() -> ExitCode {
    let replica = match read(std::env::args().skip(1)) {
        Ok(replica) => replica,
        Err(text) => {
            eprintln!("rbd-marks: {text}\nusage: rbd-marks DISK [--meta FILE[IDX]]");
            return ExitCode::from(1);
        }
    };
    match replica.open() {
        Ok(image) => {
            print(&image);
            ExitCode::SUCCESS
        }
        Err(text) => {
            eprintln!("rbd-marks: {text}");
            ExitCode::from(1)
        }
    }
}

fn print(image: &Image) {
    let own = &image.superblock;
    println!(
        "{}/{} on {} (node {}): {} blocks, generation {}",
        own.resource.as_str(),
        own.volume,
        own.node.as_str(),
        own.node_id,
        image.layout.bits(),
        own.generation
    );
    for damage in &image.damage {
        println!("damaged: {damage:?}");
    }
    for slot in &own.peers {
        let Some(peer) = slot.node_id else { continue };
        let found = suspects(image, peer);
        println!(
            "towards {} (node {peer}): {}",
            slot.name.as_str(),
            if found.is_empty() { "nothing" } else { "" }
        );
        for entry in found {
            println!(
                "  blocks {}..{} (bytes {}..{}): {}",
                entry.blocks.start,
                entry.blocks.end,
                entry.blocks.start * 4096,
                entry.blocks.end * 4096,
                entry.why
            );
        }
    }
    if own.peers.iter().all(|slot| slot.node_id.is_none()) {
        println!("no peer is known: towards any, everything");
    }
}

fn read(mut arguments: impl Iterator<Item = String>) -> Result<Replica, String> {
    let mut replica = None;
    let mut metadata = None;
    while let Some(argument) = arguments.next() {
        match &*argument {
            "--meta" => {
                let value = arguments.next().ok_or("--meta needs a file")?;
                metadata = Some(MetaPlace::named(&value));
            }
            option if option.starts_with('-') => return Err(format!("unknown option '{option}'")),
            disk if replica.is_none() => replica = Some(Replica::internal(disk)),
            _ => return Err("one disk at a time".into()),
        }
    }
    let mut replica = replica.ok_or("which disk?")?;
    replica.metadata = metadata;
    Ok(replica)
}
