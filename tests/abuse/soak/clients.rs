//! The load of a soak: clients that submit, claim, complete, fail, release and walk away, and go on whatever happens.

use std::{
    sync::RwLock,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::ledger::{Ledger, payload};
use crate::common::account::{Chance, Line};

/// Above so many unfinished tasks clients only work off: memory is to be flat.
const BACKLOG: usize = 2000;
const QUEUES: [&str; 3] = ["s0", "s1", "s2"];
/// What a task for the worker's handler asks it to do.
const ACTS: [&str; 6] = ["work", "fail", "flood", "daemonise", "deaf", "close"];

/// One client. While the address is held by whoever checks the account, it waits.
pub(super) struct Client<'a> {
    pub(super) ledger: &'a Ledger,
    pub(super) address: &'a RwLock<String>,
    pub(super) stop: &'a AtomicBool,
    pub(super) chance: Chance,
    pub(super) lease: Duration,
    /// When this client submits for the worker again, if it ever does.
    pub(super) for_worker_at: Option<Instant>,
}

impl Client<'_> {
    pub(super) fn live(mut self) {
        let mut line: Option<(String, Line)> = None;
        while !self.stop.load(Ordering::Relaxed) {
            let Ok(address) = self.address.read() else {
                return;
            };
            let kept = line.take().filter(|(to, _)| *to == *address);
            let kept = kept.map(|(_, kept)| kept);
            let Some(mut kept) = kept.or_else(|| Line::open(&address)) else {
                drop(address);
                // Nobody listens: it is being restarted.
                std::thread::park_timeout(Duration::from_millis(5));
                continue;
            };
            if self.turn(&mut kept).is_some() {
                line = Some((address.clone(), kept));
            }
        }
    }

    fn ask(&self, line: &mut Line, path: &str, body: &Value) -> Option<(u16, Value)> {
        let answer = line.ask("POST", path, &body.to_string());
        self.ledger
            .asked(answer.as_ref().map(|(status, _)| *status));
        answer
    }

    fn turn(&mut self, line: &mut Line) -> Option<()> {
        if self.ledger.backlog() < BACKLOG {
            self.submit(line)?;
        }
        self.work(line)
    }

    fn submit(&mut self, line: &mut Line) -> Option<()> {
        // No more than the worker can do, which is dead or suspended half of the time.
        let is_for_worker = self.for_worker_at.is_some_and(|at| Instant::now() >= at);
        if is_for_worker {
            self.for_worker_at = Some(Instant::now() + Duration::from_secs(1));
        }
        let count = if self.chance.below(5) == 0 { 3 } else { 1 };
        let tasks: Vec<Value> = (0..count)
            .map(|_| {
                let size = if self.chance.below(20) == 0 { 8000 } else { 80 };
                let size = self.chance.below(size);
                let pick = self.chance.below(1 << 30) as usize;
                let queue = if is_for_worker {
                    "hands"
                } else {
                    QUEUES[pick % 3]
                };
                json!({
                    "payload": payload(self.ledger.serial(), size, ACTS[pick % ACTS.len()]),
                    "queue": queue,
                    "priority": self.chance.below(3),
                    "max_attempts": 1000,
                    "backoff": {"base": 1, "max": 1},
                })
            })
            .collect();
        match self.ask(line, "/api/v1/tasks", &json!(tasks))? {
            (201, answer) => {
                for task in answer.as_array().into_iter().flatten() {
                    self.ledger.submitted(task, is_for_worker);
                }
            }
            (429 | 503 | 507, _) => {}
            (status, answer) => self.ledger.wrong(format!("submit: {status}: {answer}")),
        }
        Some(())
    }

    fn work(&mut self, line: &mut Line) -> Option<()> {
        let walks_away = self.chance.below(40) == 0;
        let lease = if walks_away {
            Duration::from_secs(1)
        } else {
            self.lease
        };
        let body = json!({
            "queues": QUEUES, "max": 1 + self.chance.below(4), "lease": lease.as_secs_f64(), "worker": "soak",
        });
        let until = Instant::now() + lease;
        let tasks = match self.ask(line, "/api/v1/claim", &body)? {
            (200, answer) => answer["tasks"].as_array().cloned().unwrap_or_default(),
            (429 | 503, _) => return Some(()),
            (status, answer) => {
                self.ledger.wrong(format!("claim: {status}: {answer}"));
                return Some(());
            }
        };
        for task in &tasks {
            self.ledger.claimed(task, Some(until));
        }
        if walks_away {
            self.ledger.fault("lease left to expire");
            return Some(());
        }
        for task in &tasks {
            self.end(line, task, until)?;
        }
        Some(())
    }

    /// Ends an attempt in one of the ways that there are.
    fn end(&mut self, line: &mut Line, task: &Value, until: Instant) -> Option<()> {
        let (id, token) = (task["id"].as_str().unwrap_or_default(), &task["token"]);
        let (act, body) = match self.chance.below(20) {
            0 => (
                "fail",
                json!({"token": token, "error": "as asked", "retry_in": 0.0}),
            ),
            1 => ("release", json!({"token": token})),
            _ => ("complete", json!({"token": token})),
        };
        if act == "complete" {
            self.ledger.doubt(id);
        } else {
            self.ledger.let_go(id);
            self.ledger.fault("attempt failed or given back");
        }
        let (status, answer) = self.ask(line, &format!("/api/v1/tasks/{id}/{act}"), &body)?;
        match status {
            200 | 204 if act == "complete" => self.ledger.completed(id),
            200 | 204 | 429 | 503 => {}
            // The lease had ended before the answer came.
            404 | 409 if Instant::now() >= until => {}
            _ => self
                .ledger
                .wrong(format!("{act} {id} under a lease: {status}: {answer}")),
        }
        Some(())
    }
}

/// Works off all that can be claimed, by one client and without a fault. Gives whether nothing was there.
pub(super) fn drain(ledger: &Ledger, address: &str) -> bool {
    let Some(mut line) = Line::open(address) else {
        return false;
    };
    let mut was_empty = true;
    loop {
        let body = json!({"queues": QUEUES, "max": 100, "lease": 60});
        let answer = line.ask("POST", "/api/v1/claim", &body.to_string());
        let Some((200, answer)) = answer else {
            ledger.wrong(format!("the last claims: {answer:?}"));
            return false;
        };
        let tasks = answer["tasks"].as_array().cloned().unwrap_or_default();
        if tasks.is_empty() {
            return was_empty;
        }
        was_empty = false;
        for task in &tasks {
            ledger.claimed(task, None);
            let id = task["id"].as_str().unwrap_or_default();
            let path = format!("/api/v1/tasks/{id}/complete");
            let body = json!({"token": task["token"]}).to_string();
            match line.ask("POST", &path, &body) {
                Some((200 | 204, _)) => ledger.completed(id),
                other => ledger.wrong(format!("the last completions: {other:?}")),
            }
        }
    }
}
