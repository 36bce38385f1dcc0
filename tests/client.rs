//! The Rust client against a real daemon, over TCP and the admin socket: the example of its documentation, and the rest.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod common;

use common::Daemon;
use workqueue::{
    api,
    client::{Client, ClientError, Content, Endpoint, EventQuery, TaskQuery, Told},
    task::Payload,
};

fn over_tcp(daemon: &Daemon) -> Client {
    let url = format!("http://{}", daemon.address);
    Client::new(Endpoint::parse(&url).unwrap()).unwrap()
}

fn over_socket(daemon: &Daemon) -> Client {
    Client::new(Endpoint::Unix(daemon.socket())).unwrap()
}

fn to_ada() -> api::NewTask {
    api::NewTask {
        queue: Some("emails".to_owned()),
        unique_key: Some("ada".to_owned()),
        ..api::NewTask::of(Payload::from_text("to ada"))
    }
}

#[tokio::test]
async fn a_task_is_submitted_claimed_and_completed() {
    let daemon = Daemon::start(&[]);
    for client in [over_tcp(&daemon), over_socket(&daemon)] {
        let submitted = client.submit(&to_ada()).await.unwrap();
        assert!(submitted.created);
        let again = client.submit(&to_ada()).await.unwrap();
        assert_eq!((again.created, &again.task.id), (false, &submitted.task.id));
        let claim = api::Claim {
            queues: vec!["emails".to_owned()],
            wait: 30.0,
            ..api::Claim::default()
        };
        let claimed = client.claim(&claim).await.unwrap().tasks.remove(0);
        assert_eq!(claimed.task.payload.to_display(), "to ada");
        let id = &claimed.task.id;
        let stale = client.complete(id, "0", None).await.unwrap_err();
        assert!(stale.is_final(), "{stale}");
        client.complete(id, &claimed.token, None).await.unwrap();
        assert_eq!(client.task(id).await.unwrap_err().status(), Some(404));
    }
}

#[tokio::test]
async fn events_tell_what_was_missed_from_their_place_on() {
    let daemon = Daemon::start(&[]);
    let client = over_tcp(&daemon);
    let mut query = EventQuery {
        queues: vec!["emails".to_owned()],
        ..EventQuery::default()
    };
    let mut events = client.events(&query).await.unwrap();
    client.submit(&to_ada()).await.unwrap();
    let Some(Told::Event(first)) = events.next().await.unwrap() else {
        panic!("no event");
    };
    query.after = events.place().map(str::to_owned);
    drop(events);
    client.cancel(first.id.as_deref().unwrap()).await.unwrap();
    let mut events = client.events(&query).await.unwrap();
    let Some(Told::Event(second)) = events.next().await.unwrap() else {
        panic!("no event");
    };
    assert_eq!(
        (first.kind.as_str(), second.kind.as_str()),
        ("submitted", "cancelled")
    );
    query.after = Some("00000000-0".to_owned());
    let mut events = client.events(&query).await.unwrap();
    assert!(matches!(events.next().await.unwrap(), Some(Told::Reset(_))));
}

#[tokio::test]
async fn a_stream_of_lines_is_taken_and_a_wrong_one_is_told_with_its_number() {
    let daemon = Daemon::start(&[]);
    for client in [over_tcp(&daemon), over_socket(&daemon)] {
        let (content, feed) = Content::ndjson_feed();
        let feeding = tokio::task::spawn_blocking(move || {
            (0..1000).all(|_| feed.give(Ok("{\"payload\": 1}\n".into())))
        });
        let accepted = client.submit_ndjson(content).await.unwrap();
        assert_eq!((accepted.accepted, feeding.await.unwrap()), (1000, true));
        let lines = Content::ndjson("{\"payload\": 1}\n{}\n".into());
        match client.submit_ndjson(lines).await {
            Err(ClientError::Problem(problem)) => {
                assert_eq!((problem.line, problem.accepted), (Some(2), Some(1)));
            }
            other => panic!("{other:?}"),
        }
    }
    let query = TaskQuery {
        limit: Some(7),
        ..TaskQuery::default()
    };
    let page = over_tcp(&daemon).tasks(&query).await.unwrap();
    assert_eq!((page.tasks.len(), page.next.is_some()), (7, true));
    assert_eq!(over_socket(&daemon).status().await.unwrap().ready, 2002);
}
