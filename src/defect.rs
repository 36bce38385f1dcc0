//! Deliberate defects, for the proof that the simulator can fail.
//!
//! The places that make the daemon durable ask whether they are to be wrong. In tests a planted defect says yes, on the
//! thread that planted it; everywhere else the answer is a constant no, so that a program has none of it.

/// What may be done wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Answers go out before the frame that they rest on is on the disk.
    ReplyBeforeSync,
    /// The directory of a new segment is not synced.
    SkipDirectorySync,
    /// A checkpoint removes segments that it does not stand for.
    DeleteSegmentEarly,
    /// A frame is taken whatever its checksum says.
    IgnoreChecksum,
    /// A failed sync is tried again, and believed.
    RetryFailedSync,
    /// New tasks are taken without asking for room in the journal.
    ApplyBeforeRoom,
    /// A checkpoint leaves out tasks that are leased.
    ForgetLease,
    /// A bad frame is cut off, with all that follows, wherever it is.
    CutBeforeTail,
    /// The file of a task that was completed is a task again.
    BelieveSurvivingFile,
    /// Of a frame with several records, the first half is replayed.
    ReplayHalf,
    /// A file counts as written when it is to be written.
    SettleBeforeWrite,
    /// A start believes that what it can read is on the disk, also after a sync that failed.
    TrustPageCache,
    /// The old file of a task that moves is removed before the new one's name is durable.
    MoveBeforeSync,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Defect>> = const { std::cell::Cell::new(None) };
}

/// Whether `defect` is planted on this thread.
#[cfg(test)]
#[must_use]
pub fn planted(defect: Defect) -> bool {
    PLANTED.with(|planted| planted.get() == Some(defect))
}

/// Whether `defect` is planted: outside of tests none is.
#[cfg(not(test))]
#[must_use]
pub const fn planted(_: Defect) -> bool {
    false
}

/// Plants a defect on this thread, or `None` of them, until the next call.
#[cfg(test)]
pub(crate) fn plant(defect: Option<Defect>) {
    PLANTED.with(|planted| planted.set(defect));
}
