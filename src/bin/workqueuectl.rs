//! `workqueuectl`: the command line.
fn main() {}
