//! rbdd.
fn main() {}
