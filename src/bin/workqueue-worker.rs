//! `workqueue-worker`: the worker.
fn main() {}
