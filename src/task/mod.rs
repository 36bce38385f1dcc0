//! The ground floor: what a task is, what its parts are called, and how they are written down.
//!
//! Everything here is a value. Parsing happens once, at the edge, and refuses what is out of range with a [`Refusal`] that
//! names the field; a value that exists is right everywhere above.
//!
//! This floor may not know: clocks, files, threads, randomness, HTTP, or any floor above it.

mod codec;
mod exectime;
mod file;
mod happening;
mod id;
mod name;
mod numbers;
mod object;
mod options;
mod payload;
mod priority;
mod queue_name;
mod record;
mod refusal;
mod shown;
mod state;
mod time;
mod trace;
mod view;
mod whole;
mod worker_name;

pub use codec::{CodecError, decode_records, encode_record, read_records};
pub use exectime::ExecTime;
pub use file::{TaskFile, read_dropped, read_dropped_text};
pub use happening::{Happening, TaskHistory};
pub use id::{IdPrefix, IdSource, TaskId, Token};
pub use name::{Area, FileName, Location};
pub use numbers::{Distribution, HistorySlot, HistoryView, Quantiles, Span};
pub use object::{NewTask, Object, TaskObject, from_json, object_or_null, objects, seconds};
pub use options::{Backoff, Options};
pub use payload::{Payload, PayloadLimits};
pub use priority::Priority;
pub use queue_name::QueueName;
pub use record::{
    Claimed, DirMark, LeaseKind, Left, Past, Record, Restored, RestoredLease, Source, Submitted,
    Then,
};
pub use refusal::Refusal;
pub use shown::{is_unsafe_to_show, shown_text};
pub use state::State;
pub use time::{Millis, Now, Tick, WallMillis};
pub use trace::Trace;
pub use view::{
    Change, ClaimAnswer, ClaimRequest, Completion, Counters, Cursor, DiskSpace, Event, EventKind,
    EventResult, ExportHead, ExportPiece, Failure, Health, LeaseView, Page, PageQuery, QueueView,
    RejectedView, RetriedDead, Settlement, StatusView, SubmitOutcome, TaskView, WorkerView,
};
pub use whole::{whole, whole_or_null};
pub use worker_name::WorkerName;
