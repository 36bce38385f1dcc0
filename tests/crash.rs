//! `kill -9` at any moment, with clients that keep account of every reply: nothing acknowledged is lost, nothing that was
//! acknowledged as completed returns.

#![allow(
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and holds real programs against a real clock"
)]

mod common;

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use common::{Daemon, request};
use serde_json::Value;

/// What clients were told.
#[derive(Default)]
struct Account {
    submitted: BTreeSet<String>,
    completed: BTreeSet<String>,
    /// Asked to be completed, without an answer: either is right.
    doubtful: BTreeSet<String>,
}

impl Account {
    /// Holds what clients were told against what is there.
    fn hold(&self, there: &BTreeSet<String>, when: &str) {
        for id in &self.submitted {
            let known =
                there.contains(id) || self.completed.contains(id) || self.doubtful.contains(id);
            assert!(known, "{when}: {id} was acknowledged and is lost");
        }
        for id in &self.completed {
            assert!(
                !there.contains(id),
                "{when}: {id} was completed and is back"
            );
        }
    }
}

fn ask(address: &str, method: &str, path: &str, body: &str) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .ok()?;
    stream
        .write_all(request(method, path, "application/json", body).as_bytes())
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    // An answer that was cut off is none.
    let value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(body).ok()?
    };
    Some((status, value))
}

fn client(address: &str, account: &Mutex<Account>, stop: &AtomicBool, number: usize) {
    let mut round = 0;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let body = format!(
            r#"{{"payload":"{number}-{round}","queue":"q{}"}}"#,
            round % 3
        );
        match ask(address, "POST", "/api/v1/tasks", &body) {
            Some((201, task)) => {
                let id = task["id"].as_str().expect("an id").to_owned();
                account.lock().expect("account").submitted.insert(id);
            }
            // A daemon that is stopping may say so.
            Some((503, _)) | None => return,
            Some((status, answer)) => panic!("{status}: {answer}"),
        }
        let Some((200, answer)) = ask(
            address,
            "POST",
            "/api/v1/claim",
            r#"{"queues":["q0","q1"],"lease":3600}"#,
        ) else {
            return;
        };
        for task in answer["tasks"].as_array().expect("tasks") {
            let id = task["id"].as_str().expect("an id").to_owned();
            let body = format!(r#"{{"token":{}}}"#, task["token"]);
            account.lock().expect("account").doubtful.insert(id.clone());
            match ask(
                address,
                "POST",
                &format!("/api/v1/tasks/{id}/complete"),
                &body,
            ) {
                Some((200, _)) => {
                    account.lock().expect("account").completed.insert(id);
                }
                Some((503, _)) | None => return,
                Some((status, answer)) => panic!("{status}: {answer}"),
            }
        }
    }
}

fn all_ids(daemon: &Daemon) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    let mut after = String::new();
    loop {
        let (status, page) = daemon.get(&format!("/api/v1/tasks?limit=1000{after}"));
        assert_eq!(status, 200, "{page}");
        for task in page["tasks"].as_array().expect("tasks") {
            assert!(task["payload"].is_string(), "{task}");
            assert!(
                ids.insert(task["id"].as_str().expect("an id").to_owned()),
                "twice: {task}"
            );
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => return ids,
        }
    }
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let rounds: u32 = std::env::var("WORKQUEUE_CRASHES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(25);
    let mut daemon = Daemon::start(&["--log-level", "warn"]);
    let account = Arc::new(Mutex::new(Account::default()));
    for round in 0..rounds {
        let stop = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let (address, account, stop) = (
                    daemon.address.clone(),
                    Arc::clone(&account),
                    Arc::clone(&stop),
                );
                thread::spawn(move || client(&address, &account, &stop, number))
            })
            .collect();
        // The moment of the crash is an amount of work done, different each round, so that it falls anywhere.
        let goal =
            account.lock().expect("account").submitted.len() + 20 + (round as usize * 37) % 160;
        common::until("enough is submitted", || {
            (account.lock().expect("account").submitted.len() >= goal).then_some(())
        });
        daemon.kill();
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client ends");
        }
        daemon.restart();
        let there = all_ids(&daemon);
        account
            .lock()
            .expect("account")
            .hold(&there, &format!("round {round}"));
    }
    assert!(daemon.stop().success());
}

#[test]
fn a_stop_under_load_loses_nothing_and_ends_with_0() {
    let mut daemon = Daemon::start(&["--log-level", "warn"]);
    let account = Arc::new(Mutex::new(Account::default()));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..16)
        .map(|number| {
            let (address, account, stop) = (
                daemon.address.clone(),
                Arc::clone(&account),
                Arc::clone(&stop),
            );
            thread::spawn(move || client(&address, &account, &stop, number))
        })
        .collect();
    common::until("enough is submitted", || {
        (account.lock().expect("account").submitted.len() >= 500).then_some(())
    });
    let begin = std::time::Instant::now();
    assert!(daemon.stop().success());
    assert!(
        begin.elapsed() < Duration::from_secs(3),
        "{:?}",
        begin.elapsed()
    );
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("a client ends");
    }
    daemon.restart();
    let there = all_ids(&daemon);
    account
        .lock()
        .expect("account")
        .hold(&there, "after the stop");
}
