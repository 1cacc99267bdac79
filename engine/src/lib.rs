//! The mind of rbd.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
