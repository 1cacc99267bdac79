//! rbd.
