//! [`Model`]: what `top` knows: the last look, the rates between looks, and what the keys have set.

use std::collections::{HashMap, VecDeque};

use ratatui::widgets::TableState;

use crate::{api, client::ClientError};

/// How many rates are kept for the curve: more columns than a screen has.
const HISTORY: usize = 512;

/// What the daemon showed.
pub(super) struct Look {
    /// Where the endpoint serves it.
    pub(super) status: Option<api::Status>,
    /// What is not well, the worst first.
    pub(super) troubles: Vec<api::Trouble>,
    pub(super) queues: Vec<api::Queue>,
    pub(super) workers: Vec<api::Worker>,
    /// When, in Unix seconds.
    pub(super) at: f64,
}

/// By what the queues are sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Name,
    Ready,
    Scheduled,
    Leased,
    Dead,
    Oldest,
    In,
    Out,
}

impl Column {
    pub(super) const ALL: [Self; 8] = [
        Self::Name,
        Self::Ready,
        Self::Scheduled,
        Self::Leased,
        Self::Dead,
        Self::Oldest,
        Self::In,
        Self::Out,
    ];

    pub(super) const fn head(self) -> &'static str {
        match self {
            Self::Name => "QUEUE",
            Self::Ready => "READY",
            Self::Scheduled => "SCHED",
            Self::Leased => "LEASED",
            Self::Dead => "DEAD",
            Self::Oldest => "OLDEST",
            Self::In => "IN/S",
            Self::Out => "OUT/S",
        }
    }
}

/// Tasks a second that come in and are completed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Rates {
    pub(super) submitted: f64,
    pub(super) completed: f64,
}

/// All of it.
pub(super) struct Model {
    /// Which daemon.
    pub(super) place: String,
    pub(super) last: Option<Look>,
    /// Why the last look is an old one.
    pub(super) missed: Option<String>,
    rates: HashMap<String, Rates>,
    /// Tasks completed a second, the newest last.
    pub(super) curve: VecDeque<u64>,
    pub(super) column: Column,
    pub(super) descending: bool,
    pub(super) queues: TableState,
    pub(super) workers: TableState,
    pub(super) on_workers: bool,
}

impl Model {
    pub(super) fn new(place: String) -> Self {
        Self {
            place,
            last: None,
            missed: None,
            rates: HashMap::new(),
            curve: VecDeque::new(),
            column: Column::Name,
            descending: false,
            queues: TableState::default().with_selected(0),
            workers: TableState::default().with_selected(0),
            on_workers: false,
        }
    }

    /// Takes a look in: rates are what was counted since the one before.
    pub(super) fn see(&mut self, look: Look) {
        self.missed = None;
        self.rates = rates(self.last.as_ref(), &look);
        self.curve
            .push_back(self.all_rates().completed.round() as u64);
        if self.curve.len() > HISTORY {
            self.curve.pop_front();
        }
        self.last = Some(look);
        self.order();
    }

    /// Remembers that there was nothing to be seen.
    pub(super) fn miss(&mut self, error: &ClientError) {
        self.missed = Some(error.to_string());
    }

    pub(super) fn rates(&self, queue: &str) -> Rates {
        self.rates.get(queue).copied().unwrap_or_default()
    }

    pub(super) fn all_rates(&self) -> Rates {
        self.rates
            .values()
            .fold(Rates::default(), |sum, one| Rates {
                submitted: sum.submitted + one.submitted,
                completed: sum.completed + one.completed,
            })
    }

    /// Moves the selection of the table that has the keys.
    pub(super) fn select(&mut self, by: isize) {
        let Some(last) = &self.last else {
            return;
        };
        let (state, count) = if self.on_workers {
            (&mut self.workers, last.workers.len())
        } else {
            (&mut self.queues, last.queues.len())
        };
        let now = state.selected().unwrap_or(0);
        let next = now.saturating_add_signed(by).min(count.saturating_sub(1));
        state.select(Some(next));
    }

    /// Sorts by another column: numbers largest first, names from a to z.
    pub(super) fn sort(&mut self, by: isize) {
        let count = Column::ALL.len();
        let now = Column::ALL
            .iter()
            .position(|one| *one == self.column)
            .unwrap_or(0);
        let next = if by < 0 { now + count - 1 } else { now + 1 } % count;
        self.column = Column::ALL[next];
        self.descending = self.column != Column::Name;
        self.order();
    }

    /// Turns the order around.
    pub(super) fn turn(&mut self) {
        self.descending = !self.descending;
        self.order();
    }

    /// Gives the keys to the other table.
    pub(super) fn switch(&mut self) {
        self.on_workers = !self.on_workers;
    }

    fn order(&mut self) {
        let (column, rates) = (self.column, &self.rates);
        let rate = |queue: &api::Queue| rates.get(&queue.queue).copied().unwrap_or_default();
        let key = |queue: &api::Queue| match column {
            Column::Name => 0.0,
            Column::Ready => queue.ready as f64,
            Column::Scheduled => queue.scheduled as f64,
            Column::Leased => queue.leased as f64,
            Column::Dead => queue.dead as f64,
            Column::Oldest => queue.oldest_due_age.unwrap_or(-1.0),
            Column::In => rate(queue).submitted,
            Column::Out => rate(queue).completed,
        };
        let descending = self.descending;
        let Some(last) = &mut self.last else {
            return;
        };
        let chosen = self
            .queues
            .selected()
            .and_then(|index| last.queues.get(index))
            .map(|queue| queue.queue.clone());
        last.queues.sort_by(|a, b| {
            let by_key = key(a).total_cmp(&key(b));
            let by_key = if descending { by_key.reverse() } else { by_key };
            let by_name = a.queue.cmp(&b.queue);
            let turned = column == Column::Name && descending;
            by_key.then(if turned { by_name.reverse() } else { by_name })
        });
        // The selection stays with its queue, wherever that has gone.
        let place = last
            .queues
            .iter()
            .position(|queue| Some(&queue.queue) == chosen.as_ref());
        self.queues.select(Some(place.unwrap_or(0)));
    }
}

/// What each queue did between two looks; the daemon's own rates for the first look and after a restart.
fn rates(before: Option<&Look>, now: &Look) -> HashMap<String, Rates> {
    let old: HashMap<&str, &api::Queue> = before
        .into_iter()
        .flat_map(|look| &look.queues)
        .map(|queue| (queue.queue.as_str(), queue))
        .collect();
    let secs = before.map_or(0.0, |before| now.at - before.at);
    let of = |queue: &api::Queue| {
        let own = Rates {
            submitted: queue.submitted_per_second,
            completed: queue.completed_per_second,
        };
        let Some(old) = old.get(queue.queue.as_str()).filter(|_| secs > 0.0) else {
            return own;
        };
        let counted = |now: u64, old: u64| Some(now.checked_sub(old)? as f64 / secs);
        let submitted = counted(queue.totals.submitted, old.totals.submitted);
        let completed = counted(queue.totals.completed, old.totals.completed);
        match (submitted, completed) {
            (Some(submitted), Some(completed)) => Rates {
                submitted,
                completed,
            },
            // The counts began anew.
            _ => own,
        }
    };
    now.queues
        .iter()
        .map(|queue| (queue.queue.clone(), of(queue)))
        .collect()
}
