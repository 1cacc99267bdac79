//! The voice of rbd: reading the configuration, asking the daemon, printing the answer.

pub mod config;
