//! How records are written in the journal and the checkpoint, byte by byte.
//!
//! A record is one tag byte and its fields in order. Integers of fixed width are little-endian; `len` and counts are
//! LEB128 varints of at most 64 bits; text and JSON are a `len` and UTF-8 bytes; an optional field is a byte 0 or 1, and
//! the field after 1. Ids and tokens are 16 bytes, most significant first; times are 8 bytes, signed.
//!
//! | tag | record | fields |
//! |---|---|---|
//! | 1 | submitted | id, how it came (0, 1 with an id made here, 2 imported), queue, priority (4), exectime, options, payload, source?, and where it was imported: attempts (varint), dead (0/1), last error? |
//! | 2 | claimed | id, token, kind (0 legacy, 1 v1), worker?, at, length (8), expires (8) |
//! | 3 | completed | id, result?, at |
//! | 4 | failed | id, error, then |
//! | 5 | released | id |
//! | 6 | extended | id, length (8), expires (8) |
//! | 7 | expired | id, then |
//! | 8 | cancelled | id |
//! | 9 | rescheduled | id, priority (4), exectime |
//! | 10 | retried | id |
//! | 11 | paused | queue?, on (0/1) |
//! | 12 | draining | queue?, on (0/1) |
//! | 13 | rebooted | tick (8) |
//! | 14 | restored | id, queue, priority (4), exectime, options, attempts (varint), state (0 ready, 1 leased, 2 dead), lease?, last error? |
//! | 15 | opened | queue |
//! | 16 | moved | id, queue, priority (4), exectime |
//! | 17 | housed | queue, mark (16) |
//! | 18 | left behind | id, at, left (0 only, 1 copy, 2 ended, 3 missed) |
//! | 19 | cancelled, its file gone | id |
//! | 20 | drop behind | id, inode (8), modified (16), size (8), moved (0/1) |
//!
//! `options`: unique key?, max attempts? (varint), lease? (8), one byte of which bit 0 says that a backoff follows (base 8, max 8)
//! and bit 1 that a trace does (trace id 16, parent id 8, flags 1, state?). `then`: 0 and exectime, or 1 for
//! dead. `lease`: token, kind, worker?, at, length (8), expires (8). `source`: path as bytes, inode (8), modified (16),
//! size (8).
//!
//! What numbers count: `at` is milliseconds of the wall clock since 1970, `exectime` whole seconds of it; `length`, a `lease` that is
//! asked for, and a backoff's `base` and `max` are milliseconds; `expires` and `tick` are nanoseconds of the boot clock, of the boot that the
//! segment or checkpoint names; `modified` is nanoseconds since 1970; `size` is bytes.
//!
//! Reading checks every value again: bytes with a right checksum may still come from a newer version.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, path::PathBuf, sync::Arc};

use super::{
    Backoff, Claimed, DirMark, ExecTime, LeaseKind, Left, Millis, Options, Past, Payload, Priority,
    QueueName, Record, Restored, RestoredLease, Source, State, Submitted, TaskId, Then, Tick,
    Token, Trace, WallMillis, WorkerName,
};

/// What follows the lease that a task asks for.
const HAS_BACKOFF: u8 = 1;
const HAS_TRACE: u8 = 2;
/// How a task came: its id is the importer's.
const IMPORTED: u8 = 2;

/// Why bytes are not a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end inside a record.
    #[error("a record is cut off")]
    Short,
    /// A tag or kind that this version does not know.
    #[error("unknown {what} {value}; was this written by a newer version?")]
    Unknown {
        /// What carries the value.
        what: &'static str,
        /// The value.
        value: u8,
    },
    /// A value that no version writes.
    #[error("{0} is not valid")]
    Invalid(&'static str),
}

type Result<T> = std::result::Result<T, CodecError>;

/// Appends `record` to `out`.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    let mut w = Writer(out);
    match record {
        Record::Submitted(task) => w.submitted(task),
        Record::Claimed(claimed) => {
            w.tag(2)
                .id(claimed.id)
                .raw(&claimed.token.0.to_be_bytes())
                .kind(claimed.kind);
            w.optional(claimed.worker.as_ref(), |w, worker| w.text(worker.as_str()));
            w.signed(claimed.at.0)
                .fixed(claimed.length.0)
                .fixed(claimed.expires.0);
        }
        Record::Completed { id, result, at } => {
            w.tag(3)
                .id(*id)
                .optional(result.as_ref(), |w, result| w.text(result.as_json()))
                .signed(at.0);
        }
        Record::Failed { id, error, then } => {
            w.tag(4).id(*id).text(error).then(*then);
        }
        Record::Released { id } => {
            w.tag(5).id(*id);
        }
        Record::Extended {
            id,
            length,
            expires,
        } => {
            w.tag(6).id(*id).fixed(length.0).fixed(expires.0);
        }
        Record::Expired { id, then } => {
            w.tag(7).id(*id).then(*then);
        }
        Record::Cancelled { id, gone } => {
            w.tag(if *gone { 19 } else { 8 }).id(*id);
        }
        Record::Rescheduled {
            id,
            priority,
            exectime,
        } => {
            w.tag(9).id(*id).place(*priority, *exectime);
        }
        Record::Moved {
            id,
            queue,
            priority,
            exectime,
        } => {
            w.tag(16)
                .id(*id)
                .text(queue.as_str())
                .place(*priority, *exectime);
        }
        Record::Retried { id } => {
            w.tag(10).id(*id);
        }
        Record::Paused { queue, on } => w.switch(11, queue.as_ref(), *on),
        Record::Draining { queue, on } => w.switch(12, queue.as_ref(), *on),
        Record::Rebooted { tick } => {
            w.tag(13).fixed(tick.0);
        }
        Record::Restored(task) => w.restored(task),
        Record::Opened { queue } => {
            w.tag(15).text(queue.as_str());
        }
        Record::Housed { queue, mark } => {
            w.tag(17).text(queue.as_str()).raw(&mark.0);
        }
        Record::LeftBehind { id, at, left } => {
            w.tag(18).id(*id).signed(at.0).left(*left);
        }
        Record::DropBehind {
            id,
            inode,
            modified,
            size,
            moved,
        } => {
            w.tag(20)
                .id(*id)
                .file(*inode, *modified, *size)
                .byte(u8::from(*moved));
        }
    }
}

/// Reads all the records that `bytes` holds, in order.
pub fn decode_records(bytes: &[u8]) -> Result<Vec<Record>> {
    read_records(bytes).collect()
}

/// Like [`decode_records`], one after the other. Behind an error comes nothing.
pub fn read_records(bytes: &[u8]) -> impl Iterator<Item = Result<Record>> {
    let mut r = Reader(bytes);
    std::iter::from_fn(move || {
        let record = (!r.0.is_empty()).then(|| r.record())?;
        if record.is_err() {
            r.0 = &[];
        }
        Some(record)
    })
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn byte(&mut self, value: u8) -> &mut Self {
        self.raw(&[value])
    }

    fn tag(&mut self, value: u8) -> &mut Self {
        self.byte(value)
    }

    fn id(&mut self, id: TaskId) -> &mut Self {
        self.raw(id.as_bytes())
    }

    fn fixed(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn signed(&mut self, value: i64) -> &mut Self {
        self.raw(&value.to_le_bytes())
    }

    fn varint(&mut self, mut value: u64) -> &mut Self {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8)
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.varint(bytes.len() as u64).raw(bytes)
    }

    fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    fn optional<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T) -> &mut Self,
    ) -> &mut Self {
        match value {
            None => self.byte(0),
            Some(value) => {
                self.byte(1);
                write(self, value)
            }
        }
    }

    fn kind(&mut self, kind: LeaseKind) -> &mut Self {
        self.byte(match kind {
            LeaseKind::Legacy => 0,
            LeaseKind::V1 => 1,
        })
    }

    fn then(&mut self, then: Then) -> &mut Self {
        match then {
            Then::Retry(exectime) => self.byte(0).signed(exectime.get()),
            Then::Dead => self.byte(1),
        }
    }

    fn place(&mut self, priority: Priority, exectime: ExecTime) -> &mut Self {
        self.raw(&priority.get().to_le_bytes())
            .signed(exectime.get())
    }

    fn options(&mut self, options: &Options) -> &mut Self {
        self.optional(options.unique_key.as_deref(), Self::text)
            .optional(options.max_attempts, |w, count| w.varint(count.into()))
            .optional(options.lease, |w, lease| w.fixed(lease.0))
            .byte(
                (u8::from(options.backoff.is_some()) * HAS_BACKOFF)
                    | (u8::from(options.trace.is_some()) * HAS_TRACE),
            );
        if let Some(backoff) = options.backoff {
            self.fixed(backoff.base.0).fixed(backoff.max.0);
        }
        if let Some(trace) = &options.trace {
            self.raw(&trace.to_bytes())
                .optional(trace.state(), Self::text);
        }
        self
    }

    fn source(&mut self, source: &Source) -> &mut Self {
        self.bytes(source.path.as_os_str().as_bytes()).file(
            source.inode,
            source.modified,
            source.size,
        )
    }

    fn file(&mut self, inode: u64, modified: i128, size: u64) -> &mut Self {
        self.fixed(inode).raw(&modified.to_le_bytes()).fixed(size)
    }

    fn left(&mut self, left: Left) -> &mut Self {
        self.byte(match left {
            Left::Only => 0,
            Left::Copy => 1,
            Left::Ended => 2,
            Left::Missed => 3,
        })
    }

    fn switch(&mut self, tag: u8, queue: Option<&QueueName>, on: bool) {
        self.tag(tag)
            .optional(queue, |w, queue| w.text(queue.as_str()))
            .byte(u8::from(on));
    }

    fn submitted(&mut self, task: &Submitted) {
        self.tag(1)
            .id(task.id)
            .byte(match &task.past {
                None => u8::from(task.made_here),
                Some(_) => IMPORTED,
            })
            .text(task.queue.as_str())
            .place(task.priority, task.exectime)
            .options(&task.options)
            .text(task.payload.as_json())
            .optional(task.source.as_ref(), Writer::source);
        if let Some(past) = &task.past {
            self.varint(past.attempts.into())
                .byte(u8::from(past.dead))
                .optional(past.last_error.as_deref(), Writer::text);
        }
    }

    fn restored(&mut self, task: &Restored) {
        self.tag(14)
            .id(task.id)
            .text(task.queue.as_str())
            .place(task.priority, task.exectime);
        self.options(&task.options).varint(task.attempts.into());
        self.byte(match task.state {
            State::Ready | State::Scheduled => 0,
            State::Leased => 1,
            State::Dead => 2,
        });
        self.optional(task.lease.as_ref(), |w, lease| {
            w.raw(&lease.token.0.to_be_bytes()).kind(lease.kind);
            w.optional(lease.worker.as_ref(), |w, worker| w.text(worker.as_str()));
            w.signed(lease.at.0)
                .fixed(lease.length.0)
                .fixed(lease.expires.0)
        });
        self.optional(task.last_error.as_deref(), Self::text);
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(CodecError::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| CodecError::Short)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn flag(&mut self, what: &'static str) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(CodecError::Unknown { what, value }),
        }
    }

    fn fixed(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn signed(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    fn millis(&mut self) -> Result<Millis> {
        self.fixed().map(Millis)
    }

    fn tick(&mut self) -> Result<Tick> {
        self.fixed().map(Tick)
    }

    fn wall(&mut self) -> Result<WallMillis> {
        self.signed().map(WallMillis)
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let part = u64::from(byte & 0x7f);
            if shift == 63 && part > 1 {
                break;
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Invalid("a varint"))
    }

    fn small(&mut self, what: &'static str) -> Result<u32> {
        self.varint()?
            .try_into()
            .map_err(|_| CodecError::Invalid(what))
    }

    fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = usize::try_from(self.varint()?).map_err(|_| CodecError::Short)?;
        self.take(len)
    }

    fn text(&mut self) -> Result<&'a str> {
        str::from_utf8(self.bytes()?).map_err(|_| CodecError::Invalid("text"))
    }

    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag("mark of an optional field")? {
            read(self).map(Some)
        } else {
            Ok(None)
        }
    }

    fn id(&mut self) -> Result<TaskId> {
        self.array().map(TaskId::from_bytes)
    }

    fn token(&mut self) -> Result<Token> {
        Ok(Token(u128::from_be_bytes(self.array()?)))
    }

    fn queue(&mut self) -> Result<QueueName> {
        QueueName::parse(self.text()?).map_err(|_| CodecError::Invalid("a queue name"))
    }

    fn worker(&mut self) -> Result<WorkerName> {
        WorkerName::parse(self.text()?).map_err(|_| CodecError::Invalid("a worker name"))
    }

    fn exectime(&mut self) -> Result<ExecTime> {
        ExecTime::new(self.signed()?).map_err(|_| CodecError::Invalid("an exectime"))
    }

    fn place(&mut self) -> Result<(Priority, ExecTime)> {
        let priority = Priority::new(i32::from_le_bytes(self.array()?));
        Ok((priority, self.exectime()?))
    }

    fn payload(&mut self) -> Result<Payload> {
        self.text().map(Payload::trusted)
    }

    fn kind(&mut self) -> Result<LeaseKind> {
        Ok(if self.flag("lease kind")? {
            LeaseKind::V1
        } else {
            LeaseKind::Legacy
        })
    }

    fn then(&mut self) -> Result<Then> {
        if self.flag("end of an attempt")? {
            Ok(Then::Dead)
        } else {
            self.exectime().map(Then::Retry)
        }
    }

    fn left(&mut self) -> Result<Left> {
        match self.byte()? {
            0 => Ok(Left::Only),
            1 => Ok(Left::Copy),
            2 => Ok(Left::Ended),
            3 => Ok(Left::Missed),
            value => Err(CodecError::Unknown {
                what: "left",
                value,
            }),
        }
    }

    fn options(&mut self) -> Result<Options> {
        let mut options = Options {
            unique_key: self.optional(Self::text)?.map(Into::into),
            max_attempts: self.optional(|r| r.small("max attempts"))?,
            lease: self.optional(Self::millis)?,
            backoff: None,
            trace: None,
        };
        let follows = self.byte()?;
        if follows & !(HAS_BACKOFF | HAS_TRACE) != 0 {
            return Err(CodecError::Unknown {
                what: "mark of what else a task asks for",
                value: follows,
            });
        }
        if follows & HAS_BACKOFF != 0 {
            options.backoff = Some(Backoff {
                base: self.millis()?,
                max: self.millis()?,
            });
        }
        if follows & HAS_TRACE != 0 {
            let (ids, state) = (self.array()?, self.optional(Self::text)?);
            let trace = Trace::from_bytes(ids, state).ok_or(CodecError::Invalid("a trace"))?;
            options.trace = Some(Box::new(trace));
        }
        options
            .check()
            .map_err(|_| CodecError::Invalid("the options of a task"))?;
        Ok(options)
    }

    fn source(&mut self) -> Result<Source> {
        Ok(Source {
            path: PathBuf::from(OsStr::from_bytes(self.bytes()?)),
            inode: self.fixed()?,
            modified: i128::from_le_bytes(self.array()?),
            size: self.fixed()?,
        })
    }

    fn submitted(&mut self) -> Result<Submitted> {
        let id = self.id()?;
        let (made_here, imported) = match self.byte()? {
            came @ (0 | 1) => (came == 1, false),
            IMPORTED => (false, true),
            value => {
                return Err(CodecError::Unknown {
                    what: "mark of how a task came",
                    value,
                });
            }
        };
        let queue = self.queue()?;
        let (priority, exectime) = self.place()?;
        let options = self.options()?;
        let payload = self.payload()?;
        let source = self.optional(Self::source)?;
        let past = if imported {
            Some(Box::new(Past {
                attempts: self.small("attempts")?,
                dead: self.flag("mark of a dead task")?,
                last_error: self.optional(Self::text)?.map(Into::into),
            }))
        } else {
            None
        };
        Ok(Submitted {
            id,
            made_here,
            queue,
            priority,
            exectime,
            options,
            payload,
            source,
            past,
        })
    }

    fn claimed(&mut self) -> Result<Claimed> {
        Ok(Claimed {
            id: self.id()?,
            token: self.token()?,
            kind: self.kind()?,
            worker: self.optional(Self::worker)?,
            at: self.wall()?,
            length: self.millis()?,
            expires: self.tick()?,
        })
    }

    fn lease(&mut self) -> Result<RestoredLease> {
        Ok(RestoredLease {
            token: self.token()?,
            kind: self.kind()?,
            worker: self.optional(Self::worker)?,
            at: self.wall()?,
            length: self.millis()?,
            expires: self.tick()?,
        })
    }

    fn restored(&mut self) -> Result<Restored> {
        let id = self.id()?;
        let queue = self.queue()?;
        let (priority, exectime) = self.place()?;
        let options = self.options()?;
        let attempts = self.small("attempts")?;
        let state = match self.byte()? {
            0 => State::Ready,
            1 => State::Leased,
            2 => State::Dead,
            value => {
                return Err(CodecError::Unknown {
                    what: "state",
                    value,
                });
            }
        };
        let lease = self.optional(Self::lease)?;
        if lease.is_some() != (state == State::Leased) {
            return Err(CodecError::Invalid("the lease of a restored task"));
        }
        let last_error = self.optional(Self::text)?.map(Arc::from);
        Ok(Restored {
            id,
            queue,
            priority,
            exectime,
            options,
            attempts,
            state,
            lease,
            last_error,
        })
    }

    fn record(&mut self) -> Result<Record> {
        Ok(match self.byte()? {
            1 => Record::Submitted(Arc::new(self.submitted()?)),
            2 => Record::Claimed(self.claimed()?),
            3 => Record::Completed {
                id: self.id()?,
                result: self.optional(Self::payload)?,
                at: self.wall()?,
            },
            4 => Record::Failed {
                id: self.id()?,
                error: self.text()?.into(),
                then: self.then()?,
            },
            5 => Record::Released { id: self.id()? },
            6 => Record::Extended {
                id: self.id()?,
                length: self.millis()?,
                expires: self.tick()?,
            },
            7 => Record::Expired {
                id: self.id()?,
                then: self.then()?,
            },
            tag @ (8 | 19) => Record::Cancelled {
                id: self.id()?,
                gone: tag == 19,
            },
            9 => {
                let id = self.id()?;
                let (priority, exectime) = self.place()?;
                Record::Rescheduled {
                    id,
                    priority,
                    exectime,
                }
            }
            10 => Record::Retried { id: self.id()? },
            11 => Record::Paused {
                queue: self.optional(Self::queue)?,
                on: self.flag("switch")?,
            },
            12 => Record::Draining {
                queue: self.optional(Self::queue)?,
                on: self.flag("switch")?,
            },
            13 => Record::Rebooted { tick: self.tick()? },
            14 => Record::Restored(Box::new(self.restored()?)),
            15 => Record::Opened {
                queue: self.queue()?,
            },
            16 => {
                let (id, queue) = (self.id()?, self.queue()?);
                let (priority, exectime) = self.place()?;
                Record::Moved {
                    id,
                    queue,
                    priority,
                    exectime,
                }
            }
            17 => Record::Housed {
                queue: self.queue()?,
                mark: DirMark(self.array()?),
            },
            18 => Record::LeftBehind {
                id: self.id()?,
                at: self.wall()?,
                left: self.left()?,
            },
            20 => Record::DropBehind {
                id: self.id()?,
                inode: self.fixed()?,
                modified: i128::from_le_bytes(self.array()?),
                size: self.fixed()?,
                moved: self.flag("place of a dropped file")?,
            },
            value => {
                return Err(CodecError::Unknown {
                    what: "record tag",
                    value,
                });
            }
        })
    }
}

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
