//! A daemon in the middle of its life: several queues with tasks in every state, workers that hold some, tasks that died of
//! errors, files that were rejected. What pictures show and what every page is tried with.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::common::{Daemon, until};

/// How often something happens in the scene's traffic.
const BEAT: Duration = Duration::from_millis(200);

/// The errors of tasks that died.
const ERRORS: [&str; 4] = [
    "smtp: 550 5.1.1 <nobody@example.org>: no such mailbox",
    "timed out after 30 s",
    "exit status 1: convert: improper image header `upload-5531.png'",
    "connection refused: https://hooks.example.net/orders",
];

/// A daemon, and one task of each state.
pub struct Scene {
    pub daemon: Daemon,
    pub ready: String,
    pub scheduled: String,
    pub leased: String,
    pub dead: String,
}

impl Scene {
    /// With all that can go wrong.
    pub fn new() -> Self {
        let mut scene = Self::calm();
        scene.trouble();
        scene
    }

    /// All is well.
    pub fn calm() -> Self {
        let daemon = Daemon::start(&[]);
        busy(&daemon, "emails", 160);
        busy(&daemon, "default", 90);
        Self {
            ready: waiting(&daemon),
            scheduled: scheduled(&daemon),
            leased: leased(&daemon),
            dead: String::new(),
            daemon,
        }
    }

    /// Tasks die, a queue is paused, files are rejected.
    pub fn trouble(&mut self) {
        self.dead = dead(&self.daemon);
        let paused = self
            .daemon
            .admin("POST", "/pause", r#"{"queue":"reports"}"#);
        assert_eq!(paused.0, 200, "{paused:?}");
        self.reject();
    }

    /// Tasks come and workers take and complete them, so many beats long. The pauses are the rhythm that the charts show; they
    /// wait for nothing.
    pub fn traffic(&self, beats: u32) {
        const QUEUES: [(&str, u32); 2] = [("emails", 9), ("default", 5)];
        let mut held: VecDeque<(&str, Vec<Value>)> = VecDeque::new();
        for beat in 0..beats {
            let count = |most: u32| 1 + (beat / 9 + beat * beat % 7 + most) % most;
            for (queue, most) in QUEUES {
                let tasks: Vec<Value> = (0..count(most))
                    .map(|number| json!({"queue": queue, "priority": 500, "payload": {"beat": beat, "number": number}}))
                    .collect();
                submit_all(&self.daemon, &tasks);
            }
            // What came one beat ago is completed now, what came now is claimed.
            while let Some((queue, tasks)) = held.pop_front() {
                complete(&self.daemon, queue, &tasks, &format!("{queue}-1:4711"));
            }
            std::thread::sleep(BEAT);
            for (queue, most) in QUEUES {
                let urgent = claim(&self.daemon, queue, count(most), &format!("{queue}-1:4711"));
                held.push_back((queue, urgent));
            }
        }
        for (queue, tasks) in held {
            complete(&self.daemon, queue, &tasks, &format!("{queue}-1:4711"));
        }
    }

    /// Two files that are no tasks.
    fn reject(&self) {
        self.daemon
            .drop_file("invoice-2291.json", br#"{"payload": {"invoice": 2291},"#);
        self.daemon
            .drop_file("order.json", br#"{"to": "orders@example.org", "lines": 3}"#);
        until("both files are rejected", || {
            let (_, answer) = self.daemon.admin("GET", "/rejected", "");
            (answer["rejected"].as_array()?.len() == 2).then_some(())
        });
    }

    /// The address of a path.
    pub fn at(&self, path: &str) -> String {
        at(&self.daemon, path)
    }

    /// Every page, with a name for it.
    pub fn pages(&self) -> Vec<(&'static str, String)> {
        let task = |id: &str| format!("/tasks/{id}");
        vec![
            ("overview", "/".to_owned()),
            ("queue", "/queues/emails".to_owned()),
            ("queue-dead", "/queues/emails?state=dead".to_owned()),
            ("queue-paused", "/queues/reports".to_owned()),
            ("task-ready", task(&self.ready)),
            ("task-scheduled", task(&self.scheduled)),
            ("task-leased", task(&self.leased)),
            ("task-dead", task(&self.dead)),
            ("list", "/list".to_owned()),
            ("workers", "/workers".to_owned()),
            ("rejected", "/rejected".to_owned()),
            ("configuration", "/config".to_owned()),
            ("no-such-task", task("01900000-0000-7000-8000-000000000000")),
            ("problem", "/problems/no-such-task".to_owned()),
        ]
    }
}

/// The address of a path of a daemon.
pub fn at(daemon: &Daemon, path: &str) -> String {
    format!("http://{}{path}", daemon.address)
}

/// Unix seconds, now.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("after 1970").as_secs()
}

/// Tasks that came and were completed.
fn busy(daemon: &Daemon, queue: &str, count: u32) {
    let tasks: Vec<Value> = (0..count)
        .map(|number| json!({"queue": queue, "payload": {"number": number}}))
        .collect();
    submit_all(daemon, &tasks);
    let worker = format!("{queue}-1:4711");
    let claimed = claim(daemon, queue, count, &worker);
    complete(daemon, queue, &claimed, &worker);
}

fn complete(daemon: &Daemon, queue: &str, claimed: &[Value], worker: &str) {
    let ended: Vec<Value> = claimed
        .iter()
        .map(|task| json!({"id": task["id"], "token": task["token"]}))
        .collect();
    let claim = json!({"queues": [queue], "max": 0, "worker": worker, "complete": ended});
    let (status, answer) = daemon.post("/api/v1/claim", &claim.to_string());
    assert_eq!(status, 200, "{answer}");
}

fn waiting(daemon: &Daemon) -> String {
    let people = ["ada", "grace", "edsger", "barbara", "donald", "leslie"];
    let mut tasks: Vec<Value> = (0..36_usize)
        .map(|number| {
            let to = format!("{}@example.org", people[number % people.len()]);
            json!({"queue": "emails", "priority": 100 + number % 3 * 10, "payload":
                {"to": to, "template": "receipt", "order": 20_417 + number}})
        })
        .collect();
    tasks.extend((0..12).map(|number| {
        json!({"queue": "default", "payload": format!("/srv/uploads/{}.jpg --size 320x240", 5500 + number)})
    }));
    submit_all(daemon, &tasks);
    daemon.submit(
        &json!({"queue": "emails", "priority": 200, "unique_key": "receipt-20453", "max_attempts": 3, "payload":
            {"to": "مريم@example.org", "template": "receipt", "order": 20_453, "lines": [
                {"article": "teapot, blue", "count": 1, "price": "24.90"},
                {"article": "cups", "count": 6, "price": "31.20"}]}})
        .to_string(),
    )
}

fn scheduled(daemon: &Daemon) -> String {
    let begin = now() / 3600 * 3600 + 7200;
    let tasks: Vec<Value> = (0..24_u64)
        .map(|hour| {
            let report = format!("turnover by country, hour {hour}");
            json!({"queue": "reports", "exectime": begin + hour * 3600, "payload": {"report": report}})
        })
        .collect();
    submit_all(daemon, &tasks);
    daemon.submit(
        &json!({"queue": "emails", "exectime": begin, "payload": {"to": "all@example.org", "template": "newsletter"}})
            .to_string(),
    )
}

fn leased(daemon: &Daemon) -> String {
    claim(daemon, "default", 3, "images-2:1188");
    let task = daemon.submit(
        r#"{"queue":"emails","priority":900,"payload":{"to":"alan@example.org","template":"welcome"}}"#,
    );
    let claimed = claim(daemon, "emails", 1, "emails-2:1190");
    assert_eq!(claimed[0]["id"], task.as_str(), "the most urgent one first");
    task
}

fn dead(daemon: &Daemon) -> String {
    let mut last = String::new();
    for number in 0..7_usize {
        let task = json!({"queue": "emails", "priority": 1000, "max_attempts": 2, "payload":
            {"to": format!("nobody-{number}@example.org"), "template": "receipt", "order": 20_400 + number}});
        last = daemon.submit(&task.to_string());
        for _ in 0..2 {
            let claimed = claim(daemon, "emails", 1, "emails-1:4711");
            assert_eq!(claimed[0]["id"], last.as_str(), "the most urgent one first");
            let failure = json!({"token": claimed[0]["token"], "error": ERRORS[number % ERRORS.len()], "retry_in": 0});
            let (status, answer) =
                daemon.post(&format!("/api/v1/tasks/{last}/fail"), &failure.to_string());
            assert_eq!(status, 200, "{answer}");
        }
    }
    last
}

/// Submits many tasks in one request.
pub fn submit_all(daemon: &Daemon, tasks: &[Value]) {
    let (status, answer) = daemon.post("/api/v1/tasks", &json!(tasks).to_string());
    assert_eq!(status, 201, "{answer}");
}

/// Claims as a worker of this name.
pub fn claim(daemon: &Daemon, queue: &str, max: u32, worker: &str) -> Vec<Value> {
    let claim = json!({"queues": [queue], "max": max, "lease": 600, "worker": worker});
    let (status, answer) = daemon.post("/api/v1/claim", &claim.to_string());
    assert_eq!(status, 200, "{answer}");
    answer["tasks"].as_array().expect("tasks").clone()
}
