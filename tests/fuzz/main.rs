//! Fuzzing: whatever comes from outside (requests, files, settings, what a disk gives back) is read without a panic, with
//! memory bounded by its length, in bounded time; and what is taken is given back the same. A module a subject.
//!
//! # Which tool
//!
//! A mutator of its own (`mutate`), over a committed corpus, from a seed. libFuzzer and AFL want nightly or a compiler of
//! their own for coverage, and so do bolero's engines; on stable it makes random values, as proptest does, and neither
//! begins from files. What they would bring is feedback, and a cheap kind of it is here: an input that is answered in words
//! that none before was answered with becomes a seed itself (`run`).
//!
//! # Running
//!
//! `cargo test --test fuzz` handles the corpus as it is and then a fixed number of inputs from a fixed seed, about 45
//! seconds in a debug build. `WORKQUEUE_SEED=n` takes another seed; `WORKQUEUE_HOURS=h` goes from one seed to the next until
//! the time is up, each target for its share (`tests/soak --fuzz --hours h`, with optimisation and on all cores).
//!
//! What fails is written to `target/fuzz/TARGET-SEED`; `WORKQUEUE_INPUT=FILE cargo test --test fuzz TARGET` handles it alone.
//! Once mended it goes to `corpus/TARGET`, under a name that says what it showed.
//!
//! # What is held
//!
//! - Nothing panics, in no thread.
//! - At its peak an input takes no more memory than its target's multiple of its length, and a constant. The allocator of
//!   this program counts; since that is one count for all threads, one target runs at a time.
//! - An input takes less than [`run::LONGEST`]. A thread watches; it ends the program, and the input is in
//!   `target/fuzz/TARGET-at-hand-PID`, as after a stack overflow.
//! - What each target says of answers and of what is read.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test fails by panicking, tells what it did, and is held against a real clock"
)]

mod answer;
mod bodies;
mod corpus;
mod disk;
mod drops;
mod heads;
mod http;
mod image;
mod journal;
mod json;
mod mutate;
mod names;
mod pairs;
mod records;
mod run;
mod settings;
mod site;
mod text;

use peak_alloc::PeakAlloc;

/// Counts what all threads have at a time, and the most of it. Of the crates that count, the one that tells a peak and can
/// begin it anew; and no unsafe code of ours is needed for it.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;
