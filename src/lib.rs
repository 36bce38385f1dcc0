//! A durable work queue for one Linux machine that you can see with `ls`.
//!
//! # The house
//!
//! Floors, top to bottom. A floor uses those below it, never one above it or beside it.
//!
//! | floor | what it is for | what it may not know |
//! |---|---|---|
//! | `bin` | a dozen lines each: run, give the exit code | anything else |
//! | [`daemon`] | puts settings, engine and transports together, and takes them apart again | what any of them means |
//! | [`ctl`], [`worker`] | programs that only speak HTTP, through [`client`] | the engine |
//! | [`client`] | the API as calls | who calls, and why |
//! | [`config`] | TOML, environment and flags to one checked value, and where each setting came from | sockets |
//! | [`http`], [`admin`] | transports: parse, authorise, call [`backend::Backend`], render | rules of the queue, files |
//! | [`api`] | the words of the HTTP API, shared by those who serve it and those who speak it | who serves it |
//! | [`access`] | who may do what: scopes, queues, tokens as hashes | how a credential comes, where tokens are kept |
//! | [`engine`] | `step(now, input) -> outputs`, and the threads that drive it | HTTP, rules of the queue, formats on disk |
//! | [`backend`] | the one trait that transports see | who implements it |
//! | [`queue`] | the pure state machine: decide, apply, order, timers | clocks, files, threads, randomness |
//! | [`store`] | journal, checkpoint, spool, watcher, over one seam to the disk | the queue's rules |
//! | [`task`] | what a task is, how it is written down, what is asked and shown of it | everything above |
//! | [`defect`] | deliberate defects, for the proof that tests can fail; none of it in a program | everything |
//! | [`pem`] | certificates and keys from files | who shows them to whom |
//! | [`runtime`] | the threads that programs run on, and their limits | what runs on them |
//! | [`systemd`] | notify, listening descriptors, log: the edge to the init system | tasks |

#![forbid(unsafe_code)]

pub mod access;
pub mod admin;
pub mod api;
pub mod backend;
pub mod client;
pub mod config;
pub mod ctl;
pub mod daemon;
pub mod defect;
pub mod engine;
pub mod http;
pub mod pem;
pub mod queue;
pub mod runtime;
pub mod store;
pub mod systemd;
pub mod task;
pub mod worker;
