//! A durable work queue for one Linux machine that you can see with `ls`.
//!
//! # The house
//!
//! Floors, top to bottom. A floor uses those below it, never one above it or beside it.
//!
//! | floor | what it is for | what it may not know |
//! |---|---|---|
//! | `bin` | a dozen lines each: parse arguments, run, give the exit code | anything else |
//! | `config` | TOML, environment and flags to one checked value, and where each setting came from | sockets, tasks |
//! | `ctl`, `worker` | programs that only speak HTTP, through `client` | the engine, files of the daemon |
//! | `http`, `admin` | transports: parse, authorise, call `backend::Backend`, render | rules of the queue, files |
//! | `api` | the words of the HTTP API, shared by those who serve it and those who speak it | who serves it |
//! | `backend` | the one trait that transports see | who implements it |
//! | `engine` | `step(now, input) -> outputs`, and the threads that drive it | HTTP, rules of the queue, formats on disk |
//! | `queue` | the pure state machine: decide, apply, order, timers | clocks, files, threads, randomness |
//! | `store` | journal, checkpoint, spool, watcher, over one seam to the disk | the queue's rules |
//! | [`task`] | what a task is and how it is written down | everything above |
//! | `systemd` | notify, listening descriptors, watchdog: the edge to the init system | tasks |

pub mod admin;
pub mod api;
pub mod backend;
pub mod http;
pub mod store;
pub mod task;
