//! `workqueued`: the daemon.
fn main() {}
