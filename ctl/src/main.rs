//! rbdadm.
fn main() {}
