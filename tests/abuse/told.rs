//! [`Told`]: tasks that a daemon has acknowledged while it was ill-treated, and the account that is held at the end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::common::{Daemon, mount::say};

/// What a daemon was asked over its admin socket, where no limit for clients from the network holds, and has acknowledged.
pub(crate) struct Told {
    /// Payloads of the tasks that are to be there.
    there: BTreeMap<String, Value>,
    /// Those that were completed.
    ended: BTreeSet<String>,
}

impl Told {
    /// Some tasks before anything happens; one of them is completed.
    pub(crate) fn begin(daemon: &Daemon) -> Self {
        let mut told = Self {
            there: BTreeMap::new(),
            ended: BTreeSet::new(),
        };
        told.submit(daemon);
        told.ended.extend(work_off(daemon));
        told.there.clear();
        told.submit(daemon);
        told.submit(daemon);
        told
    }

    /// One more, which has to be taken.
    pub(crate) fn submit(&mut self, daemon: &Daemon) {
        let payload = format!("told {}", self.there.len() + self.ended.len());
        let body = json!({"payload": payload}).to_string();
        let (status, task) = daemon.admin("POST", "/api/v1/tasks", &body);
        assert_eq!(status, 201, "{task}");
        self.note(&task);
    }

    /// One more, which another client was told of.
    pub(crate) fn note(&mut self, task: &Value) {
        let id = task["id"].as_str().expect("an id").to_owned();
        let before = self.there.insert(id, task["payload"].clone());
        assert_eq!(before, None, "{task} was there already");
    }

    /// Holds that each task is there once and no other, also after a `kill -9`; that each is handed out once and can be
    /// completed; and that none of them comes back after another `kill -9`.
    pub(crate) fn hold(mut self, daemon: &mut Daemon) {
        assert_eq!(all(daemon), self.there, "before a crash");
        daemon.crash_and_restart();
        assert_eq!(all(daemon), self.there, "after a crash");
        let ended = work_off(daemon);
        assert_eq!(ended, self.there.keys().cloned().collect());
        let mut again = self.ended.intersection(&ended);
        assert_eq!(again.next(), None, "completed twice");
        self.ended.extend(ended);
        daemon.crash_and_restart();
        assert_eq!(all(daemon), BTreeMap::new(), "back after a crash");
        assert_eq!(work_off(daemon), BTreeSet::new(), "handed out again");
        let count = self.ended.len();
        say(&format!(
            "{count} tasks acknowledged, each there and completed once"
        ));
    }
}

/// The payloads of all tasks, by id.
fn all(daemon: &Daemon) -> BTreeMap<String, Value> {
    let (status, page) = daemon.admin("GET", "/api/v1/tasks?limit=1000", "");
    assert_eq!((status, &page["next"]), (200, &Value::Null), "{page}");
    let mut there = BTreeMap::new();
    for task in page["tasks"].as_array().expect("tasks") {
        let id = task["id"].as_str().expect("an id").to_owned();
        let twin = there.insert(id, task["payload"].clone());
        assert_eq!(twin, None, "listed twice: {task}");
    }
    there
}

/// Completes all that is to be had, each once; gives their ids.
fn work_off(daemon: &Daemon) -> BTreeSet<String> {
    let mut ended = BTreeSet::new();
    loop {
        let (status, answer) = daemon.admin("POST", "/api/v1/claim", r#"{"max": 100}"#);
        assert_eq!(status, 200, "{answer}");
        let tasks = answer["tasks"].as_array().expect("tasks");
        if tasks.is_empty() {
            return ended;
        }
        for task in tasks {
            let id = task["id"].as_str().expect("an id").to_owned();
            let path = format!("/api/v1/tasks/{id}/complete");
            let body = json!({"token": task["token"]}).to_string();
            let (status, answer) = daemon.admin("POST", &path, &body);
            assert_eq!(status, 200, "{answer}");
            assert!(ended.insert(id), "handed out twice: {task}");
        }
    }
}
