//! The words of rbd: every type and byte that crosses a wall between two programs or between a program and a disk.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;

pub mod ids;
pub mod nbd;
